"""A double of the Hub on loopback for tests: real HTTP, repositories in memory, faults on demand.

It answers the requests of `huggingface_hub` for creating, uploading (LFS, plain and in parts, or by Xet into
a folder), listing and downloading. Its answers follow from the source of the client, not of the real server.
It keeps every byte that it receives. This file has the state and the endpoints; `connection.py` reads a
request, makes a fault and sends the answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.pipelines.hub.connection import UNKNOWN, Answer, Fault, Request

LFS_SUFFIXES = (".safetensors", ".parquet", ".bin")
WRITER, READER = "hf_" + "W" * 34, "hf_" + "R" * 34  # tokens it knows
USERS = {WRITER: ("ada", "write"), READER: ("ada", "read")}
ORGANIZATIONS = ("lab",)  # ada may write there; nobody may write to "other"


class Elsewhere(bytes):
    """Content in Xet storage: zeros of the same length, and the sha256 that the client gave."""

    sha256: str


@dataclass(frozen=True)
class Commit:
    """One commit: the whole content of the repository after it."""

    oid: str
    title: str
    files: dict[str, bytes]


@dataclass
class Repo:
    """A repository: its commits in order, its branches and tags."""

    private: bool
    commits: list[Commit] = field(default_factory=list)
    refs: dict[str, Commit] = field(default_factory=dict)
    tags: dict[str, Commit] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        by_oid = {commit.oid: commit for commit in self.commits}
        return self.refs.get(revision) or self.tags.get(revision) or by_oid.get(revision)

    def commit(self, branch: str, title: str, files: dict[str, bytes]) -> Commit:
        oid = hashlib.sha1(f"{branch} {len(self.commits)} {title} {sorted(files)}".encode()).hexdigest()
        self.commits.append(Commit(oid, title, files))
        self.refs[branch] = self.commits[-1]
        return self.commits[-1]


class Hub:
    """The server and its state. Use it in a `with` block; `url` is what `HF_ENDPOINT` becomes."""

    def __init__(self, chunk_bytes: int | None = None) -> None:
        self.chunk_bytes = chunk_bytes  # files above it are uploaded in parts
        self.repos: dict[str, Repo] = {}  # "models/lab/name"
        self.xet: Path | None = None  # the folder that is Xet storage
        self.blobs: dict[str, bytes] = {}  # LFS content by the sha256 that the client gave it
        self.parts: dict[str, dict[int, bytes]] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, int | None]] = []  # (endpoint, status; None: no answer)
        self.received = bytearray()  # everything clients sent, base64 contents decoded beside it
        self.lock = threading.RLock()
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Request,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def count(self, endpoint: str) -> int:
        """Return how often an endpoint was requested."""
        return sum(name == endpoint for name, _ in self.requests)

    def route(self, method: str, path: str) -> tuple[str, tuple[str | None, ...]]:
        """Return the endpoint of a path and the parts of the path that it takes."""
        path = path if path.startswith("/storage/") else path.partition("?")[0]
        for name, expected, pattern in ROUTES:
            if method == expected and (found := pattern.fullmatch(path)):
                return name, found.groups()
        return UNKNOWN, ()

    def fault_at(self, endpoint: str) -> Fault | None:
        for fault in self.faults:
            if fault.endpoint == endpoint and fault.times > 0:
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    # ---- accounts and repositories
    def who(self, request: Request) -> tuple[str, str]:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in USERS:
            raise Answer(401, {"error": "Invalid username or password."})
        return USERS[token]

    def require_writer(self, request: Request, namespace: str) -> None:
        user, role = self.who(request)
        if role != "write" or namespace not in (user, *ORGANIZATIONS):
            raise Answer(403, {"error": f"You don't have the rights to write to {namespace}"})

    def whoami(self, request: Request) -> None:
        user, role = self.who(request)
        organizations = [{"name": name, "type": "org"} for name in ORGANIZATIONS]
        token = {"accessToken": {"displayName": "test", "role": role}}
        raise Answer(200, {"type": "user", "name": user, "orgs": organizations, "auth": token})

    def create(self, request: Request) -> None:
        asked = request.json()
        namespace = asked.get("organization") or self.who(request)[0]
        self.require_writer(request, namespace)
        identity, kind = f"{namespace}/{asked['name']}", f"{asked.get('type', 'model')}s"
        url = f"{self.url}/{'datasets/' if kind == 'datasets' else ''}{identity}"
        if f"{kind}/{identity}" in self.repos:
            raise Answer(409, {"error": "You already created this repo", "url": url})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        repo = self.repos[f"{kind}/{identity}"] = Repo(private)
        repo.commit("main", "initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
        raise Answer(200, {"url": url, "name": identity})

    def repo(self, request: Request, kind: str | None, identity: str, *, write: bool = False) -> Repo:
        repo = self.repos.get(f"{kind or 'models/'}{identity}")
        if repo is None or (repo.private and "Authorization" not in request.headers):
            missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            raise Answer(404, {"error": "Repository not found"}, missing)
        if write:
            self.require_writer(request, identity.split("/")[0])
        return repo

    def commit_at(self, repo: Repo, revision: str) -> Commit:
        commit = repo.at(urllib.parse.unquote(revision))
        if commit is None:
            raise Answer(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def auth_check(self, request: Request, kind: str, identity: str, write: str | None) -> None:
        self.repo(request, kind, identity, write=bool(write))
        raise Answer(200, {})

    def info(self, request: Request, kind: str, identity: str, revision: str | None) -> None:
        repo = self.repo(request, kind, identity)
        commit = self.commit_at(repo, revision or "main")
        siblings = [{"rfilename": name} for name in commit.files]
        known = {"id": identity, "sha": commit.oid, "private": repo.private, "siblings": siblings, "tags": []}
        raise Answer(200, known)

    def refs(self, request: Request, kind: str, identity: str) -> None:
        repo = self.repo(request, kind, identity)
        shown = {
            name: [
                {"name": ref, "ref": f"refs/{prefix}/{ref}", "targetCommit": c.oid} for ref, c in refs.items()
            ]
            for name, prefix, refs in (("branches", "heads", repo.refs), ("tags", "tags", repo.tags))
        }
        raise Answer(200, {**shown, "converts": []})

    def history(self, request: Request, kind: str, identity: str, revision: str) -> None:
        """The commits up to a revision, the newest first."""
        repo = self.repo(request, kind, identity)
        last = repo.commits.index(self.commit_at(repo, revision))
        day = "2026-01-01T00:00:00.000Z"
        shown = [
            {"id": c.oid, "title": c.title, "message": "", "date": day, "authors": []} for c in repo.commits
        ]
        raise Answer(200, shown[last::-1])

    def tree(self, request: Request, kind: str, identity: str, revision: str, below: str | None) -> None:
        commit = self.commit_at(self.repo(request, kind, identity), revision)
        home = f"{urllib.parse.unquote(below)}/" if below else ""
        files = {path: content for path, content in commit.files.items() if path.startswith(home)}
        if home and not files:
            raise Answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        entries: list[dict[str, Any]] = []
        if "recursive=true" not in request.path.lower():
            inside = {path.removeprefix(home).partition("/") for path in files}
            folders = sorted({head for head, slash, _ in inside if slash})
            files = {path: files[path] for path in files if "/" not in path.removeprefix(home)}
            entries += [
                {"type": "directory", "path": home + name, "size": 0, "oid": "0" * 40} for name in folders
            ]
        for path, content in sorted(files.items()):
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
            if path.endswith(LFS_SUFFIXES):
                entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        raise Answer(200, entries)

    def branch(self, request: Request, kind: str, identity: str, name: str) -> None:
        repo = self.repo(request, kind, identity, write=True)
        self._refer(repo.refs, name, self.commit_at(repo, request.json().get("startingPoint") or "main"))

    def tag(self, request: Request, kind: str, identity: str, revision: str) -> None:
        repo = self.repo(request, kind, identity, write=True)
        self._refer(repo.tags, request.json()["tag"], self.commit_at(repo, revision))

    def _refer(self, refs: dict[str, Commit], name: str, commit: Commit) -> None:
        name = urllib.parse.unquote(name)
        if name in refs:
            raise Answer(409, {"error": "Reference already exists"})
        refs[name] = commit
        raise Answer(200, {})

    # ---- upload
    def validate(self, request: Request) -> None:
        found = re.match(r"---\n(.*?)\n---", request.json()["content"], re.DOTALL)
        errors = metadata_errors(yaml.safe_load(found[1]) if found else {})
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        raise Answer(400 if errors else 200, answer)

    def preupload(self, request: Request, kind: str, identity: str, revision: str) -> None:
        there = self.commit_at(self.repo(request, kind, identity, write=True), revision).files
        files = []
        for asked in request.json()["files"]:
            path, mode = asked["path"], "lfs" if asked["path"].endswith(LFS_SUFFIXES) else "regular"
            oid = None
            if path in there:
                oid = sha256(there[path]) if mode == "lfs" else git_oid(there[path])
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        raise Answer(200, {"files": files})

    def batch(self, request: Request, kind: str | None, identity: str) -> None:
        self.repo(request, kind, identity, write=True)
        objects = []
        for asked in request.json()["objects"]:
            oid, size = asked["oid"], asked["size"]
            one: dict[str, Any] = {"oid": oid, "size": size}
            if sha256(self.blobs.get(oid, b"")) != oid:
                upload: dict[str, Any] = {"href": f"{self.url}/storage/{oid}"}
                if self.chunk_bytes and size > self.chunk_bytes:
                    count = math.ceil(size / self.chunk_bytes)
                    parts = {str(n): f"{self.url}/storage/{oid}?part={n}" for n in range(1, count + 1)}
                    upload["header"] = {"chunk_size": str(self.chunk_bytes), **parts}
                verify = {"href": f"{self.url}/{kind or ''}{identity}.git/info/lfs/verify"}
                one["actions"] = {"upload": upload, "verify": verify}
            objects.append(one)
        raise Answer(200, {"transfer": "basic", "objects": objects})

    def xet_token(self, request: Request, kind: str, identity: str, revision: str) -> None:
        self.repo(request, kind, identity, write=True)
        if self.xet is None:
            raise Answer(404, {"error": "no Xet here"})
        raise Answer(200, {"accessToken": "xet", "exp": 4_000_000_000, "casUrl": f"local://{self.xet}"})

    def put(self, request: Request, oid: str, part: str | None) -> None:
        content = request.body
        if request.fault and request.fault.corrupt:
            content = altered(content)
        if part is None:
            self.blobs[oid] = content
            raise Answer(200, {})
        self.parts.setdefault(oid, {})[int(part)] = content
        raise Answer(200, {}, {"ETag": f'"{sha256(content)[:32]}"'})

    def complete(self, request: Request, oid: str) -> None:
        asked = request.json()["parts"]
        if [one["partNumber"] for one in asked] != sorted(self.parts[oid]):
            raise Answer(400, {"error": "parts are missing"})
        self.blobs[oid] = b"".join(content for _, content in sorted(self.parts[oid].items()))
        raise Answer(200, {})

    def verify(self, request: Request, identity: str) -> None:
        asked = request.json()
        right = len(self.blobs.get(asked["oid"], b"")) == asked["size"]
        raise Answer(200 if right else 422, {})

    def commit(self, request: Request, kind: str, identity: str, revision: str) -> None:
        repo = self.repo(request, kind, identity, write=True)
        head = self.commit_at(repo, revision)
        header, *lines = [json.loads(line) for line in request.body.splitlines()]
        if header["value"].get("parentCommit") not in (None, head.oid):
            raise Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = dict(head.files)
        for line in lines:
            value, path = line["value"], line["value"]["path"]
            if line["key"] == "deletedFile":
                del files[path]
            elif line["key"] == "lfsFile":
                files[path] = self.blobs.get(value["oid"]) or self._by_xet(value)
            else:
                files[path] = base64.b64decode(value["content"])
                self.received += b"\n" + files[path]  # so that a search sees through the base64
        done = repo.commit(urllib.parse.unquote(revision), header["value"]["summary"], files)
        url = f"{self.url}/{identity}/commit/{done.oid}"
        raise Answer(200, {"success": True, "commitOid": done.oid, "commitUrl": url, "hookOutput": ""})

    def _by_xet(self, file: dict[str, Any]) -> Elsewhere:
        content = Elsewhere(file["size"])
        content.sha256 = file["oid"]
        return content

    # ---- download
    def resolve(self, request: Request, kind: str | None, identity: str, revision: str, path: str) -> None:
        commit = self.commit_at(self.repo(request, kind, identity), revision)
        known = {"X-Repo-Commit": commit.oid}
        content = commit.files.get(urllib.parse.unquote(path))
        if content is None:
            raise Answer(404, {"error": "Entry not found"}, {**known, "X-Error-Code": "EntryNotFound"})
        oid = sha256(content) if path.endswith(LFS_SUFFIXES) else git_oid(content)
        known |= {"ETag": f'"{oid}"', "Content-Type": "application/octet-stream"}
        if request.fault and request.fault.corrupt:
            content = altered(content)
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if span is None:
            raise Answer(200, content, known)
        first, last = int(span[1]), int(span[2] or len(content) - 1)
        known["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        raise Answer(206, content[first : last + 1], known)

    head = resolve  # whose answer goes without the content


def sha256(content: bytes) -> str:
    return content.sha256 if isinstance(content, Elsewhere) else hashlib.sha256(content).hexdigest()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def altered(content: bytes) -> bytes:
    """Return the content with its last byte changed, so that only its hash differs."""
    return content[:-1] + bytes([content[-1] ^ 1])


def metadata_errors(metadata: Any) -> list[str]:
    """Return the errors that the real server is known to report, for the entries that the cards use."""
    errors = [f"{key} must be text" for key in ("license", "library_name") if _no_text(metadata.get(key))]
    for model in metadata.get("model-index", []):
        if not model.get("name") or not isinstance(model.get("results"), list):
            errors.append("model-index[].name and results are required")
        for result in model.get("results") or []:
            for section, keys in (("task", ("type",)), ("dataset", ("type", "name"))):
                missing = [key for key in keys if not result.get(section, {}).get(key)]
                errors += [f"model-index[].results[].{section}.{key} is required" for key in missing]
            for metric in result.get("metrics", [{}]):
                if not metric.get("type") or not isinstance(metric.get("value"), int | float):
                    errors.append("model-index[].results[].metrics[].type and value are required")
    return errors


def _no_text(value: Any) -> bool:
    return value is not None and not isinstance(value, str)


KIND, ID, REVISION = r"(models/|datasets/)", r"([^/]+/[^/]+?)", r"([^/]+)"
ROUTES = tuple(
    (name, method, re.compile(pattern))
    for name, method, pattern in (
        ("whoami", "GET", r"/api/whoami-v2"),
        ("create", "POST", r"/api/repos/create"),
        ("validate", "POST", r"/api/validate-yaml"),
        ("auth_check", "GET", rf"/api/{KIND}{ID}/auth-check(/write)?"),
        ("refs", "GET", rf"/api/{KIND}{ID}/refs"),
        ("history", "GET", rf"/api/{KIND}{ID}/commits/{REVISION}"),
        ("tree", "GET", rf"/api/{KIND}{ID}/tree/{REVISION}(?:/(.+))?"),
        ("branch", "POST", rf"/api/{KIND}{ID}/branch/{REVISION}"),
        ("tag", "POST", rf"/api/{KIND}{ID}/tag/{REVISION}"),
        ("preupload", "POST", rf"/api/{KIND}{ID}/preupload/{REVISION}"),
        ("commit", "POST", rf"/api/{KIND}{ID}/commit/{REVISION}"),
        ("xet_token", "GET", rf"/api/{KIND}{ID}/xet-write-token/{REVISION}"),
        ("info", "GET", rf"/api/{KIND}{ID}(?:/revision/{REVISION})?"),
        ("batch", "POST", rf"/(datasets/)?{ID}\.git/info/lfs/objects/batch"),
        ("verify", "POST", rf"/(?:datasets/)?{ID}\.git/info/lfs/verify"),
        ("put", "PUT", r"/storage/(\w+)(?:\?part=(\d+))?"),
        ("complete", "POST", r"/storage/(\w+)"),
        ("head", "HEAD", rf"/(datasets/)?{ID}/resolve/{REVISION}/(.+)"),
        ("resolve", "GET", rf"/(datasets/)?{ID}/resolve/{REVISION}/(.+)"),
    )
)
