"""Hold a run that has ended against its own record: files, identity, settings.

`predict`, `evaluate`, `push`, `reproduce` and `verify` trust a run only after this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from typing import Any

from pipelines.errors import UserError, raise_all
from pipelines.runs import identity
from pipelines.storage import reading, run_files
from pipelines.storage.names import CELLS, IDENTITY, MANIFEST, MODEL, RUN
from pipelines.storage.run_folder import WRITTEN_AGAIN, RunFolder

Manifest = Mapping[str, Any]
# The files of a model's folder that a library may load.
LOADED = (
    *("*.py", "*.safetensors", "*.index.json", "*.model", "*config.json", "tokenizer.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template.*"),
)


def require(run: RunFolder, manifest: Manifest) -> None:
    """Refuse a run that is not as it was written: nothing of it is loaded or copied then.

    A model that was not kept is no damage.

    Raises:
        UserError: it names everything that is a link, is missing, or has changed.
    """
    run_files.refuse_links(run.path, manifest, (MANIFEST, IDENTITY))
    require_as_written(run, manifest)


def require_as_written(run: RunFolder, manifest: Manifest) -> None:
    """Refuse as `require`, but allow links: in the cache of the Hub's client every file is one.

    Raises:
        UserError: it names everything that is missing or has changed.
    """
    found = differences(run, manifest)
    fix = run_files.train_again(run.path)
    raise_all([UserError(str(run.path / name), what, accepted=fix) for name, what in found])


def differences(run: RunFolder, manifest: Manifest) -> list[tuple[str, str]]:
    """Return (name, what is wrong) for everything in a run that is not as it was written."""
    changed = list(file_differences(run, manifest))
    reads_settings = not any(name == RUN for name, _ in changed)
    return [*changed, *contradictions(run, manifest, reads_settings=reads_settings)]


def file_differences(run: RunFolder, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield (name, what is wrong) of every file that is not as the run wrote it, or that it did not write."""
    dropped = not reading.is_there(run.path / MODEL)  # `keep` decides whose weights stay
    yield from run_files.differences(
        run.path, manifest, lambda name: not (dropped and run_files.is_of_model(name))
    )
    if not dropped:
        yield from unlisted(run, manifest)


def unlisted(run: RunFolder, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield (name, what is wrong) of every file that would be loaded and that the run did not write."""
    for path in sorted((run.path / MODEL).glob("*")):
        name = f"{MODEL}/{path.name}"
        if name not in manifest["files"] and any(fnmatch(path.name, pattern) for pattern in LOADED):
            yield name, "was not written by the run"


def contradictions(
    run: RunFolder, manifest: Manifest, *, reads_settings: bool = True
) -> Iterator[tuple[str, str]]:
    """Yield (name, what is wrong) where identity, settings and the folder's name contradict each other.

    Args:
        reads_settings: whether run.yaml is intact and can be compared.
    """
    described, digest = run.identity(), manifest["run_hash"]
    if described is None or identity.run_hash(described) != digest:
        yield IDENTITY, f"does not match the run hash in {MANIFEST}"
        return
    stem = run.path.name.partition("-")[0]
    if run.path.resolve().parent.name == CELLS and not (stem and digest.startswith(stem)):
        yield MANIFEST, f"is that of run {digest[:16]}, in the folder of another"
    changed = identity.other_settings(described, manifest["config"])
    if changed:
        yield MANIFEST, f"has settings that are not those of {IDENTITY}: {'; '.join(changed[:5])}"
    if reads_settings and reading.is_there(run.path / RUN):
        stated = reading.yaml_mapping(run.path / RUN, WRITTEN_AGAIN)
        for line in identity.differences(stated, manifest["config"])[:5]:
            yield MANIFEST, f"has settings that are not those of {RUN}: {line}"
