"""Nothing secret leaves: all that is sent is searched for tokens and for paths of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import UserError, raise_all

# Tokens by the form that their makers gave them, so that a scan finds them.
FORMS = re.compile(
    rb"hf_[A-Za-z0-9]{30,}"  # Hugging Face
    rb"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}"  # GitHub
    rb"|(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    rb"|(?<![A-Za-z0-9])sk-(?:ant-|proj-)?[A-Za-z0-9][A-Za-z0-9_-]{31,}"  # OpenAI, Anthropic
    rb"|xox[abprs]-[A-Za-z0-9-]{20,}"  # Slack
    rb"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
)
NAMED_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
SHORTEST = 8  # characters; a shorter value would be found everywhere
# Weights and vocabularies hold any bytes and any words; no path is written there.
WITHOUT_PATHS = (".safetensors", ".parquet", "tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
BLOCK_BYTES, OVERLAP_BYTES = 1 << 24, 1 << 10


def refuse(folder: Path, own_paths: Iterable[Path] = ()) -> None:
    """Refuse a staged folder in which a name or a content looks like a secret, or names this machine.

    Args:
        own_paths: folders whose paths must not be told, besides the home and the working folder.

    Raises:
        UserError: with every file concerned. What was found is not shown.
    """
    search, errors = Search.of_this_process(own_paths), []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        found = {what for block in _blocks(file, name) for what in search.secrets(block)}
        if not name.endswith(WITHOUT_PATHS):
            found |= {what for block in _blocks(file, name) for what in search.paths(block)}
        shown = "a file whose name is secret" if any(search.secrets(name.encode())) else name
        errors += [_error(shown, what) for what in sorted(found)]
    raise_all(errors)


def refuse_request(request: Any) -> None:
    """The same for what is about to be said to the Hub, a JSON value. A `Path` in it stays here.

    Raises:
        UserError: with every entry concerned.
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
    """What to look for: forms of tokens, secrets that this process knows, paths of this machine."""

    values: dict[str, bytes]  # what the secret is called -> itself
    local: re.Pattern[bytes]

    @classmethod
    def of_this_process(cls, own_paths: Iterable[Path] = ()) -> Search:
        paths = {str(path.resolve()) for path in (Path.home(), Path.cwd(), *own_paths)} - {"/"}
        either = "|".join(re.escape(path) for path in sorted(paths)) or "(?!)"  # nothing matches that
        return cls(dict(_secret_values()), re.compile(rf"(?<![\w.-])(?:{either})(?![\w.-])".encode()))

    def secrets(self, content: bytes) -> Iterator[str]:
        if FORMS.search(content):
            yield "what looks like a token or a key"
        yield from (f"the value of {name}" for name, value in self.values.items() if value in content)

    def paths(self, content: bytes) -> Iterator[str]:
        if self.local.search(content):
            yield "a path of this machine"


def _error(where: str, what: str) -> UserError:
    return UserError(where, f"holds {what}, so nothing was sent")


def _texts(value: Any, name: str = "request") -> Iterator[tuple[str, str]]:
    """Every text of a JSON value, by the key that it stands under."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield name, key
            yield from _texts(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, str):
        yield name, value


def _secret_values() -> Iterator[tuple[str, bytes]]:
    """Secrets that this process knows: of the environment, and the token of the Hub's login."""
    for name, value in os.environ.items():
        if NAMED_SECRET.search(name) and len(value) >= SHORTEST:
            yield name, value.encode(errors="surrogateescape")
    from huggingface_hub import get_token

    token = get_token()
    if token:
        yield "the token of the Hub", token.encode()


def _blocks(file: Path, name: str) -> Iterator[bytes]:
    """The name, then the content in overlapping blocks, so that nothing hides at a border."""
    yield name.encode()
    with open(file, "rb") as content:
        kept = b""
        while block := content.read(BLOCK_BYTES):
            yield kept + block
            kept = block[-OVERLAP_BYTES:]
