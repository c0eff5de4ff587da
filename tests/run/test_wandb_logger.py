"""W&B: what a run leaves behind, and that nothing of it can stop a training.

All runs of the command line are forks of one process that has imported torch, and run at once.
"""

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import wandb
from lightning_utilities.core.rank_zero import rank_zero_only

import zoo.run.wandb_login
from zoo.run.metrics_file import read_metrics
from zoo.run.wandb_logger import RunWandb
from zoo.run.wandb_login import mode_of

RECIPE = """
model:
  class_path: ImageClassifier
  init_args:
    net: {class_path: GoogLeNet, init_args: {dropout: 0.3}}
    lr: 0.003
data:
  class_path: Digits
  init_args: {batch_size: 64}
trainer:
  max_epochs: 2
  limit_train_batches: 3
  limit_val_batches: 2
  limit_test_batches: 2
  log_every_n_steps: 1
  accelerator: cpu
  devices: 1
"""

# Reads jobs, one JSON line each, and answers with the exit codes once all have ended.
DRIVER = """
import json, os, sys, time
import zoo.cli.verbs
from zoo.__main__ import main

for line in sys.stdin:
    children = {}
    for job in json.loads(line):
        child = os.fork()
        if child == 0:
            os.chdir(job["folder"])
            os.environ.update(job["environment"])
            for number, name in enumerate(job["streams"]):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
            exec(job["patch"])
            started = time.monotonic()
            sys.exit(main(["fit", "--config", "small.yaml", *job["flags"]]))
        children[child] = job["folder"]
    started, ends = time.monotonic(), {}
    while children:
        child, status = os.wait()
        folder = children.pop(child)
        ends[folder] = [os.waitstatus_to_exitcode(status), time.monotonic() - started]
    print(json.dumps(ends), flush=True)
"""

KILL_CORE = """
from zoo.callbacks.train_log import TrainLog

def kill(trainer, module, outputs=None, batch=None, batch_idx=0, self=None):
    if trainer.global_step == 2:
        from wandb.sdk import wandb_setup
        process = wandb_setup.singleton()._connection._proc._process
        process.kill()
        process.wait()

before = TrainLog.on_train_batch_end
TrainLog.on_train_batch_end = lambda self, *a: (kill(*a), before(self, *a))[1]
"""


# Drawing takes longer than all else.
NO_PICTURES = """
from zoo.report.pictures import Pictures
Pictures.draw_training = lambda *arguments: None
Pictures.draw_test = lambda *arguments: None
"""


@dataclass
class Run:
    """A run of the command line, and what it left."""

    folder: Path
    flags: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    patch: str = ""
    terminal: bool = False
    code: int = -1
    seconds: float = 0.0

    @property
    def out(self) -> str:
        return (self.folder / "out.txt").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err.txt").read_text()

    @property
    def lines(self) -> list[str]:
        """What was said about W&B."""
        return [line for line in (self.out + self.err).splitlines() if "W&B" in line]

    @property
    def path(self) -> Path:
        (path,) = (self.folder / "runs" / "small").iterdir()
        return path

    @property
    def segments(self) -> list[Path]:
        return sorted(self.path.glob("wandb/*run-*"))

    def steps(self) -> list[int]:
        return [int(row["step"]) for row in read_metrics(self.path / "metrics.csv")[1]]


class Driver:
    """Starts runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "ZOO_"))}
        environment.pop("NETRC", None)
        environment |= {"HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        environment |= {"MPLCONFIGDIR": str(root / "matplotlib"), "PYTHONUNBUFFERED": "1"}
        self.environment = environment
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *runs: Run) -> None:
        jobs = []
        for run in runs:
            run.folder.mkdir(exist_ok=True)
            (run.folder / "small.yaml").write_text(RECIPE)
            streams = [os.devnull, "out.txt", "err.txt"]
            if run.terminal:
                streams = [self._terminal(run.folder / "out.txt")] * 3
                (run.folder / "err.txt").touch()
            jobs.append(
                {
                    "folder": str(run.folder),
                    "flags": run.flags,
                    "environment": run.environment,
                    "patch": run.patch,
                    "streams": streams,
                }
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(jobs), file=self.process.stdin, flush=True)
        ends = json.loads(self.process.stdout.readline())
        for run in runs:
            run.code, run.seconds = ends[str(run.folder)]

    def _terminal(self, copy: Path) -> str:
        """A terminal at which nobody sits, and whose screen is written to a file."""
        ours, theirs = os.openpty()

        def read() -> None:
            with copy.open("ab", buffering=0) as file:
                while True:
                    file.write(os.read(ours, 4096))

        threading.Thread(target=read, daemon=True).start()
        return os.ttyname(theirs)


class Server(http.server.ThreadingHTTPServer):
    """As much of a W&B server as a run needs; artifacts it does not know."""

    daemon_threads = True

    def __init__(self, refuse: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.refuse = refuse
        self.seen: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *args: Any) -> None:
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.seen.append((self.path, body.decode("latin-1")))
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            question = json.loads(body)
            answer = self.answer(question["operationName"], question.get("variables") or {})
        payload = json.dumps(answer).encode()
        self.send_response(401 if self.server.refuse and self.path == "/graphql" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_POST = do_PUT = do_GET

    def answer(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        if name == "Viewer":
            return {"data": {"viewer": {"id": "v", "username": "me", "entity": "me"}}}
        if name == "RunResumeStatus":
            return {"data": {"model": None}}
        if name == "UpsertBucket":
            project = {"id": "p", "name": "lightning-zoo", "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": given["name"], "displayName": "run", "config": "{}"}
            bucket["project"] = project
            return {"data": {"upsertBucket": {"inserted": True, "bucket": bucket}}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": self.server.url} for file in given["files"]]
            answer = {"runID": "b", "uploadHeaders": [], "files": files}
            return {"data": {"createRunFiles": answer}}
        return {"errors": [{"message": f"{name} is not known"}]}


def set_all(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def login(url: str, **more: str) -> dict[str, str]:
    return {"WANDB_API_KEY": "0123456789" * 4, "WANDB_BASE_URL": url, **more}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """All runs of this file, by name."""
    root = tmp_path_factory.mktemp("wandb")
    driver = Driver(root)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    short = ["--trainer.max_epochs", "1"]
    server = {"WANDB_BASE_URL": Server().url, "TERM": "xterm"}
    first = [
        # With a server that answers, W&B by itself asks for a login here.
        Run(root / "whole", ["--wandb_checkpoint", "true"], server, terminal=True),
        Run(root / "unreachable", short, login(nobody), NO_PICTURES),
        Run(root / "killed", ["--wandb", "offline", *short], patch=KILL_CORE + NO_PICTURES),
        Run(
            root / "off",
            ["--wandb", "off", *short, "--trainer.limit_train_batches", "1"],
            {},
            NO_PICTURES,
        ),
        Run(root / "fast", ["--trainer.fast_dev_run", "true"]),
    ]
    try:
        driver.run(*first)
        longer = ["--ckpt_path", "last", "--trainer.max_epochs", "3"]
        resumed = Run(root / "whole", longer, patch=NO_PICTURES)
        driver.run(resumed)
    finally:
        driver.process.kill()
    found = {run.folder.name: run for run in first} | {"resumed": resumed}
    return found


def read(run: Path) -> list[dict[str, Any]]:
    """The records of a run, as W&B itself reads them."""
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", run]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def read_summary(run: Path) -> dict[str, Any]:
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--summary", "--json"]
    result = subprocess.run([*command, run], capture_output=True, text=True, check=True)
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def history(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["history"]["item"] for record in records if record["type"] == "history"]


@pytest.fixture(scope="module")
def records(runs: dict[str, Run]) -> list[dict[str, Any]]:
    return read(runs["whole"].segments[0])


@pytest.fixture(scope="module")
def summary(runs: dict[str, Run]) -> dict[str, Any]:
    return read_summary(runs["whole"].segments[0])


class Started:
    """A logger by itself."""

    def __init__(self, folder: Path, asked: Any = "auto") -> None:
        folder.mkdir()
        self.folder = folder
        self.logger = RunWandb(folder, "some-id", "name", asked)
        started = time.monotonic()
        self.logger.start()
        self.seconds = time.monotonic() - started

    def rows(self) -> list[dict[str, Any]]:
        """What W&B's offline files hold after the run's end."""
        assert "WANDB_CACHE_DIR" not in os.environ
        (segment,) = self.folder.glob("wandb/offline-run-*")
        return history(read(segment))


# -------------------------------------------------------------------------------- a whole run


def test_every_run_ends_well(runs: dict[str, Run]) -> None:
    for name, run in runs.items():
        assert run.code == 0, (name, run.err)
        assert "Traceback" not in run.err + run.out, (name, run.err)
        # a training of one batch says next to nothing of its temperature, which is told
        told = ("W&B: ", "zoo: the temperature that was fitted")
        others = [line for line in run.err.splitlines() if not line.startswith(told)]
        assert not others, (name, others)


def test_says_one_line(runs: dict[str, Run]) -> None:
    said = {name: len(run.lines) for name, run in runs.items()}
    # "resumed" writes into the same files as "whole".
    assert said == {"whole": 2, "resumed": 2, "unreachable": 1, "killed": 2, "off": 0, "fast": 0}
    assert not [run for run in runs.values() if "wandb:" in run.out + run.err]


def test_config_is_the_resolved_recipe(summary: dict[str, Any]) -> None:
    config = summary["config"]
    assert config["model"]["init_args"]["lr"] == 0.003
    assert config["model"]["init_args"]["net"]["init_args"]["norm"] == "auto"
    assert config["data"]["init_args"]["split_seed"] == 0
    assert config["trainer"]["max_epochs"] == 2
    assert config["seed_everything"] == 0
    assert config["understood"]["data"]["splits"]["val"]["size"] == 180


def test_curves_over_the_global_step(records: list[dict[str, Any]], runs: dict[str, Run]) -> None:
    rows = history(records)
    steps = {
        name: [row["trainer/global_step"] for row in rows if name in row]
        for name in ("train/loss", "val/acc", "test/acc")
    }
    assert steps == {"train/loss": [1, 2, 3, 4, 5, 6], "val/acc": [3, 6], "test/acc": [6]}
    table = read_metrics(runs["whole"].path / "metrics.csv")[1]
    first = {row["step"]: row["train/loss"] for row in table if int(row["step"]) <= 6}
    assert list(first.values()) == [repr(row["train/loss"]) for row in rows if "train/loss" in row]
    axes = [record["metric"] for record in records if record["type"] == "metric"]
    every = next(axis for axis in axes if axis.get("glob_name") == "*")
    assert every["step_metric"] == "trainer/global_step"
    assert all("trainer/global_step" in row for row in rows)


def test_best_values_in_the_summary(records: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    rows = history(records)
    accuracies = [row["val/acc"] for row in rows if "val/acc" in row]
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    assert summary["summary"]["val/acc"] == {"max": max(accuracies), "last": accuracies[-1]}
    assert summary["summary"]["val/loss"] == {"min": min(losses), "last": losses[-1]}


def test_pictures_and_their_steps(records: list[dict[str, Any]], runs: dict[str, Run]) -> None:
    steps = {}
    for row in history(records):
        for key, value in row.items():
            if match := re.fullmatch(r"pictures/(\w+)\.filenames", key):
                steps[match[1]] = row["trainer/global_step"]
                (name,) = value
                assert (runs["whole"].segments[0] / "files" / name).stat().st_size > 1000
    names = ("batch", "curves", "confusion", "reliability", "roc", "wrong")
    assert steps == dict.fromkeys(names, 6)


def test_table_of_wrong_predictions(records: list[dict[str, Any]], runs: dict[str, Run]) -> None:
    artifacts = [record["artifact"] for record in records if record["type"] == "artifact"]
    tables = [artifact for artifact in artifacts if artifact["type"] == "run_table"]
    (artifact,) = [each for each in tables if each["name"].endswith("-wrong_predictions")]
    files = {entry["path"]: entry["local_path"] for entry in artifact["manifest"]["contents"]}
    assert all(Path(path).is_relative_to(runs["whole"].path) for path in files.values())
    table = json.loads(Path(files["wrong_predictions.table.json"]).read_text())
    assert table["columns"] == ["image", "label", "prediction", "probability"]
    for image, label, prediction, probability in table["data"]:
        assert Path(files[image["path"]]).stat().st_size > 50
        assert label != prediction
        assert 0 < probability <= 1
    (row,) = [row for row in history(records) if "wrong_predictions.nrows" in row]
    assert row["wrong_predictions.nrows"] == len(table["data"])
    assert row["trainer/global_step"] == 6


def test_checkpoint_is_an_artifact(records: list[dict[str, Any]], runs: dict[str, Run]) -> None:
    artifacts = [record["artifact"] for record in records if record["type"] == "artifact"]
    (model,) = [artifact for artifact in artifacts if artifact["type"] == "model"]
    figure = next(row["test/acc"] for row in history(records) if "test/acc" in row)
    assert set(model["aliases"]) == {"latest", "best", f"test-acc-{figure:.4f}"}
    metadata = json.loads(model["metadata"])
    assert metadata["recipe"] == "small"
    assert metadata["test"]["acc"] == pytest.approx(figure)
    assert metadata["chosen"]["by"] == "val/acc"
    (entry,) = model["manifest"]["contents"]
    assert entry["path"] == "best.ckpt"
    assert Path(entry["local_path"]).is_relative_to(runs["whole"].path)


def test_files_lie_in_the_run_folder(runs: dict[str, Run]) -> None:
    run = runs["whole"]
    home = run.folder.parent / "home"
    assert home.is_dir()
    assert list(home.rglob("*")) == []
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"small.yaml", "out.txt", "err.txt", "runs"}


# -------------------------------------------------------------------------------- ids


def test_ids(runs: dict[str, Run], records: list[dict[str, Any]]) -> None:
    (run,) = [record["run"] for record in records if record["type"] == "run"]
    assert run["run_id"] == runs["whole"].path.name
    assert run["display_name"] == f"small-{run['run_id']}"
    assert run["project"] == "lightning-zoo"
    ids = {run.path.name for run in runs.values()}
    assert len(ids) == len(runs) - 1  # the resumed one is the same run


def test_a_resumed_run_keeps_its_id(runs: dict[str, Run]) -> None:
    first, second = runs["resumed"].segments
    assert first.name.endswith(runs["resumed"].path.name)
    assert second.name.endswith(runs["resumed"].path.name)
    rows = history(read(second))
    assert [row["trainer/global_step"] for row in rows if "train/loss" in row] == [7, 8, 9]
    assert min(row["trainer/global_step"] for row in rows) == 7


def test_best_of_all_sessions(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Started(tmp_path / "run", "offline")
    rows = "epoch,step,val/acc,val/loss\n0,1,0.5,1.5\n1,2,,\n2,3,0.25,1.75\n"
    (run.folder / "metrics.csv").write_text(rows)
    run.logger.best_in_summary("val/acc", "max")
    run.logger.best_in_summary("val/loss", "min")
    run.logger.log_metrics({"val/acc": 0.25, "val/loss": 1.75}, 3)
    run.logger.finish(0)
    (segment,) = run.folder.glob("wandb/offline-run-*")
    summary = read_summary(segment)["summary"]
    assert summary["val/acc"] == {"max": 0.5, "last": 0.25}
    assert summary["val/loss"] == {"min": 1.5, "last": 1.75}


# -------------------------------------------------------------------------------- login and mode


def test_no_prompt_at_a_terminal(runs: dict[str, Run]) -> None:
    line = runs["whole"].lines[0]
    assert "offline (not logged in)" in line
    assert "`wandb login`" in line
    assert "--wandb off" in line
    path = re.search(r"`zoo sync (\S+)`", line)
    assert path is not None
    assert runs["whole"].folder / path[1] == runs["whole"].path


TOKEN = "0123456789" * 4
MODES = [
    ("auto", {}, "", "offline"),
    ("online", {}, "", "offline"),
    ("auto", {"WANDB_API_KEY": TOKEN}, "", "online"),
    ("auto", {"WANDB_API_KEY": "short"}, "", "offline"),
    ("auto", {"WANDB_IDENTITY_TOKEN_FILE": "token"}, "", "online"),
    ("auto", {}, "api.wandb.ai", "online"),
    ("auto", {}, "wandb.example.org", "offline"),
    ("auto", {"WANDB_BASE_URL": "https://wandb.example.org"}, "wandb.example.org", "online"),
    ("auto", {"WANDB_BASE_URL": "https://wandb.example.org"}, "api.wandb.ai", "offline"),
    ("auto", {"WANDB_MODE": "offline"}, "api.wandb.ai", "offline"),
    ("auto", {"WANDB_MODE": "dryrun"}, "api.wandb.ai", "offline"),
    ("auto", {"WANDB_MODE": "disabled"}, "api.wandb.ai", "disabled"),
    ("auto", {"WANDB_MODE": "online"}, "", "offline"),
    ("online", {"WANDB_MODE": "offline"}, "api.wandb.ai", "online"),
    ("online", {"WANDB_MODE": "disabled"}, "api.wandb.ai", "online"),
    ("offline", {"WANDB_MODE": "disabled"}, "api.wandb.ai", "offline"),
    ("auto", {"settings": "base_url = https://wandb.example.org"}, "wandb.example.org", "online"),
    ("auto", {"settings": "mode = offline"}, "api.wandb.ai", "offline"),
]


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No login, and W&B as if just imported."""
    for name in [*os.environ]:
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


@pytest.mark.parametrize(("asked", "environment", "host", "mode"), MODES)
def test_mode(
    asked: Any,
    environment: dict[str, str],
    host: str,
    mode: str,
    tmp_path: Path,
    clean: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    environment = dict(environment)
    if settings := environment.pop("settings", None):
        (tmp_path / "settings").write_text(f"[default]\n{settings}\n")
        clean.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    if host:
        (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {TOKEN}\n")
    set_all(clean, environment)
    clean.setattr(zoo.run.wandb_login, "no_answer", lambda url: None)
    logger = RunWandb(tmp_path / "run", "id", "name", asked)
    set_all(clean, logger._environment)
    assert mode_of(logger.asked)[0] == mode
    assert capfd.readouterr() == ("", "")


def test_no_network_goes_on_offline(runs: dict[str, Run]) -> None:
    run = runs["unreachable"]
    assert "does not answer: Connection refused" in run.lines[0]
    (segment,) = run.segments
    assert segment.name.startswith("offline-run-")
    assert [row["trainer/global_step"] for row in history(read(segment)) if "test/acc" in row] == [
        3
    ]


def test_a_server_that_is_silent(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clean.setattr(zoo.run.wandb_login, "ANSWER_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        set_all(clean, login(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        run = Started(tmp_path / "run")
        run.logger.log_metrics({"train/loss": 1.0}, 1)
        run.logger.finish(0)
    out, err = capfd.readouterr()
    assert re.match(r"W&B: offline \(http://127.0.0.1:\d+ does not answer: timed out\); ", out)
    assert (out.count("\n"), err) == (1, "")
    assert run.seconds < 20
    assert [row["train/loss"] for row in run.rows()] == [1.0]


def test_a_server_that_refuses(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_all(clean, login(Server(refuse=True).url))
    run = Started(tmp_path / "run")
    run.logger.log_metrics({"train/loss": 1.0}, 1)
    run.logger.finish(0)
    out, err = capfd.readouterr()
    assert out.startswith("W&B: offline (the server refused: ")
    assert (out.count("\n"), err) == (1, "")
    assert [row["train/loss"] for row in run.rows()] == [1.0]


def test_asked_online_but_not_logged_in(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Started(tmp_path / "run", "online")
    run.logger.log_metrics({"train/loss": 1.0}, 1)
    run.logger.finish(0)
    assert capfd.readouterr().out.startswith("W&B: offline (not logged in); ")
    assert [row["train/loss"] for row in run.rows()] == [1.0]


def test_online(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = Server()
    set_all(clean, login(server.url))
    run = Started(tmp_path / "run")
    run.logger.log_metrics({"train/loss": 0.125}, 1)
    run.logger.log_table("answers", columns=["a"], data=[[42]])
    run.logger.log_metrics({"train/loss": 0.0625}, 2)
    run.logger.finish(0)
    out, err = capfd.readouterr()
    url = f"W&B: {server.url}/me/lightning-zoo/runs/some-id\n"
    assert (out, err) == (url * 2, "")
    streamed = "".join(body for path, body in server.seen if path.endswith("file_stream"))
    assert "0.125" in streamed
    assert "0.0625" in streamed
    assert [body for _, body in server.seen if "RunResumeStatus" in body]
    assert '{"columns":["a"],"data":[[42]]}' in [body for _, body in server.seen]


# -------------------------------------------------------------------------------- failures


def test_a_dead_service_costs_no_training(runs: dict[str, Run]) -> None:
    run = runs["killed"]
    assert "training goes on without it" in run.lines[1]
    assert [int(row["step"]) for row in read_metrics(run.path / "metrics.csv")[1]] == [1, 2, 3]
    assert "test acc" in run.out


def test_the_run_object_goes_on_working(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Started(tmp_path / "run", "offline")
    capfd.readouterr()
    run.logger.give_up(RuntimeError("for a test"))
    run.logger.experiment.log({"a": 1})
    run.logger.experiment.summary["a"] = 1
    run.logger.experiment.config.update({"a": 1})
    wandb.log({"a": 1})
    run.logger.finish(0)
    assert wandb.run is None
    assert capfd.readouterr() == ("", "W&B: failed (for a test); training goes on without it\n")


def test_one_failure_leaves_the_rest(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Started(tmp_path / "run")
    log = type(run.logger.experiment).log

    def failing(self: Any, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        if "train/loss" in data:
            raise RuntimeError("the disk is full\nand more")
        log(self, data, *args, **kwargs)

    clean.setattr(type(run.logger.experiment), "log", failing)
    capfd.readouterr()
    for step in range(3):
        run.logger.log_metrics({"train/loss": 1.0}, step)
    run.logger.log_gallery("gallery", ["nowhere.png"], ["label"], [["a"]], 2)
    run.logger.log_metrics({"val/acc": 0.5}, 3)
    run.logger.finish(0)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("W&B: something is left out (the disk is full)\nW&B: something is left")
    assert err.count("\n") == 2
    assert [row["val/acc"] for row in run.rows()] == [0.5]


def test_end_is_bounded(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = Server()
    set_all(clean, login(server.url, WANDB_FINISH_TIMEOUT="2"))
    run = Started(tmp_path / "run")
    server.shutdown()
    server.server_close()
    run.logger.log_metrics({"train/loss": 1.0}, 1)
    started = time.monotonic()
    run.logger.finish(0)
    assert time.monotonic() - started < 15
    out, err = capfd.readouterr()
    assert out.startswith("W&B: http")
    assert err.startswith("W&B: not everything was uploaded within 2 s; `zoo sync ")
    assert (out.count("\n"), err.count("\n")) == (1, 1)


# -------------------------------------------------------------------------------- nothing to do


def test_off_and_fast_dev_run(runs: dict[str, Run]) -> None:
    for name in ("off", "fast"):
        assert not (runs[name].path / "wandb").exists()


def test_disabled(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clean.setenv("WANDB_MODE", "disabled")
    run = Started(tmp_path / "run")
    run.logger.log_metrics({"train/loss": 1.0}, 1)
    run.logger.finish(0)
    assert list(run.folder.iterdir()) == []
    assert "WANDB_CACHE_DIR" not in os.environ
    assert capfd.readouterr() == ("", "")


def test_other_ranks_do_nothing(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clean.setattr(rank_zero_only, "rank", 1)
    logger = RunWandb(tmp_path / "run", "id", "name", "online")
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_hyperparams({"a": 1})
    logger.log_image("a", ["nowhere.png"])
    logger.best_in_summary("a", "max")
    logger.log_checkpoint(tmp_path / "nowhere.ckpt", {})
    logger.experiment.log({"a": 1})
    logger.finish(0)
    assert wandb.run is None
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_two_processes_give_one_run(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "zoo", "fit", "--config", "small.yaml", "--wandb", "offline"]
    command += ["--trainer.devices", "2", "--trainer.max_epochs", "1"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "ZOO_"))}
    environment |= {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path / "home")}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (result.stdout + result.stderr).count("W&B") == 1
    (segment,) = tmp_path.glob("runs/small/*/wandb/offline-run-*")
    rows = history(read(segment))
    assert [row["trainer/global_step"] for row in rows if "train/loss" in row] == [1, 2, 3]
    assert len([row for row in rows if "test/acc" in row]) == 1
    assert not list((tmp_path / "home").rglob("*wandb*"))
