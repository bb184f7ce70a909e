"""Objects at a storage URL, through fsspec: read and written whole, tried again when the store fails.

Nothing here relies on lists that are complete, on renaming, or on a write that is all or nothing: object
stores and folders that many machines mount differ in these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.core import url_to_fs

from pipelines.errors import RunFailed, UserError, as_clause
from pipelines.storage.names import CELLS

WAITS = (0.5, 2.0, 8.0)  # seconds before another try
REFUSED = (PermissionError, NotImplementedError)  # another try would not help
MOST_CHARACTERS = 200  # of what the store says
T = TypeVar("T")


class StoreFailed(RunFailed):
    """The store did not do what it was asked for, after several tries."""


class ObjectStore:
    """The objects below a storage URL, by their names, which have slashes.

    Who may read and write is the business of fsspec's own settings (environment, files of the cloud's
    clients); no key or token passes through here.

    Raises:
        UserError: fsspec does not know the URL's protocol, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol = url.partition("://")[0]
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            missing = getattr(error.__cause__, "name", None) or protocol
            what = f"{protocol}:// needs the package {missing}, which is not installed"
            raise UserError("store", what, url, f"pip install {missing}") from error
        except ValueError as error:
            accepted = (
                "one of s3://, gs://, az://, hf://buckets/, sftp://, file:/// and others that fsspec knows"
            )
            raise UserError("store", f"fsspec knows no {protocol}://", url, accepted) from error

    def read(self, name: str) -> bytes | None:
        """Return the content of an object; None where there is none.

        Raises:
            StoreFailed: the store does not answer, or refuses.
        """
        return self._tried("read", name, lambda files, path: bytes(files.cat_file(path)))

    def write(self, name: str, content: bytes) -> None:
        """Write an object; a failure may leave a part of it.

        Raises:
            StoreFailed: as `read`.
            UserError: there is no such bucket.
        """
        self._write(name, lambda files, path: files.pipe_file(path, content), len(content))

    def upload(self, name: str, file: Path) -> None:
        """Write an object from a file, and see that it has the size of the file.

        Raises:
            StoreFailed, UserError: as `write`.
        """
        self._write(name, lambda files, path: files.put_file(str(file), path), file.stat().st_size)

    def size(self, name: str) -> int | None:
        """Return the bytes of an object; None where there is none.

        Raises:
            StoreFailed: as `read`.
        """

        def size(files: Any, path: str) -> int:
            files.invalidate_cache()
            return int(files.info(path)["size"])

        return self._tried("read", name, size)

    def download(self, name: str, file: Path) -> bool:
        """Write the content of an object to a file; return whether there is one.

        Raises:
            StoreFailed: as `read`.
        """
        done = self._tried("read", name, lambda files, path: [files.get_file(path, str(file))])
        return done is not None

    def names(self, folder: str) -> list[str]:
        """Return the names of the objects below a name, without it; a store may list new ones late.

        Raises:
            StoreFailed: as `read`.
        """

        def find(files: Any, path: str) -> list[str]:
            files.invalidate_cache()
            return [found.partition(f"{path}/")[2] for found in files.find(path)]

        return self._tried("list", folder, find) or []

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are gone are fine.

        Raises:
            StoreFailed: as `read`.
        """
        for name in names:
            self._tried("delete", name, lambda files, path: files.rm_file(path))

    def _write(self, name: str, work: Callable[[Any, str], None], size: int) -> None:
        def write(files: Any, path: str) -> bool:
            try:
                work(files, path)
            except FileNotFoundError:
                if not path.startswith(
                    "/"
                ):  # no folders there: the bucket is missing, which nobody asked to make
                    raise
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
                work(files, path)
            files.invalidate_cache()
            try:
                came = files.info(path)["size"]
            except FileNotFoundError:
                came = 0
            if came != size:
                raise OSError(f"{came} of {size} bytes arrived")
            return True

        if self._tried("write", name, write) is None:
            what = f"there is no such bucket or folder for {name}"
            raise UserError("store", what, self.url, "make it, or correct the URL")

    def _tried(self, what: str, name: str, work: Callable[[Any, str], T]) -> T | None:
        """Return what `work` gives, None where the object is missing; try again when the store fails."""
        for wait in (*WAITS, None):
            try:
                files, root = url_to_fs(self.url)
                return work(files, f"{root.rstrip('/')}/{name}")
            except FileNotFoundError:
                return None
            except Exception as error:  # each driver has errors of its own
                if wait is None or isinstance(error, REFUSED):
                    raise StoreFailed(self._sentence(what, name, error)) from error
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _sentence(self, what: str, name: str, error: Exception) -> str:
        word = {"read": "read", "write": "written", "list": "listed", "delete": "deleted"}[what]
        said = as_clause(error)[:MOST_CHARACTERS]
        reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
        fix = "correct that, then" if isinstance(error, REFUSED) else "when the store answers again,"
        return f"{self.url}/{name}: could not be {word} ({reason}); {fix} the same command goes on."


def place_of(run: str) -> str:
    """Return the name below which the objects of a run are, from that of its folder."""
    return f"{CELLS}/{run}"
