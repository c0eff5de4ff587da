"""As much of W&B's server as keeps views: login, runs of a project, saved views."""

import http.server
import json
import re
import threading
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    """Keeps views by their ids."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.projects = {"lightning-zoo": ["ImageClassifier", "resnet"]}
        self.views: dict[str, dict[str, Any]] = {}
        #: Answers of the server by a word of the question: a status that is no success.
        self.refused: dict[str, int] = {}
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *args: Any) -> None:
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the questions that the clients ask."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = 200, {}
        if self.path == "/graphql":
            question = json.loads(body)
            query, given = question["query"], question.get("variables") or {}
            name = re.search(r"(?:query|mutation)\s+(\w+)", query)
            self.server.asked.append(name[1] if name else query)
            status = next((s for word, s in self.server.refused.items() if word in query), 200)
            data = self.answer(query, given) if status == 200 else None
            answer = {"data": data} if data is not None else {"errors": [{"message": "refused"}]}
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any] | None:
        if "upsertView" in query:
            return {"upsertView": self.keep(given)}
        if "runCount" in query:
            tags = self.server.projects.get(given["project"])
            asked = {each["tags"] for each in json.loads(given["filters"])["$and"]}
            count = None if tags is None else {"runCount": int(asked <= set(tags))}
            return {"project": count}
        if "allViews" in query:
            views = [v for v in self.server.views.values() if v["type"] == given["viewType"]]
            known = given["name"] in self.server.projects
            edges = [{"node": view} for view in views if view["projectName"] == given["name"]]
            return {"project": {"allViews": {"edges": edges}} if known else None}
        if "models(" in query or "Projects" in query:  # whether a report's project is there
            more = {"entityName": "me", "createdAt": "2026-11-27T10:00:00Z"}
            more |= {"isBenchmark": False, "user": None}
            nodes = [{"id": name, "name": name, **more} for name in self.server.projects]
            page = {"endCursor": None, "hasNextPage": False}
            edges = [{"node": each, "cursor": ""} for each in nodes]
            return {"models": {"edges": edges, "pageInfo": page}}
        if "viewer" in query:
            viewer = {"id": "v", "username": "me", "entity": "me", "name": "Me", "flags": "{}"}
            viewer |= {"teams": {"edges": []}, "apiKeys": {"edges": []}, "admin": False}
            return {"viewer": {**viewer, "email": "me@example.org", "deletedAt": None}}
        return None

    def keep(self, given: dict[str, Any]) -> dict[str, Any]:
        own = given.get("id") or f"view-{len(self.server.views)}"
        inserted = own not in self.server.views
        self.server.views[own] = {**given, "id": own}
        project = {"id": "p", "name": given["projectName"], "entityName": given["entityName"]}
        view = {**self.server.views[own], "project": project, "updatedAt": None}
        return {"view": view, "inserted": inserted}
