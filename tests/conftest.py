"""Settings of all tests: one thread, no network but loopback, and the folder of real data and models."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import HealthCheck, settings

from tests import mirror

# No time limit for an example of hypothesis: the machine may be busy with other work.
settings.register_profile("attnlab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("attnlab")

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the settings of whoever runs the tests out of them, and out of the processes that they start."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("configuration"))


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Fail a test that connects to anything but loopback."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    socket.socket.connect = guarded
    yield
    socket.socket.connect = connect


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


@pytest.fixture(scope="session")
def real_mirror(shared: Path) -> Path:
    """Return a mirror of the Hub with real data and a real model, or skip the test where there is none."""
    return mirror.mirror()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data and models, or skip the test where it is missing."""
    if not SHARED.exists():
        pytest.skip("real data and models are not beside this checkout (../shared)")
    return SHARED
