"""Anchor a registration outside of its author's folder, before the first run, and hold it against its anchor.

`anchor: git` makes a commit that changes no file and names the digest of the registration; `anchor:
hub:ORG/NAME` commits the registration to an empty repository of the Hub; `anchor: https://...` has an
authority sign the digest with the time. Runs are chained to the same digest.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.ablation import git, timestamp
from pipelines.ablation.preregistration import (
    Registered,
    manifests,
    read_registration,
    seal,
    seals,
    short,
)
from pipelines.config.load import AblationConfig
from pipelines.errors import RunFailed, UserError
from pipelines.hub.address import parse
from pipelines.hub.worker import ask
from pipelines.storage import atomic, reading
from pipelines.storage.names import ANCHOR, CELLS, REGISTRATION, STAMP

GIT, HUB = "git", "hub:"
TRAILER = "attnlab-registration: "
COMMIT = re.compile(r"[0-9a-f]{40,64}")
FIX = "put it back from a copy: the anchor itself is where it was put"
OTHER_OUT = "choose another --out, whose registration is anchored before its first run"


class Anchored(TypedDict):
    """The content of anchor.json: where the digest of a registration was put."""

    kind: str  # "git", "hub:ORG/NAME", or the URL of an authority
    commit: str  # of a time stamp: the SHA-256 of its file
    time: str  # as the commit or the time stamp states it; "" where only the place knows


@dataclass
class Checked:
    """What came of a look at an anchor: findings, and what could not be checked or should be known."""

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def refuse_late(config: AblationConfig, folder: Path) -> None:
    """Refuse an anchor that could not be dated before the first run; called before anything is written.

    Raises:
        UserError: the ablation is registered without it, the record of its anchor was taken away, or the
            working tree has changes.
    """
    if config.anchor is None or read_anchor(folder) is not None:
        return
    if reading.is_there(folder / REGISTRATION):
        registered = read_registration(folder)
        stated, own = registered.get("anchor"), seals(registered)
        if stated != config.anchor:
            what = f"the registration was made with {f'anchor {stated}' if stated else 'no anchor'}"
            raise UserError(f"{folder}, anchor", what, config.anchor, OTHER_OUT)
        if any(one.get("registration") in own for one in manifests(folder.parent / CELLS)):
            what = "is missing, and runs have finished: a new one would come after their results"
            raise UserError(str(folder / ANCHOR), what, accepted=FIX)
    if config.anchor == GIT:
        git.refuse_dirty(folder.resolve().parent)
    elif not config.anchor.startswith(HUB):
        timestamp.require_installed(config.anchor)


def anchor(config: AblationConfig, folder: Path) -> Anchored | None:
    """Put the digest of a registration where its file says, once; return the record, None without an anchor.

    Raises:
        UserError: there is no git repository, or the one of the Hub is not empty.
        RunFailed: the Hub or the authority cannot be reached; nothing was trained.
    """
    if config.anchor is None:
        return None
    known = read_anchor(folder)
    if known is not None:
        return known
    registered = read_registration(folder)
    title = f"Register {registered.get('name', folder.name)} with attnlab"
    if config.anchor == GIT:
        commit, time = git.empty_commit(f"{title}\n\n{TRAILER}{seal(registered)}\n")
    elif not config.anchor.startswith(HUB):
        answer, time = timestamp.request(config.anchor, seal(registered))
        atomic.write_bytes(folder / STAMP, answer)
        commit = hashlib.sha256(answer).hexdigest()
    else:
        text = (folder / REGISTRATION).read_text(encoding="utf-8")
        repo = parse(config.anchor).repo
        commit, time = ask("anchor", {"repo": repo, "title": title, "text": text})["commit"], ""
    found: Anchored = {"kind": config.anchor, "commit": commit, "time": time}
    atomic.write_json(folder / ANCHOR, found)
    return found


def described(anchored: Anchored) -> str:
    """Return where a registration was anchored, and as what."""
    is_commit = anchored["kind"].startswith((GIT, HUB))
    return f"{anchored['kind']}, {'commit' if is_commit else 'time stamp'} {anchored['commit']}"


def read_anchor(folder: Path) -> Anchored | None:
    """Return the record of an ablation's anchor; None where there is none.

    Raises:
        UserError: the file is damaged, or names anything but a commit.
    """
    found: Anchored | None = reading.json_object_if_there(folder / ANCHOR, FIX, Anchored)
    # It may come from the Hub, and goes to git.
    if found is not None and not COMMIT.fullmatch(found["commit"]):
        raise UserError(str(folder / ANCHOR), "names no commit", found["commit"], FIX)
    return found


def check(folder: Path, registered: Registered) -> Checked:
    """Hold a registration against its anchor, as far as that can be reached from here."""
    stated, known, found = registered.get("anchor"), read_anchor(folder), Checked()
    if stated is None and known is None:
        return found
    if known is None or stated != known["kind"]:
        there = f"names {known['kind']}" if known else "is missing"
        found.findings.append(
            f"states {f'the anchor {stated}' if stated else 'no anchor'}, but {ANCHOR} {there}"
        )
    elif stated == GIT:
        _check_git(known, seal(registered), found)
    elif not stated.startswith(HUB):
        _check_stamp(folder, known, seal(registered), found)
    else:
        _check_hub(known, seal(registered), found)
    return found


def _check_git(known: Anchored, digest: str, found: Checked) -> None:
    commit = known["commit"]
    message, time = git.message_of(commit), git.time_of(commit)
    if message is None:
        found.notes.append(f"not checked: the repository of the working folder has no commit {short(commit)}")
        return
    stated = [line.removeprefix(TRAILER) for line in message.splitlines() if line.startswith(TRAILER)]
    if stated != [digest]:
        found.findings.append(_other(f"the git commit {short(commit)}", stated, digest))
    elif time != known["time"]:
        found.findings.append(f"was committed at {time}, but {ANCHOR} says {known['time']}")
    elif not git.is_on_a_branch(commit):
        what = "is on no branch: its history was rewritten, and nothing but this repository dates it"
        found.findings.append(f"the git commit {short(commit)} {what}")
    elif not git.remotes_with(commit):
        found.notes.append(
            f"the git commit {short(commit)} is on no remote branch: only this machine dates it"
        )


def _check_stamp(folder: Path, known: Anchored, digest: str, found: Checked) -> None:
    if not reading.is_there(folder / STAMP):
        found.findings.append(f"was stamped by {known['kind']}, but {STAMP} is missing")
        return
    answer = reading.content(folder / STAMP, FIX)
    if hashlib.sha256(answer).hexdigest() != known["commit"]:
        found.findings.append(f"has another {STAMP} than {ANCHOR} names")
        return
    if not timestamp.is_installed():
        found.notes.append(f"{STAMP} is not checked: rfc3161-client is not installed; {timestamp.INSTALL}")
        return
    try:
        stamp = timestamp.read(answer)
    except ValueError as error:
        found.findings.append(f"{STAMP}: {error}")
        return
    checked, time = timestamp.checked(stamp, digest), timestamp.time_of(stamp)
    if checked.wrong:
        found.findings.append(f"is not the one that was anchored: the time stamp of {time} {checked.wrong}")
    elif time != known["time"]:
        found.findings.append(f"was stamped at {time}, but {ANCHOR} says {known['time']}")
    elif checked.unvouched:
        found.notes.append(checked.unvouched)


def _check_hub(known: Anchored, digest: str, found: Checked) -> None:
    where = f"{known['kind']}@{short(known['commit'])}"
    try:
        answer = ask("anchored", {"repo": parse(known["kind"]).repo, "revision": known["commit"]})
        stored = cast(Registered, reading.json_line(answer["text"], where, "", Registered))
    except (UserError, RunFailed) as error:
        found.notes.append(f"not checked at {where}: {error}")
        return
    if answer["unread"]:
        found.notes.append(f"the history of {where} is not checked: {answer['unread']}")
    if answer["problem"]:
        found.findings.append(f"{where} {answer['problem']}")
    elif seal(stored) != digest:
        found.findings.append(_other(where, [seal(stored)], digest))


def _other(where: str, stated: list[str], digest: str) -> str:
    there = ", ".join(map(short, stated)) or "none"
    return f"is not the one that was anchored: its digest is {short(digest)}, that of {where} is {there}"
