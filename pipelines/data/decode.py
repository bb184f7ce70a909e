"""The text of a file: compression, encoding and their errors."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from pipelines.errors import UserError, as_clause
from pipelines.storage.paths import shown

FOREIGN = {  # first bytes of other kinds of files that are often named like a data file
    b"PK\x03\x04": "a zip archive: unpack it, or save a spreadsheet as CSV",
    b"BZh": "bzip2-compressed: unpack it or use gzip",
    b"\xfd7zXZ": "xz-compressed: unpack it or use gzip",
    b"\x28\xb5\x2f\xfd": "zstd-compressed: unpack it or use gzip",
    b"ARROW1": "an Arrow file: write it as parquet (datasets: Dataset.to_parquet)",
    b"\xff\xff\xff\xff": "an Arrow file, as save_to_disk leaves it: write it as parquet (Dataset.to_parquet)",
    b"version https://git-lfs": "a Git LFS pointer, not the data: run git lfs pull",
}
IN_FOLDERS = "; if it has a folder of images or sounds for each label, "
IN_FOLDERS += "set data.name to it, with the task image_classification or audio_classification"


def read_bytes(file: Path) -> bytes:
    """Return the content of a file.

    Raises:
        UserError: there is no such file, it is empty, or it must be unpacked first.
    """
    where = shown(str(file))
    if file.is_dir():
        fix = f"name a file in it, which has {_some(file)}"
        raise UserError(where, "is a folder", accepted=fix + IN_FOLDERS * _has_folders(file))
    if not file.exists():
        folder = file.parent
        fix = f"its folder has {_some(folder)}" if folder.is_dir() else "its folder does not exist"
        raise UserError(where, "there is no such file", accepted=fix)
    if file.is_char_device() or file.is_block_device():  # it may have no end
        raise UserError(where, "is a device, not a file", accepted="give a file with rows")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(where, f"cannot be read: {error.strerror}") from error
    if not content:
        raise UserError(where, "the file is empty (0 bytes)", accepted="give a file with rows")
    for magic, meaning in FOREIGN.items():
        if content.startswith(magic):
            raise UserError(where, f"is {meaning}")
    return content


def _has_folders(folder: Path) -> bool:
    return any(inner.is_dir() for inner in folder.iterdir())


def _some(folder: Path, most: int = 8) -> str:
    """Return the names of some files of a folder."""
    names = sorted(os.listdir(folder))
    return (", ".join(names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))) or "no files"


def unpack(content: bytes, file: Path, notes: list[str]) -> bytes:
    """Return content, unpacked if it is gzip whatever its name says; a wrong name is added to `notes`."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    where = shown(str(file))
    if file.suffix.lower() != ".gz":
        notes.append(f"{where} is gzip-compressed despite its name and was unpacked")
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"the gzip data is damaged or cut off ({as_clause(error)})"
        raise UserError(where, what, accepted="fetch it again") from error


def decode(content: bytes, encoding: str | None, where: str, first_line: int = 1) -> str:
    """Return the text of a file, or of its lines from `first_line` on.

    Without `encoding` it is that of a byte order mark, else UTF-8. No encoding is guessed.

    Raises:
        UserError: no such encoding, or bytes that are not in it; the message shows them in another encoding.
    """
    if encoding is None and content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    try:
        text = content.decode(encoding or "utf-8").removeprefix("\ufeff")
    except LookupError as error:
        known = "for example utf-8, cp1252, utf-16, shift_jis"
        raise UserError("data.encoding", "there is no such encoding", encoding, known) from error
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = content.count(b"\n", 0, start) + first_line
        other = "cp1252" if encoding in (None, "cp1252") else "utf-8"
        fix = f"set data.encoding; as {other} it would read {_sample(content, start, other)!r}"
        byte = f"byte 0x{content[start]:02x}"
        raise UserError(f"{where}, line {line}", f"is not {encoding or 'UTF-8'}", byte, fix) from error
    if "\x00" in text[:4096]:
        fix = "if it is UTF-16 without a byte order mark, set data.encoding: utf-16-le"
        raise UserError(where, "is not text: it has zero bytes", accepted=fix)
    return text


def _sample(content: bytes, start: int, encoding: str) -> str:
    """Return the text around a byte, on its line."""
    before, after = content[:start].split(b"\n")[-1][-20:], content[start : start + 20].split(b"\n")[0]
    return (before + after).decode(encoding, "replace").strip()
