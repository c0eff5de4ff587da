"""A stand-in of W&B's server: as much of it as runs, artifacts, sweeps and their agents need.

It keeps what it was sent, as the server does: the lines of a run's history lie at their numbers.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

#: Where the client learns the lines that it may go on from.
_HISTORY = "wandb-history.jsonl"


@dataclass
class Received:
    """What came of a run.

    Args:
        fields: What the run is filed under, as last sent: ``project``, ``groupName``, ``sweep`` ...
        config: Its configuration, without W&B's own entry.
        lines: The lines of each streamed file by their numbers.
        files: Files by name.
        sent: How often each line of the history came.
    """

    fields: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    sent: list[int] = field(default_factory=list)
    exit_code: int | None = None

    def rows(self, name: str = _HISTORY) -> list[dict[str, Any]]:
        """Return the lines of a file in their order, read."""
        lines = self.lines.get(name, {})
        return [json.loads(lines[number]) for number in sorted(lines)]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary as last sent."""
        rows = self.rows("wandb-summary.json")
        return rows[-1] if rows else json.loads(self.fields.get("summaryMetrics") or "{}")


@dataclass
class Artifact:
    """An artifact, its metadata and what lies in it."""

    given: dict[str, Any]
    state: str = "PENDING"
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def aliases(self) -> list[str]:
        """Its names beside its version."""
        return [each["alias"] for each in self.given.get("aliases") or []]


class Server(http.server.ThreadingHTTPServer):
    """The server; refuses, hangs and drops connections where told.

    Attributes:
        refused: The status that answers a question, by a word of it; ``graphql`` is in all.
        errors: The error that answers a question, by a word of it.
        silent: Whether it takes questions and never answers.
        dropping: Whether it closes each connection before an answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.refused: dict[str, int] = {}
        self.errors: dict[str, str] = {}
        self.silent = False
        self.dropping = False
        self.asked: list[str] = []
        self.runs: dict[str, Received] = {}
        self.artifacts: list[Artifact] = []
        self.used: list[tuple[str, int]] = []
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.lock = threading.RLock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it, as one that is gone."""
        self.shutdown()
        self.server_close()

    def handle_error(self, *args: Any) -> None:
        """Say nothing of a connection that the other side closed."""

    def environment(self) -> dict[str, str]:
        """Return what logs a process in here."""
        return {"WANDB_API_KEY": "0123456789" * 4, "WANDB_BASE_URL": self.url}

    def put_run(self, name: str, config: dict[str, Any]) -> None:
        """Have a run of another's."""
        fields = {"project": "lightning-zoo", "displayName": name}
        self.runs[name] = Received(fields, config)

    def arrived(self) -> list[str]:
        """Return a line for each thing that arrived."""
        found = []
        for name, run in self.runs.items():
            found += [
                f"{name}: run of {run.fields['project']}, group {run.fields.get('groupName')}"
            ]
            found += [f"{name}: config of {len(run.config)} entries: {', '.join(run.config)}"]
            found += [f"{name}: {file}, {len(lines)} lines" for file, lines in run.lines.items()]
            found += [f"{name}: summary of {len(run.summary)} entries"]
            found += [f"{name}: {file}, {len(data):,} B" for file, data in run.files.items()]
        for artifact in self.artifacts:
            given = artifact.given
            title = f"artifact {given['artifactCollectionName']} ({given['artifactTypeName']})"
            files = sorted(artifact.files, key=lambda file: (file.startswith("media/"), file))
            size = sum(map(len, artifact.files.values()))
            found += [f"{title}, {artifact.state}, {', '.join(artifact.aliases)}"]
            found += [f"{title}: {', '.join(files[:1])}, {len(files)} files, {size:,} B"]
        found += [f"{run}: used artifact {number}" for run, number in self.used]
        return found


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.silent:
            while self.server.silent:
                time.sleep(0.05)
        if self.server.dropping:
            self.close_connection = True
            return
        status, answer = self.take(body)
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_POST = do_PUT = do_GET

    def take(self, body: bytes) -> tuple[int, Any]:
        path = urlsplit(self.path).path
        if path == "/graphql":
            question = json.loads(body)
            query, given = question["query"], question.get("variables") or {}
            name = re.search(r"(?:query|mutation)\s+(\w+)", query)
            title = name[1] if name else query
            self.server.asked.append(title)
            for word, status in self.server.refused.items():
                if word in f"graphql {query}":
                    return status, {"errors": [{"message": f"refused ({status})"}]}
            for word, message in self.server.errors.items():
                if word in query:
                    return 200, {"data": None, "errors": [{"message": message}]}
            answer = getattr(self, f"on_{title}", None)
            if answer is None:
                return 200, {"data": None, "errors": [{"message": f"{title} is not known"}]}
            with self.server.lock:
                return 200, {"data": answer(given)}
        if "files" in self.server.refused and path != "/":
            return self.server.refused["files"], {}
        with self.server.lock:
            return 200, self.keep(path, body)

    def keep(self, path: str, body: bytes) -> Any:
        if found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            run = self.server.runs[unquote(found[1])]
            sent = json.loads(body)
            for name, part in (sent.get("files") or {}).items():
                lines = run.lines.setdefault(name, {})
                for number, line in enumerate(part["content"], part.get("offset") or 0):
                    lines[number] = line
                    run.sent += [number] * (name == _HISTORY)
            if sent.get("complete"):
                run.exit_code = sent.get("exitcode")
            return {"exitcode": None, "limits": {}}
        if found := re.fullmatch(r"/kept/run/([^/]+)/(.+)", path):
            self.server.runs[unquote(found[1])].files[unquote(found[2])] = body
        elif found := re.fullmatch(r"/kept/manifest/(\d+)", path):
            self.server.artifacts[int(found[1])].manifest = json.loads(body)
        elif found := re.fullmatch(r"/kept/artifact/(\d+)/(.+)", path):
            self.server.artifacts[int(found[1])].files[unquote(found[2])] = body
        return {}

    # ---------------------------------------------------------------- login

    def on_Viewer(self, given: dict[str, Any]) -> Any:
        viewer = {"id": "v", "username": "me", "entity": "me", "flags": "{}", "name": "Me"}
        viewer |= {"email": "me@example.org", "admin": False, "deletedAt": None}
        return {"viewer": {**viewer, "teams": {"edges": []}, "apiKeys": {"edges": []}}}

    on_GetViewer = on_GetDefaultEntity = on_Viewer

    def on_ServerFeaturesQuery(self, given: dict[str, Any]) -> Any:
        return {"serverInfo": {"features": []}}

    def on_OrgFeatureFlags(self, given: dict[str, Any]) -> Any:
        return {"organization": None}

    # ---------------------------------------------------------------- runs

    def project(self, name: str | None) -> dict[str, Any]:
        name = name or "uncategorized"
        return {"id": f"p-{name}", "name": name, "entity": {"id": "e", "name": "me"}}

    def bucket(self, name: str) -> dict[str, Any] | None:
        run = self.server.runs.get(name)
        if run is None:
            return None
        lines = run.lines.get(_HISTORY, {})
        tail = [lines[number] for number in sorted(lines)[-1:]]
        config = {k: {"value": v} for k, v in run.config.items()}
        own = {"id": f"b-{name}", "name": name, "displayName": run.fields.get("displayName")}
        return own | {
            "description": "",
            "config": json.dumps(config),
            "wandbConfig": json.dumps({"t": 1}),
            "sweepName": run.fields.get("sweep"),
            "project": self.project(run.fields.get("project")),
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": len(run.lines.get("output.log", {})),
            "historyLineCount": len(lines),
            "eventsLineCount": len(run.lines.get("wandb-events.jsonl", {})),
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "tags": run.fields.get("tags") or [],
            "notes": run.fields.get("notes") or "",
            "group": run.fields.get("groupName"),
        }

    def on_RunResumeStatus(self, given: dict[str, Any]) -> Any:
        project = self.project(given["project"])
        return {"model": project | {"bucket": self.bucket(given["name"])}}

    def on_UpsertBucket(self, given: dict[str, Any]) -> Any:
        name = given["name"] or given["id"].removeprefix("b-")
        inserted = name not in self.server.runs
        run = self.server.runs.setdefault(name, Received({}))
        run.fields |= {key: value for key, value in given.items() if value is not None}
        config = json.loads(given.get("config") or "{}")
        run.config |= {k: v["value"] for k, v in config.items() if k != "_wandb"}
        return {"upsertBucket": {"inserted": inserted, "bucket": self.bucket(name)}}

    def on_CreateRunFiles(self, given: dict[str, Any]) -> Any:
        at = f"{self.server.url}/kept/run/{given['run']}"
        files = [{"name": file, "uploadUrl": f"{at}/{file}"} for file in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def on_MarkRunFilesUploaded(self, given: dict[str, Any]) -> Any:
        return {"markRunFilesUploaded": {"success": True}}

    def on_Run(self, given: dict[str, Any]) -> Any:
        found = self.bucket(given["name"])
        if found is not None:
            found |= {
                "projectId": "1",
                "state": "finished",
                "user": {"name": "me", "username": "me"},
                "sweepName": None,
            }
            found |= {"systemMetrics": "{}", "createdAt": "2026-01-01T00:00:00", "group": None}
            found |= {"heartbeatAt": None, "commit": None, "jobType": None, "readOnly": False}
            found |= {"historyKeys": None, "files": {"edges": []}}
        return {"project": {"run": found}}

    # ---------------------------------------------------------------- artifacts

    def on_XXHashDigestsEnabled(self, given: dict[str, Any]) -> Any:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def on_FetchArtifactDigestAlgorithm(self, given: dict[str, Any]) -> Any:
        return {"project": {"artifactType": None}}

    def on_CreateArtifact(self, given: dict[str, Any]) -> Any:
        number = len(self.server.artifacts)
        self.server.artifacts.append(Artifact(given["input"]))
        sequence = {"latestArtifact": None}
        made = {"id": str(number), "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": made}}

    def on_ArtifactByID(self, given: dict[str, Any]) -> Any:
        artifact = self.server.artifacts[int(given["id"])]
        project = self.project(artifact.given["projectName"]) | {"internalId": "1"}
        name = artifact.given["artifactCollectionName"]
        found = {"__typename": "Artifact", "id": given["id"], "state": artifact.state}
        found |= {"versionIndex": 0, "description": None, "tags": [], "aliases": []}
        found |= {"artifactSequence": {"name": name, "project": project}}
        found["artifactSequence"]["__typename"] = "ArtifactSequence"
        found |= {"artifactType": {"name": artifact.given["artifactTypeName"]}}
        found |= {"metadata": artifact.given["metadata"], "ttlDurationSeconds": 0}
        found |= {"ttlIsInherited": False, "historyStep": None, "commitHash": None}
        found |= {"size": sum(map(len, artifact.files.values())), "updatedAt": None}
        found |= {"digest": artifact.given["digest"], "fileCount": len(artifact.files)}
        return {"artifact": found | {"createdAt": "2026-01-01T00:00:00"}}

    def on_UseArtifact(self, given: dict[str, Any]) -> Any:
        used = given["input"]["artifactID"]
        self.server.used.append((given["input"]["runName"], int(used)))
        return {"useArtifact": {"artifact": {"id": used}}}

    def on_ClientIDMapping(self, given: dict[str, Any]) -> Any:
        for number, artifact in enumerate(self.server.artifacts):
            if artifact.given.get("clientID") == given["clientID"]:
                return {"clientIDMapping": {"serverID": str(number)}}
        return {"clientIDMapping": None}

    def manifest(self, number: str, upload: bool) -> dict[str, Any]:
        file: dict[str, Any] = {"id": f"f-{number}"}
        if upload:
            url = f"{self.server.url}/kept/manifest/{number}"
            file |= {"uploadUrl": url, "uploadHeaders": []}
        return {"artifactManifest": {"id": number, "file": file}}

    def on_CreateArtifactManifest(self, given: dict[str, Any]) -> Any:
        return {
            "createArtifactManifest": self.manifest(given["artifactID"], given["includeUpload"])
        }

    def on_UpdateArtifactManifest(self, given: dict[str, Any]) -> Any:
        number = given["artifactManifestID"]
        return {"updateArtifactManifest": self.manifest(number, given["includeUpload"])}

    def on_CreateArtifactFiles(self, given: dict[str, Any]) -> Any:
        edges = []
        for spec in given["input"]["artifactFiles"]:
            path = f"{spec['artifactID']}/{spec['name']}"
            node = {"storagePath": path, "uploadHeaders": [], "uploadMultipartUrls": None}
            node |= {"uploadUrl": f"{self.server.url}/kept/artifact/{path}"}
            edges.append({"node": node | {"artifact": {"id": spec["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def on_CommitArtifact(self, given: dict[str, Any]) -> Any:
        artifact = self.server.artifacts[int(given["artifactID"])]
        artifact.state = "COMMITTED"
        kept = {"id": given["artifactID"], "digest": artifact.given["digest"]}
        return {"commitArtifact": {"artifact": kept}}

    # ---------------------------------------------------------------- sweeps

    def on_UpsertSweep(self, given: dict[str, Any]) -> Any:
        name = f"sweep{len(self.server.sweeps)}"
        config = yaml.safe_load(given["config"])
        self.server.sweeps[name] = {
            "config": given["config"],
            "program": config.get("program", ""),
            "trials": _trials(config["parameters"])[: config.get("run_cap")],
            "began": [],
        }
        made = {"name": name, "project": self.project(given["projectName"])}
        return {"upsertSweep": {"sweep": made, "configValidationWarnings": []}}

    def on_SweepWithRuns(self, given: dict[str, Any]) -> Any:
        sweep = self.server.sweeps[given["sweep"]]
        found = {"id": given["sweep"], "name": given["sweep"], "state": "RUNNING"}
        found |= {"config": sweep["config"], "runs": {"edges": []}}
        return {"project": {"sweep": found}}

    def on_CreateAgent(self, given: dict[str, Any]) -> Any:
        return {"createAgent": {"agent": {"id": given["sweep"]}}}

    def on_Heartbeat(self, given: dict[str, Any]) -> Any:
        sweep = self.server.sweeps[given["id"]]
        running = [name for name, runs in json.loads(given["runState"]).items() if runs]
        commands: list[dict[str, Any]] = []
        if not running:
            number = len(sweep["began"])
            if number < len(sweep["trials"]):
                name = f"{given['id']}-run{number}"
                sweep["began"].append(name)
                args = {key: {"value": value} for key, value in sweep["trials"][number].items()}
                trial = {"type": "run", "run_id": name, "program": sweep["program"], "args": args}
                commands = [trial]
            else:
                commands = [{"type": "exit"}]
        heard = {"agent": {"id": given["id"]}, "commands": json.dumps(commands)}
        return {"agentHeartbeat": heard}


def _trials(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the combinations of a sweep's values, as the method ``grid`` has them."""
    trials: list[dict[str, Any]] = [{}]
    for name, values in parameters.items():
        each = values["values"] if "values" in values else [values["value"]]
        trials = [trial | {name: value} for trial in trials for value in each]
    return trials
