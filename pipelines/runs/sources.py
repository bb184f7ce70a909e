"""What a run reads from the Hub or from the mirror, and the commit or content that names it."""

from __future__ import annotations

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.config.load import RunConfig
from pipelines.hub import address, mirror
from pipelines.hub.mirror import COMMIT, Kind


class SourceRecord(TypedDict):
    """A repository of the Hub that a run reads."""

    repository: str
    commit: str | None
    content: str | None  # hash of what the mirror holds; None where a commit names it
    from_mirror: bool


def sources_of(config: RunConfig) -> dict[str, SourceRecord]:
    """Return the repositories that a run reads by name, by the setting that names each.

    Raises:
        UserError: the mirror holds one of them and it cannot be used.
    """
    model, data = config.model, config.data
    tokenizer, of_tokenizer = address.split_revision(model.tokenizer or "")
    named: dict[str, tuple[Kind, str | None, str | None]] = {
        "data.name": ("datasets", data.name, data.revision),
        "model.name": ("models", model.name, model.revision),
        "model.tokenizer": ("models", tokenizer or None, of_tokenizer),
    }
    found: dict[str, SourceRecord] = {}
    for place, (kind, name, revision) in named.items():
        if name is None or not mirror.is_repository(name):
            continue
        mirrored = mirror.find_at(kind, name, revision)
        commit = revision if revision and COMMIT.fullmatch(revision) else None
        content = mirrored.content if mirrored and not mirrored.commit else None
        found[place] = {
            "repository": name,
            "commit": mirrored.commit if mirrored else commit,
            "content": content,
            "from_mirror": mirrored is not None,
        }
    return found
