"""`attnlab doctor`: what this machine has, what is missing, and the command that installs it; no network."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from pipelines.config.load import load_user_settings
from pipelines.config.user_settings import settings_file
from pipelines.errors import UserError
from pipelines.registry.source import HOME
from pipelines.shown import printable

LEAST_FREE = 2 * 10**9  # bytes on the disks of the working folder and of the caches
SHOWN = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "evaluate",
    "huggingface_hub",
    "tokenizers",
    "numpy",
)
EXTRAS_OF_TESTS = ("test",)  # for those who change attnlab itself


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do where it is a problem."""

    what: str
    found: str
    fix: str | None = None  # a command; of a problem only
    is_problem: bool = False


def doctor_command() -> int:
    """Print what was found and return the exit status: 1 where something that attnlab needs is missing."""
    findings = [*_packages(), *_extras(), *_devices(), *_hub(), *_disks()]
    width = max(len(one.what) for one in findings)
    for one in findings:
        mark = "x" if one.is_problem else "-" if one.fix else " "
        print(printable(f"{mark} {one.what:<{width}}  {one.found}" + (f"; {one.fix}" if one.fix else "")))
    problems = sum(one.is_problem for one in findings)
    print(printable(f"{problems} missing (x)" if problems else "everything that attnlab needs is here"))
    return 1 if problems else 0


def _packages() -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()}, {sys.executable}")
    yield Finding("attnlab", f"{_version('attnlab') or 'not installed, run from source'}, {HOME}")
    for requirement in _requirements():
        problem = _problem(requirement)
        if problem:
            yield Finding(requirement.name, problem, f"pip install '{_plain(requirement)}'", True)
        elif requirement.name in SHOWN:
            yield Finding(requirement.name, _version(requirement.name) or "")


def _extras() -> Iterator[Finding]:
    by_extra: dict[str, list[Requirement]] = {}
    for requirement in _all_requirements():
        for name in re.findall(r"extra == ['\"]([\w-]+)['\"]", str(requirement.marker or "")):
            by_extra.setdefault(name, []).append(requirement)
    for name in sorted(by_extra.keys() - set(EXTRAS_OF_TESTS)):
        missing = [one for one in by_extra[name] if _problem(one)]
        found = ", ".join(f"{one.name} {_version(one.name)}" for one in by_extra[name] if one not in missing)
        lacks = ", ".join(f"{one.name}: {_problem(one)}" for one in missing)
        fix = " ".join(["pip install", *(f"'{_plain(one)}'" for one in missing)]) if missing else None
        yield Finding(f"extra {name}", ", ".join(part for part in (found, lacks) if part), fix)


def _devices() -> Iterator[Finding]:
    yield Finding("processors", f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}")
    try:
        import torch
    except (ImportError, OSError) as error:
        if _version("torch"):
            yield Finding(
                "torch", f"cannot be imported: {error}", "pip install --force-reinstall torch", True
            )
        return
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    built = torch.version.cuda or "none"
    yield Finding("GPUs", f"{', '.join(names) or 'none'} (torch is built for CUDA {built})")


def _hub() -> Iterator[Finding]:
    try:
        from huggingface_hub import constants, get_token
    except ImportError:
        return
    token = "present (not shown)" if get_token() else "not present, which only a push or private data needs"
    yield Finding("token of the Hub", token, None if get_token() else "hf auth login")
    offline = "on: nothing is fetched" if constants.HF_HUB_OFFLINE else "off"
    yield Finding("HF_HUB_OFFLINE", offline)
    yield _settings()
    yield _mirror()
    cache = Path(constants.HF_HUB_CACHE)
    models = sorted(folder.name[8:].replace("--", "/") for folder in cache.glob("models--*"))
    yield Finding("cache of the Hub", f"{cache}, {len(models)} models")


def _settings() -> Finding:
    file = settings_file()
    try:
        stated = load_user_settings().model_dump(exclude_none=True)
    except UserError as error:
        first = getattr(error, "errors", [error])[0]
        return Finding("your settings", f"{first.where}: {first.what}", first.accepted or "correct it", True)
    if not file.exists():
        return Finding("your settings", f"none; {file} would hold them")
    return Finding("your settings", f"{file}, {', '.join(stated) or 'nothing is set'}")


def _mirror() -> Finding:
    from pipelines.hub import mirror

    try:
        named, root = mirror.named(), mirror.root()
    except UserError as error:
        first = getattr(error, "errors", [error])[0]
        return Finding("mirror of the Hub", f"{first.where}: {first.what}", first.accepted, True)
    if root is None or named is None:
        return Finding("mirror of the Hub", f"none ({mirror.VARIABLE} or mirror in your settings names one)")
    counts = (f"{len(mirror.held(root, kind))} {word}" for kind, word in mirror.KINDS.items())
    return Finding("mirror of the Hub", f"{root} by {named[1]}, {', '.join(counts)}")


def _disks() -> Iterator[Finding]:
    from tempfile import gettempdir

    for what, path in (("working folder", Path.cwd()), ("temporary files", Path(gettempdir()))):
        free = shutil.disk_usage(path).free
        writable = os.access(path, os.W_OK)
        found = f"{path}, {free / 1e9:,.1f} GB free" + ("" if writable else ", may not be written")
        if not writable:
            yield Finding(what, found, "choose another folder", True)
        elif free < LEAST_FREE:
            yield Finding(what, found, "free 2 GB or choose another disk", True)
        else:
            yield Finding(what, found)


# ---- requirements
def _all_requirements() -> list[Requirement]:
    """Return what attnlab requires, from its installed metadata or from pyproject.toml beside its source."""
    file = HOME / "pyproject.toml"
    if file.is_file():
        import tomllib

        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"].items()
        return [
            *map(Requirement, project["dependencies"]),
            *(Requirement(f'{text}; extra == "{name}"') for name, texts in extras for text in texts),
        ]
    try:
        return [Requirement(text) for text in metadata.requires("attnlab") or []]
    except metadata.PackageNotFoundError:
        return []


def _requirements() -> list[Requirement]:
    """Return what is required without any extra."""
    return [one for one in _all_requirements() if one.marker is None or one.marker.evaluate({"extra": ""})]


def _problem(requirement: Requirement) -> str | None:
    """Return why a requirement is not met; None if it is."""
    version = _version(requirement.name)
    if version is None:
        return "not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{version} is installed, {requirement.specifier} is needed"
    return None


def _plain(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
