"""Search everything that is sent to the Hub for tokens and for paths of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError, raise_all
from pipelines.shown import TOKENS

FORMS = re.compile(
    rb"hf_[A-Za-z0-9]{30,}"  # Hugging Face
    rb"|" + TOKENS.encode() + rb"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
)
NAMED_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
SHORTEST = 8  # characters; a shorter value would be found everywhere
# Weights and vocabularies hold any bytes and any words; no path is written there.
WITHOUT_PATHS = (".safetensors", ".parquet", "tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
BLOCK_BYTES, OVERLAP_BYTES = 1 << 24, 1 << 10


def refuse(folder: Path, own_paths: Iterable[Path] = ()) -> None:
    """Refuse a staged folder if a file name or a content holds a secret or a path of this machine.

    Args:
        own_paths: folders whose paths must stay private, besides the home and the working folder.

    Raises:
        UserError: it names every such file, but never shows the secret.
    """
    search = Search.of_this_process(own_paths)
    errors: list[UserError] = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        found = {what for block in _blocks(file, name) for what in search.secrets(block)}
        if not name.endswith(WITHOUT_PATHS):
            found |= {what for block in _blocks(file, name) for what in search.paths(block)}
        shown = "a file whose name is secret" if any(search.secrets(name.encode())) else name
        errors += [_error(shown, what) for what in sorted(found)]
    raise_all(errors)


def refuse_request(request: Mapping[str, object]) -> None:
    """Refuse a request to the Hub if a text in it holds a secret or a path of this machine.

    A `Path` in it is not searched: it is never sent, or is a place in a job that the user states as such.

    Raises:
        UserError: it names every such entry.
    """
    search = Search.of_this_process()
    raise_all(
        [
            _error(f"the {name} for the Hub", what)
            for name, text in _texts(request)
            for what in sorted({*search.secrets(text.encode()), *search.paths(text.encode())})
        ]
    )


@dataclass(frozen=True)
class Search:
    """What to search for: forms of tokens, the secrets of this process, paths of this machine."""

    values: dict[str, bytes]  # name of a secret -> its value
    local: re.Pattern[bytes]

    @classmethod
    def of_this_process(cls, own_paths: Iterable[Path] = ()) -> Search:
        """Return the search for what this process knows; `own_paths` as `refuse` takes them."""
        paths = {str(path.resolve()) for path in (Path.home(), Path.cwd(), *own_paths)} - {"/"}
        either = "|".join(re.escape(path) for path in sorted(paths)) or "(?!)"  # matches nothing
        return cls(dict(_secret_values()), re.compile(rf"(?<![\w.-])(?:{either})(?![\w.-])".encode()))

    def secrets(self, content: bytes) -> Iterator[str]:
        """Yield a description of each kind of secret in `content`."""
        if FORMS.search(content):
            yield "what looks like a token or a key"
        yield from (f"the value of {name}" for name, value in self.values.items() if value in content)

    def paths(self, content: bytes) -> Iterator[str]:
        """Yield a description if `content` holds a path of this machine."""
        if self.local.search(content):
            yield "a path of this machine"


def _error(where: str, what: str) -> UserError:
    return UserError(where, f"holds {what}, so nothing was sent")


def _texts(value: object, name: str = "request") -> Iterator[tuple[str, str]]:
    """Yield (key, text) for every text of a JSON value; `name` is the key of `value` itself."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield name, key
            yield from _texts(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, str):
        yield name, value


def _secret_values() -> Iterator[tuple[str, bytes]]:
    """Yield (name, value) of the secrets of the environment and of the Hub's login."""
    for name, value in os.environ.items():
        if NAMED_SECRET.search(name) and len(value) >= SHORTEST:
            yield name, value.encode(errors="surrogateescape")
    from huggingface_hub import get_token

    token = get_token()
    if token:
        yield "the token of the Hub", token.encode()


def _blocks(file: Path, name: str) -> Iterator[bytes]:
    """Yield the name and the content of a file in blocks, which overlap so that no secret is cut in two."""
    yield name.encode()
    with open(file, "rb") as content:
        overlap = b""
        while block := content.read(BLOCK_BYTES):
            yield overlap + block
            overlap = block[-OVERLAP_BYTES:]
