"""A stand-in for the hub's server: as much of its API as the client needs for models."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: What it takes for a token.
TOKEN = "hf_standin"


class Repositories:
    """Repositories by name: each a list of commits, the newest last."""

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        #: What is wrong where a path has a text in it: a status code, or ``drop``, ``hang`` and
        #: ``garble``.
        self.faults: dict[str, int | str] = {}
        self.ended = threading.Event()

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Add files to a repository; return the commit."""
        commits = self.commits.setdefault(name, [])
        files = {**(commits[-1][1] if commits else {}), **files}
        oid = hashlib.sha1(f"{name}{len(commits)}".encode()).hexdigest()
        commits.append((oid, files))
        return oid

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return a commit and its files."""
        commits = self.commits[name]
        if revision == "main":
            return commits[-1] if commits else ("0" * 40, {})
        return next((each for each in commits if each[0] == revision), None)


class _Handler(BaseHTTPRequestHandler):
    repositories: Repositories

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, code: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.answer(401, {"error": "Invalid credentials"})
        return False

    def fails(self) -> bool:
        """Answer as badly as is asked for."""
        ours = self.repositories
        fault = next((ours.faults[part] for part in ours.faults if part in self.path), None)
        if isinstance(fault, int):
            self.answer(fault, {"error": "a fault"})
        elif fault == "garble":
            self.answer(200, b"<html>Log in to this network</html>")
        elif fault == "hang":
            ours.ended.wait(30)
        self.close_connection = fault is not None
        return fault is not None

    def do_POST(self) -> None:
        ours, body = self.repositories, self.body()
        ours.asked.append(f"POST {self.path}")
        if self.fails():
            return None
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if not self.allowed():
            return None
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            if name in ours.commits:
                return self.answer(409, {"error": "exists", "url": f"{self.origin}/{name}"})
            ours.commits[name] = []
            return self.answer(200, {"url": f"{self.origin}/{name}"})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", self.path):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.origin}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            added: dict[str, bytes] = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    added[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    added[value["path"]] = ours.objects[value["oid"]]
            oid = ours.commit(found[1], added)
            url = f"{self.origin}/{found[1]}/commit/{oid}"
            return self.answer(200, {"commitUrl": url, "commitOid": oid})
        return self.answer(404, {"error": "no such thing"})

    def do_PUT(self) -> None:
        content = self.body()
        self.repositories.objects[hashlib.sha256(content).hexdigest()] = content
        self.answer(200)

    def do_GET(self) -> None:
        ours = self.repositories
        ours.asked.append(f"{self.command} {self.path}")
        if self.fails():
            return None
        path = self.path.partition("?")[0]
        if path == "/":
            return self.answer(200)
        info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = info or file
        if found is None or found[1] not in ours.commits:
            return self.answer(404, {"error": "absent"}, X_Error_Code="RepoNotFound")
        commit = ours.at(found[1], found[2] or "main")
        if commit is None:
            return self.answer(404, {"error": "absent"}, X_Error_Code="RevisionNotFound")
        oid, files = commit
        if info is not None:
            siblings = [{"rfilename": name} for name in files]
            return self.answer(200, {"id": found[1], "sha": oid, "siblings": siblings})
        if found[3] not in files:
            return self.answer(404, {"error": "absent"}, X_Error_Code="EntryNotFound")
        content = files[found[3]]
        sum_of_it = hashlib.sha256(content).hexdigest()
        return self.answer(200, content, X_Repo_Commit=oid, ETag=f'"{sum_of_it}"')

    do_HEAD = do_GET

    @property
    def origin(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host!s}:{port}"


@contextmanager
def serving() -> Iterator[tuple[str, Repositories]]:
    """Serve on the loopback interface; give the address and the repositories."""
    repositories = Repositories()
    handler = type("Handler", (_Handler,), {"repositories": repositories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", repositories
    finally:
        repositories.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
