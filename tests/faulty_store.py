"""A storage that fails as a test wants, registered with fsspec as faulty://; what it holds is in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Killed(BaseException):
    """The process is gone in the middle of a request."""


class Faulty(MemoryFileSystem):
    """`fault(operation, path)` gives what goes wrong with a request: an exception, a word, or None.

    The words: "cut" writes half and says nothing, "other" reads other bytes, "lag" lists nothing. The
    exception of a write comes with "before", "half" or "after": what of it has happened then.
    """

    protocol = "faulty"
    store: dict = {}  # noqa: RUF012 - of this class, not that of memory://
    pseudo_dirs = [""]  # noqa: RUF012
    fault: Callable = staticmethod(lambda operation, path: None)
    requests: list = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("faulty://"))

    def _happens(self, operation: str, path: str):
        Faulty.requests.append((operation, path))
        found = Faulty.fault(operation, path)
        if isinstance(found, BaseException):
            raise found
        return found

    def pipe_file(self, path, value, mode="overwrite", **options):
        found = self._happens("write", path)
        half = value[: len(value) // 2]
        if found is None or found == "cut":
            return super().pipe_file(path, half if found else value)
        error, when = found
        if when != "before":
            super().pipe_file(path, half if when == "half" else value)
        raise error

    def put_file(self, lpath, rpath, **options):
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def cat_file(self, path, start=None, end=None, **options):
        found = self._happens("read", path)
        content = super().cat_file(path)
        return bytes([content[0] ^ 1]) + content[1:] if found == "other" and content else content

    def get_file(self, rpath, lpath, **options):
        Path(lpath).write_bytes(self.cat_file(rpath))

    def rm_file(self, path):
        self._happens("delete", path)
        self._rm(path)

    def find(self, path, **options):
        return [] if self._happens("list", path) == "lag" else super().find(path, **options)


def start_anew() -> None:
    """Register it, empty and without a fault."""
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    Faulty.store.clear()
    Faulty.pseudo_dirs[:] = [""]
    Faulty.requests.clear()
    Faulty.fault = staticmethod(lambda operation, path: None)
