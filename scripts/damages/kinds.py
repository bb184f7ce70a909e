"""The kinds of damage: each changes one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

Damage = Callable[[Path], object]


def replaced(content: bytes) -> Damage:
    """Return the damage of another content."""
    return lambda path: path.write_bytes(content)


def changed(change: Callable[[bytes], bytes]) -> Damage:
    """Return the damage that makes another content of the one that is there."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def flipped(share: float) -> Callable[[bytes], bytes]:
    """Return the change of one bit at a share of the content."""

    def flip(content: bytes) -> bytes:
        place = int(share * len(content))
        return content[:place] + bytes(byte ^ 1 for byte in content[place : place + 1]) + content[place + 1 :]

    return flip


def folder(path: Path) -> None:
    """Put a folder in the place of a file."""
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    """Put a link to nothing in the place of a file."""
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES: Mapping[str, Damage] = {
    "missing": os.unlink,
    "cut": changed(lambda content: content[: len(content) // 2]),
    "two bytes short": changed(lambda content: content[:-2]),
    "twice": changed(lambda content: 2 * content),
    "emptied": replaced(b""),
    "one bit flipped": changed(flipped(0.5)),
    "a bit of the beginning flipped": changed(flipped(0.01)),
    "null": replaced(b"null\n"),
    "a list": replaced(b"[]\n"),
    "a number": replaced(b"7\n"),
    "an object": replaced(b'{"a": 1}\n'),
    "nested deeply": replaced(b"[" * 100_000),
    "not UTF-8": replaced(b"\xff\xfe{\x00"),
    "a folder": folder,
    "a dangling link": dangling,
}
if os.getuid() != 0:  # everything is readable to root
    DAMAGES = {**DAMAGES, "not readable": lambda path: path.chmod(0)}
