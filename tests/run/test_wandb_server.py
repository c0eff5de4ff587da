"""W&B's server in between: what arrives of a run, of an offline one sent later, of a sweep's."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

_spec = importlib.util.spec_from_file_location(
    "wandb_stand_in", Path(__file__).with_name("wandb_stand_in.py")
)
assert _spec is not None
assert _spec.loader is not None
stand_in = importlib.util.module_from_spec(_spec)
sys.modules["wandb_stand_in"] = stand_in
_spec.loader.exec_module(stand_in)

pytestmark = pytest.mark.slow  # each starts processes of its own

ROOT = Path(__file__).parents[2]
SMALL = [
    *("--model.net=MLP", "--trainer.max_epochs=1", "--trainer.limit_train_batches=3"),
    *("--trainer.limit_val_batches=2", "--trainer.limit_test_batches=2"),
    *("--trainer.log_every_n_steps=1", "--trainer.accelerator=cpu", "--trainer.devices=1"),
    "--trainer.enable_progress_bar=false",
]
FIT = ["fit", "resnet", *SMALL]


@pytest.fixture
def server() -> Iterator[Any]:
    found = stand_in.Server()
    yield found
    found.silent = False
    found.close()


class Zoo:
    """The command line in a folder, as a user without W&B's settings has it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        own = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "ZOO_"))}
        own.pop("NETRC", None)
        own |= {"HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        self.environment = own | environment

    def __call__(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run([sys.executable, "-m", "zoo", *words], **more)

    def run(self, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment | more, capture_output=True, text=True
        )

    def runs(self, recipe: str = "resnet") -> list[Path]:
        return sorted((self.folder / "runs" / recipe).iterdir())


def steps(server: Any, name: str) -> list[int]:
    rows = server.runs[name].rows()
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    return [row["trainer/global_step"] for row in rows if "train/loss" in row]


# -------------------------------------------------------------------------------- online


def test_what_arrives_of_a_run(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = Zoo(tmp_path, **server.environment())
    ended = zoo(*FIT, "--wandb_checkpoint", "true")
    assert (ended.returncode, ended.stderr) == (0, "")
    with capsys.disabled():
        print("", *server.arrived(), sep="\n")
    (folder,) = zoo.runs()
    ((name, run),) = server.runs.items()
    assert folder.name.endswith(name)
    assert run.exit_code == 0
    assert run.config["model"]["init_args"]["net"]["class_path"].endswith("MLP")
    assert run.config["understood"]["data"]["splits"]
    assert steps(server, name) == [1, 2, 3]
    assert {row["trainer/global_step"] for row in run.rows() if "test/acc" in row} == {3}
    figures = json.loads((folder / "summary.json").read_text())["test"]
    assert run.summary["test/acc"] == pytest.approx(figures["acc"])
    assert set(run.summary["val/acc"]) == {"max", "last"}
    picture = next(data for file, data in run.files.items() if "pictures/confusion" in file)
    assert picture == (folder / "confusion.png").read_bytes()
    assert {"config.yaml", "requirements.txt", "wandb-metadata.json"} < set(run.files)
    (model,) = [a for a in server.artifacts if a.given["artifactTypeName"] == "model"]
    assert model.state == "COMMITTED"
    assert "best" in model.aliases
    assert model.files["best.ckpt"] == (folder / "checkpoints" / "best.ckpt").read_bytes()
    assert json.loads(model.given["metadata"])["test"]["acc"] == figures["acc"]
    ((user, number),) = server.used
    assert user == name
    assert server.artifacts[number].given["artifactTypeName"] == "dataset"
    ended = zoo("sync", str(folder))
    assert ended.stdout.endswith(": was sent before\n"), ended.stderr
    assert len(run.sent) == len(set(run.sent))
    for mark in folder.glob("wandb/run-*/*.synced"):
        mark.unlink()  # as after an upload that was cut short
    ended = zoo("sync", str(folder))
    assert ended.returncode == 2
    assert f"W&B's run 'me/lightning-zoo/{name}' has rows of run-" in ended.stderr
    assert len(run.sent) == len(set(run.sent))


# -------------------------------------------------------------------------------- sync


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was kept offline, and went on once."""
    folder = tmp_path_factory.mktemp("kept")
    zoo = Zoo(folder)
    ended = zoo(*FIT, "--wandb", "offline")
    assert ended.returncode == 0, ended.stderr
    more = ["--ckpt_path", "last", "--trainer.max_epochs", "2", "--wandb", "offline"]
    ended = zoo(*FIT, *more)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture
def offline(kept: Path, server: Any, tmp_path: Path) -> Zoo:
    """The same, for a test to send."""
    shutil.copytree(kept / "runs", tmp_path / "runs", symlinks=True)
    return Zoo(tmp_path, **server.environment())


def test_sync_sends_what_is_offline_once_and_in_order(offline: Zoo, server: Any) -> None:
    (folder,) = offline.runs()
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2
    ended = offline("sync", "resnet:last")
    assert (ended.returncode, ended.stderr) == (0, "")
    ((name, run),) = server.runs.items()
    place = str(folder.relative_to(offline.folder))
    url = f"{server.url}/me/lightning-zoo/runs/{name}"
    assert ended.stdout.startswith(f"{place}: sending\n{place}: sent")
    assert ended.stdout.endswith(("sent\n", f"sent to {url}\n"))
    assert steps(server, name) == [1, 2, 3, 4, 5, 6]
    assert run.config["trainer"]["max_epochs"] == 2
    assert {path.name for path in offline.folder.iterdir()} <= {"home", "runs"}
    sent = list(run.sent)
    ended = offline("sync", place, "last")
    assert (ended.returncode, ended.stdout) == (0, f"{place}: was sent before\n")
    max(folder.glob("wandb/offline-run-*/*.synced")).unlink()  # as where the upload was cut short
    ended = offline("sync", place)
    assert ended.returncode == 2
    assert "has rows of offline-run-" in ended.stderr
    assert run.sent == sent


def test_sync_of_a_run_that_was_cut_off(offline: Zoo, server: Any) -> None:
    (folder,) = offline.runs()
    file = max(folder.glob("wandb/offline-run-*/*.wandb"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 3 // 4])
    ended = offline("sync", str(folder))
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(
        r"zoo: \S+\.wandb ends in the middle of a record, as its run was cut off; all before that "
        r"was sent\n",
        ended.stderr,
    )
    (run,) = server.runs.values()
    assert steps(server, next(iter(server.runs)))[:4] == [1, 2, 3, 4]
    sent = list(run.sent)
    assert offline("sync", str(folder)).stdout.endswith(": was sent before\n")
    assert run.sent == sent


def test_sync_refuses_what_is_no_run(offline: Zoo, server: Any) -> None:
    (offline.folder / "empty").mkdir()
    for name, words in {
        "empty": "'empty' is no run, as it has no recipe.yaml",
        "nowhere": "there is no folder 'nowhere'",
        "vgg:last": "there is no run of 'vgg' in 'runs'; `zoo fit` makes one",
    }.items():
        ended = offline("sync", name)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert words in ended.stderr
        assert ended.stderr.count("\n") == 1
    (folder,) = offline.runs()
    shutil.rmtree(folder / "wandb")
    ended = offline("sync", str(folder))
    assert ended.returncode == 2
    assert "has no files of W&B, as with --wandb off" in ended.stderr
    assert not server.asked


def test_sync_of_a_run_whose_id_has_another_recipe(offline: Zoo, server: Any) -> None:
    (folder,) = offline.runs()
    name = json.loads((folder / "wandb.json").read_text())["id"]
    config = {"model": {"class_path": "zoo.Other"}, "data": {"class_path": "datamodules.Digits"}}
    server.put_run(name, config)
    ended = offline("sync", str(folder))
    assert ended.returncode == 2
    assert "has another recipe (Other, Digits) than 'runs/resnet/" in ended.stderr
    assert not server.runs[name].sent


@pytest.mark.parametrize("status", [401, 403])
def test_sync_to_a_server_that_refuses(offline: Zoo, server: Any, status: int) -> None:
    (folder,) = offline.runs()
    server.refused["upsertBucket"] = status
    ended = offline("sync", str(folder))
    assert ended.returncode == 2
    assert f"W&B does not take the run 'runs/resnet/{folder.name}'" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not list(folder.glob("wandb/*/*.synced"))
    server.refused.clear()
    assert offline("sync", str(folder)).returncode == 0
    assert steps(server, next(iter(server.runs))) == [1, 2, 3, 4, 5, 6]


def test_sync_without_login_or_server(offline: Zoo, server: Any) -> None:
    (folder,) = offline.runs()
    ended = offline("sync", str(folder), WANDB_API_KEY="")
    assert ended.returncode == 2
    assert "nothing was sent to W&B (not logged in); `wandb login` logs in" in ended.stderr
    server.silent = True
    ended = offline("sync", str(folder))
    assert ended.returncode == 2
    assert "does not answer: timed out); try again later" in ended.stderr


# -------------------------------------------------------------------------------- sweeps of W&B


SWEEP = """\
method: grid
metric: {name: val/acc, goal: maximize}
parameters:
  model.lr: {values: [0.1, 0.01, 0.001]}
command: [zoo, fit, resnet, OPTIONS, "${args}"]
"""


def agent(zoo: Zoo, sweep: str) -> tuple[str, subprocess.CompletedProcess[str]]:
    """Make a sweep and let one agent run it."""
    (zoo.folder / "sweep.yaml").write_text(sweep.replace("OPTIONS", ", ".join(SMALL)))
    made = zoo.run(["wandb", "sweep", "--project", "lightning-zoo", "sweep.yaml"])
    found = re.search(r"wandb agent (\S+)", made.stdout + made.stderr)
    assert found is not None, made.stderr
    return found[1].split("/")[-1], zoo.run(["wandb", "agent", found[1]])


def test_three_runs_of_a_sweep_through_the_agent(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = Zoo(tmp_path, **server.environment())
    name, ended = agent(zoo, SWEEP)
    with capsys.disabled():
        print("", *server.arrived(), sep="\n")
    assert ended.returncode == 0, ended.stderr
    rates = {}
    for run, received in server.runs.items():
        assert received.fields["sweep"] == name
        assert received.exit_code == 0
        rates[run] = received.config["model.lr"]
        assert received.config["model"]["init_args"]["lr"] == rates[run]
        assert steps(server, run) == [1, 2, 3]
        assert "max" in received.summary["val/acc"]
    assert list(rates.values()) == [0.1, 0.01, 0.001]
    folders = {json.loads((f / "wandb.json").read_text())["id"]: f for f in zoo.runs()}
    assert set(folders) == set(rates)
    first = folders[next(iter(rates))]
    more = [*SMALL, "--model.lr", "0.1", "--trainer.max_epochs", "2"]
    ended = zoo("fit", "resnet", "--ckpt_path", str(first / "checkpoints" / "last.ckpt"), *more)
    assert ended.returncode == 0, ended.stderr
    assert steps(server, next(iter(rates))) == [1, 2, 3, 4, 5, 6]
    assert len(server.runs) == 3


def test_a_sweep_of_an_option_that_no_class_has(server: Any, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path, **server.environment())
    _, ended = agent(zoo, SWEEP.replace("model.lr", "model.learning_rat"))
    said = ended.stdout + ended.stderr
    assert said.count("zoo: option --model.learning_rat") == 3, said
    assert not server.runs


# -------------------------------------------------------------------------------- names and rights


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """No login, and W&B as if just imported."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


def log(folder: Path, config: dict[str, Any] | None = None) -> None:
    """A run of two steps."""
    from zoo.run.wandb_logger import RunWandb

    folder.mkdir()
    logger = RunWandb(folder, "own-id", "name", "auto")
    logger.start()
    logger.log_hyperparams(config or {"a": 1})
    logger.log_metrics({"train/loss": 1.0}, 1)
    logger.log_metrics({"train/loss": 0.5}, 2)
    logger.finish(0)


@pytest.mark.parametrize("project", [*(f"a{sign}" for sign in "/\\#?%:"), "a" * 129])
def test_a_project_that_wandb_refuses(
    clean: pytest.MonkeyPatch,
    server: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    project: str,
) -> None:
    for name, value in (server.environment() | {"WANDB_PROJECT": project}).items():
        clean.setenv(name, value)
    log(tmp_path / "run")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("W&B: failed (")
    assert f"Invalid project name {project!r}" in err
    assert err.endswith("; training goes on without it\n")
    assert err.count("\n") == 1
    assert not server.runs


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_an_entity_without_rights(
    clean: pytest.MonkeyPatch,
    server: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    status: int,
) -> None:
    server.refused["upsertBucket"] = status
    for name, value in (server.environment() | {"WANDB_ENTITY": "others"}).items():
        clean.setenv(name, value)
    log(tmp_path / "run")
    out, err = capfd.readouterr()
    assert out.startswith("W&B: offline (the server refused: ")
    assert (out.count("\n"), err) == (1, "")
    assert list(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))
    assert not server.runs


def test_a_server_that_drops_connections(
    clean: pytest.MonkeyPatch, server: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.dropping = True
    for name, value in server.environment().items():
        clean.setenv(name, value)
    log(tmp_path / "run")
    out, err = capfd.readouterr()
    assert out.startswith("W&B: offline (")
    assert (out.count("\n"), err) == (1, "")


@pytest.mark.parametrize("same", [True, False])
def test_a_run_id_that_another_recipe_has(
    clean: pytest.MonkeyPatch,
    server: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    same: bool,
) -> None:
    config = {"model": {"class_path": "zoo.A"}, "data": {"class_path": "B"}}
    server.put_run("taken", config)
    for name, value in (server.environment() | {"WANDB_RUN_ID": "taken"}).items():
        clean.setenv(name, value)
    log(tmp_path / "run", config if same else config | {"data": {"class_path": "C"}})
    _, err = capfd.readouterr()
    place = json.loads((tmp_path / "run" / "wandb.json").read_text())
    if same:
        assert err == ""
        assert place["id"] == "taken"
        assert steps(server, "taken") == [1, 2]
        return
    url = f"{server.url}/me/lightning-zoo/runs/own-id"
    assert err == (
        f"W&B: the run 'taken' has another recipe (A, B), so this one goes to {url}; unset "
        "WANDB_RUN_ID\n"
    )
    assert place["id"] == "own-id"
    assert not server.runs["taken"].sent
    assert server.runs["taken"].config == config
    assert steps(server, "own-id") == [1, 2]
