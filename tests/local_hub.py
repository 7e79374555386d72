"""A small Hugging Face Hub in memory, on 127.0.0.1: what loading and publishing models asks of it.

Faults are switched on for each repository; see `LocalHub.fault`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_test"
Files = dict[str, bytes]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


@dataclass
class Repo:
    """Commits by hash, and what branches and tags name."""

    private: bool = False
    gated: str = ""
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files) -> str:
        text = repr((len(self.commits), sorted((p, sha256(b)) for p, b in files.items())))
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid], self.refs["main"] = dict(files), oid
        return oid

    def find(self, revision: str) -> str | None:
        oid = self.refs.get(unquote(revision), unquote(revision))
        return oid if oid in self.commits else None


class LocalHub:
    """Serves while it is entered."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.down = False
        self.uploading: Callable[[], None] = lambda: None  # called before a large file is taken
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.storage = f"http://localhost:{self.server.server_port}"  # another host, for a client

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def put(self, name: str, files: Files, *, private: bool = False, gated: str = "") -> str:
        """Commits to a repository, which is made if need be; gives the commit's hash."""
        return self.repos.setdefault(name, Repo(private, gated)).commit(files)

    def fault(self, name: str, path: str, **what: Any) -> None:
        """What goes wrong with the body of a file.

        Each time, until taken back: ``cut=N``, it ends after as many bytes; ``flip=True``, a byte
        of it is another; ``status=N``, there is none. Once: ``hang_up=N``, the connection ends
        after as many bytes of those that were promised; ``busy=True``, the client has to wait.
        """
        self.faults[name] = {"path": path, **what}


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub

    ROUTES = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", "info"),
        ("POST", r"/api/models/([^/]+/[^/]+)/paths-info/(.+)", "paths"),
        ("POST", r"/api/models/([^/]+/[^/]+)/preupload/(.+)", "preupload"),
        ("POST", r"/api/models/([^/]+/[^/]+)/commit/(.+)", "commit"),
        ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/([0-9a-f]{64})", "lfs_put"),
        ("HEAD|GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
        ("HEAD|GET", r"/storage/([^/]+/[^/]+)/([^/]+)/(.+)", "storage"),
    )

    def answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.down:
            return  # the connection is closed without a word
        for methods, pattern, name in self.ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in methods.split("|"):
                getattr(self, f"on_{name}")(*match.groups())
                return
        self.refuse(404, "", f"no such route: {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(parts)

    def reply(self, status: int, content: Any = b"", **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Length": str(len(data)), "Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str, message: str) -> None:
        # HEAD has no body: the client reads the class of the error from this header.
        self.reply(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def repo(self, name: str, *, writes: bool = False) -> Repo | None:
        """The repository, or None after the Hub's own refusal."""
        sent, repo = self.headers.get("Authorization"), self.hub.repos.get(name)
        if sent not in (None, f"Bearer {TOKEN}"):
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and not sent):
            # What is hidden looks like what does not exist.
            self.refuse(404 if sent else 401, "RepoNotFound", "Repository not found")
        elif writes and not sent:
            self.refuse(403, "", "You don't have the required permissions")
        else:
            return repo
        return None

    def files(self, repo: Repo, revision: str) -> tuple[str, Files] | None:
        oid = repo.find(revision)
        if oid is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return oid, repo.commits[oid]

    def on_info(self, name: str, revision: str | None) -> None:
        if (repo := self.repo(name)) and (found := self.files(repo, revision or "main")):
            oid, files = found
            siblings = [{"rfilename": path} for path in sorted(files)]
            self.reply(200, {"id": name, "sha": oid, "private": repo.private, "siblings": siblings})

    def on_paths(self, name: str, revision: str) -> None:
        asked = parse_qs(self.body().decode())["paths"]
        if (repo := self.repo(name)) and (found := self.files(repo, revision)):
            rows = [_row(path, data) for path, data in found[1].items() if path in asked]
            self.reply(200, rows)

    def on_resolve(self, name: str, revision: str, path: str) -> None:
        if (repo := self.repo(name)) is None:
            return
        if repo.gated:  # what is gated can be seen, but not read
            known = "Authorization" in self.headers
            if not known or repo.gated != "granted":
                self.refuse(403 if known else 401, "GatedRepo", f"Access to {name} is restricted")
                return
        if (found := self.files(repo, revision)) is None:
            return
        oid, files = found
        if path not in files:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        data = files[path]
        if not is_large(path):
            self.send_file(name, path, data, ETag=f'"{git_oid(data)}"', X_Repo_Commit=oid)
            return
        # Large ones lie on another host, which is told by the first what to expect of it.
        self.reply(
            302,
            Location=f"{self.hub.storage}/storage/{name}/{oid}/{path}",
            X_Repo_Commit=oid,
            X_Linked_Size=str(len(data)),
            X_Linked_ETag=f'"{sha256(data)}"',
        )

    def on_storage(self, name: str, oid: str, path: str) -> None:
        if "Authorization" in self.headers:  # whose address is signed wants no second credentials
            self.refuse(400, "", "Only one auth mechanism allowed")
            return
        self.send_file(name, path, self.hub.repos[name].commits[oid][path], ETag='"of storage"')

    def send_file(self, name: str, path: str, data: bytes, **headers: str) -> None:
        """The file, or its end, as far as faults allow."""
        fault = self.hub.faults.get(name, {})
        if fault.get("path") != path or self.command != "GET":
            fault = {}
        if "status" in fault:
            self.refuse(fault["status"], "", "fault")
            return
        if fault.pop("busy", False):
            self.reply(429, {"error": "Too many requests"}, Retry_After="1")
            return
        if fault.get("flip"):
            data = bytes([data[0] ^ 255]) + data[1:]
        data, status = data[: fault.get("cut")], 200
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start, status = int(asked[1]), 206
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        headers |= {"Content_Length": str(len(data)), "Accept_Ranges": "bytes"}
        self.reply(status, data[: fault.pop("hang_up", None)], **headers)

    def on_create(self) -> None:
        spec = json.loads(self.body())
        name = f"{spec['organization']}/{spec['name']}"
        url = {"url": f"{self.hub.endpoint}/{name}", "name": name}
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "", "Invalid username or password.")
        elif name in self.hub.repos:
            self.reply(409, {"error": "You already created this model repo", **url})
        else:
            self.hub.put(name, {}, private=spec.get("visibility") == "private")
            self.reply(200, url)

    def on_validate(self) -> None:
        self.body()
        self.reply(200, {"errors": [], "warnings": []})

    def on_preupload(self, name: str, revision: str) -> None:
        asked = json.loads(self.body())["files"]
        if self.repo(name, writes=True):
            rows = [
                {
                    "path": row["path"],
                    "uploadMode": "lfs" if is_large(row["path"]) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for row in asked
            ]
            self.reply(200, {"files": rows})

    def on_lfs_batch(self, name: str) -> None:
        asked = json.loads(self.body())["objects"]
        if self.repo(name, writes=True):
            rows = [
                {
                    "oid": row["oid"],
                    "size": row["size"],
                    "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{row['oid']}"}},
                }
                for row in asked
            ]
            self.reply(200, {"transfer": "basic", "objects": rows})

    def on_lfs_put(self, oid: str) -> None:
        self.hub.uploading()
        data = self.body()
        self.hub.blobs[sha256(data)] = data
        self.reply(200 if sha256(data) == oid else 422)

    def on_commit(self, name: str, revision: str) -> None:
        head, *lines = (json.loads(line) for line in self.body().splitlines())
        if (repo := self.repo(name, writes=True)) is None:
            return
        assert head["key"] == "header"
        files = dict(repo.commits[repo.refs["main"]])
        for line in lines:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
                continue
            files[value["path"]] = (
                base64.b64decode(value["content"])
                if line["key"] == "file"
                else self.hub.blobs[value["oid"]]
            )
        oid = repo.commit(files)
        url = f"{self.hub.endpoint}/{name}/commit/{oid}"
        self.reply(200, {"success": True, "commitOid": oid, "commitUrl": url})


def _row(path: str, data: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
    if is_large(path):
        row["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    return row
