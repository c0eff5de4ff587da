"""``zoo sweep``: what a sweep leaves, what it does after a failure, a stop and a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml

BASE = """\
model:
  class_path: ImageClassifier
  init_args: {net: {class_path: MLP, init_args: {widths: [16]}}, lr: 0.01}
data: {class_path: Digits, init_args: {batch_size: 64}}
trainer:
  {max_epochs: 2, limit_train_batches: 2, limit_val_batches: 2, limit_test_batches: 1,
   accelerator: cpu, enable_progress_bar: false, log_every_n_steps: 1}
"""
STUDY: dict[str, Any] = {
    "base": "tiny",
    "options": {"wandb": "off"},
    "vary": {"model.lr": [0.01, 0.1]},
    "metric": "val/acc",
    "mode": "max",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(BASE)
    return tmp_path


def write(**changes: Any) -> None:
    Path("mine.yaml").write_text(yaml.safe_dump(STUDY | changes))


def rows(name: str) -> list[dict[str, str]]:
    with Path("runs/mine", name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def runs() -> list[Path]:
    return sorted(path.parent for path in Path("runs/mine").glob("*/recipe.yaml"))


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def test_a_grid_leaves_tables_a_picture_and_the_runs_of_fit(zoo) -> None:
    write(vary={"model.lr": [0.1]}, seeds=[0, 1])
    threads, argv = torch.get_num_threads(), list(sys.argv)
    ended = zoo("sweep --config mine.yaml")
    assert ended.code == 0
    assert (torch.get_num_threads(), sys.argv) == (threads, argv)
    assert "WANDB_RUN_GROUP" not in os.environ
    trials = rows("trials.csv")
    assert [(row["lr"], row["seed"]) for row in trials] == [("0.1", "0"), ("0.1", "1")]
    assert len(runs()) == 2
    for row in trials:
        run = Path("runs/mine", row["run"])
        assert row["run"].startswith(f"lr={row['lr']},seed={row['seed']}-")
        assert float(row["val/acc"]) == summary(run)["val/acc"]
        assert row["steps"] == "4"
        assert summary(run)["test"] == {}  # a grid leaves the test alone
        assert (run / "checkpoints" / "best.ckpt").is_file()
        assert summary(run)["command"].startswith("zoo fit --config tiny.yaml ")
    (mean,) = rows("table.csv")
    values = [float(row["val/acc"]) for row in trials]
    assert float(mean["val/acc"]) == pytest.approx(sum(values) / 2)
    assert float(mean["val/acc ± sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert mean["seeds"] == "2"
    assert Path("runs/mine/picture.png").is_file()
    assert "Every run:" in Path("runs/mine/table.md").read_text()

    again = zoo("sweep --config mine.yaml")
    assert again.code == 0
    assert len(runs()) == 2
    said, table = again.out.split("\n", 1)
    assert said.startswith("all 2 runs are there already")
    assert ended.out.endswith(table)
    assert "val/acc ± sd" in table

    # What fit leaves for the same command, but for the test.
    assert zoo(summary(runs()[0])["command"].removeprefix("zoo ")).code == 0
    (alone,) = (path.parent for path in Path("runs/tiny").glob("*/summary.json"))
    assert summary(alone)["val/acc"] == summary(runs()[0])["val/acc"]
    assert summary(alone)["test"] != {}
    assert {path.name for path in runs()[0].iterdir()} <= {path.name for path in alone.iterdir()}


def test_a_run_that_fails_is_recorded_and_the_rest_goes_on(zoo) -> None:
    write(vary={"model.net.widths": [[0], [8]]}, test=True)
    ended = zoo("sweep mine")
    assert ended.code == 1
    assert "1 of 2 runs failed" in ended.err
    failed, done = rows("trials.csv")
    assert failed["state"] == "failed"
    assert "widths" in failed["error"]
    assert failed["val/acc"] == ""
    assert float(done["test/acc"]) == summary(Path("runs/mine", done["run"]))["test"]["acc"]
    assert [row.get("failed") for row in rows("table.csv")] == ["1", ""]
    again = zoo("sweep mine")
    assert again.code == 1
    assert "all 2 runs are there already; remove runs/mine to have them run again" in again.out
    assert len(runs()) == 1
    retried = zoo("sweep mine --retry")
    assert "1 of 2 runs are there already" in retried.out
    assert "widths" in retried.err


@pytest.mark.slow
def test_what_failed_in_mid_training_is_tried_again_from_the_start(zoo) -> None:
    write(vary={"model.lr": [1e30]}, seeds=[0])
    words = "sweep mine --model.optimizer sgd --checkpoint.every_n_train_steps 1"
    assert zoo(words).code == 1
    assert [*Path("runs/mine").glob("lr=*/checkpoints/last.ckpt")]
    again = zoo(f"{words} --retry")
    assert again.code == 1
    assert "run in" in again.out
    assert "goes on" not in again.out
    assert len(list(Path("runs/mine").glob("lr=*"))) == 2


@pytest.mark.slow
def test_a_search_tests_its_winner_once(zoo) -> None:
    write(
        vary={"model.lr": {"log_uniform": [0.001, 0.1]}},
        trials=2,
        sampler="random",
        pruner="median",
    )
    ended = zoo("sweep mine")
    assert ended.code == 0
    (tested,) = (path.parent for path in Path("runs/mine").glob("test-*/summary.json"))
    trained = [run for run in runs() if run != tested]
    assert all(summary(run)["test"] == {} for run in trained)
    best, other = rows("table.csv")
    assert float(best["val/acc"]) >= float(other["val/acc"])
    assert best["run"] in summary(tested)["checkpoint"]
    assert f"its test, read once: acc {summary(tested)['test']['acc']:.4f}" in ended.out
    assert zoo("sweep mine --trials 3").code == 0
    assert len(rows("table.csv")) == 3
    assert len(list(Path("runs/mine").glob("test-*"))) == 1


def test_what_is_wrong_is_told_before_anything_is_written(refused) -> None:
    write(base="tinny")
    refused("sweep mine", "option base is 'tinny'", "did you mean 'tiny'?")
    write(vary={"model.learning": [1]})
    refused("sweep mine", "--model.learning is not known")
    write()
    refused("sweep mine --jobs 0", "--jobs")
    refused("sweep mine --model.lr 3", "--model.lr is varied by the study")
    refused("sweep mine --trainer.max_epoch 3", "did you mean --trainer.max_epochs?")
    refused("sweep mine --storage sqlite:///no/such/file.db", "--storage", "a folder that is there")
    refused("sweep mine --config unheard_of", "unheard_of")
    refused("sweep nofile.yaml", "no study 'nofile.yaml'", "`zoo list studies`")
    refused("sweep hubr", "no study 'hubr'", "(did you mean 'huber'?)")
    refused("sweep mine --trainer.max_epochs 1 two", "start with two dashes, unlike 'two'")
    refused("sweep --config mine --trainer.max_epoch 3", "did you mean --trainer.max_epochs?")


def test_two_sweeps_do_not_share_a_folder(zoo, refused) -> None:
    write(vary={"model.lr": [0.01]})
    assert zoo("sweep mine").code == 0
    refused("sweep mine --seeds [3]", "has seeds [0], not [3] as here", "runs/mine")
    write(vary={"model.lr": [0.02]})
    refused("sweep mine", "has vary.model.lr [0.01], not [0.02] as here")
    write(vary={"model.lr": [0.01]})
    refused("sweep mine --model.weight_decay 0.5", "has flags.model.weight_decay")


def test_help_shows_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    from zoo.__main__ import main

    with pytest.raises(SystemExit, match="0"):
        main(["help", "sweep"])
    shown = capsys.readouterr().out
    assert "vary:" in shown
    assert "--storage URL" in shown


# ------------------------------------------------------------------- in processes of their own

LONG = {
    "options": STUDY["options"] | {"trainer.max_epochs": 60, "trainer.enable_progress_bar": True}
}


def start(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "zoo", "sweep", "mine", *words]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"it ended without {words!r}: {process.communicate()[1]}")


def figures() -> list[tuple[str, str, str]]:
    return [(row["lr"], row["val/acc"], row["steps"]) for row in rows("trials.csv")]


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_after_a_kill_or_a_stop_it_ends_as_one_that_was_not_disturbed(zoo, kill: int) -> None:
    write(**LONG)
    process = start()
    wait_for(process, "--- 2 of 2")
    wait_for(process, "epoch 5/60")
    process.send_signal(kill)
    _, err = process.communicate()
    assert process.returncode == (-kill if kill == signal.SIGKILL else 128 + kill)
    if kill == signal.SIGINT:
        assert "stopped with 1 of 2 runs done; the same command goes on" in err
    first = runs()
    assert len(first) == 2
    again = zoo("sweep mine")
    assert again.code == 0
    assert "--- 1 of 2" not in again.out
    assert "epoch 1/60" not in again.out  # it went on in its folder
    assert runs() == first
    disturbed = figures()
    assert zoo("sweep mine --trainer.default_root_dir other").code == 0
    Path("runs").rename("disturbed")
    Path("other").rename("runs")
    assert figures() == disturbed


@pytest.mark.slow
def test_processes_share_a_grid_by_a_storage_and_by_jobs(zoo, folder: Path) -> None:
    write(seeds=[0, 1])
    url = f"sqlite:///{folder}/shared.db"
    both = [start("--storage", url, "--jobs", "2"), start("--storage", url)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    begun = [line for out, _ in outputs for line in out.splitlines() if line.startswith("--- ")]
    assert sorted(begun) == sorted(set(begun))
    assert len(begun) == len(runs()) == 4
    study = optuna.load_study(study_name="mine", storage=url)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert len(rows("trials.csv")) == 4


def inspected(run: Path, *words: str) -> list[dict[str, Any]]:
    """What W&B itself reads of a run that was kept offline."""
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", *words, "--json", run]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    text = result.stdout
    return [json.loads(text)] if words else [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_wandb_has_a_group_of_the_runs_and_a_summary(zoo, monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    write(options={"wandb": "offline"})
    assert zoo("sweep mine").code == 0
    segments = [path.parent for path in Path("runs/mine").glob("**/*.wandb")]
    groups = [r["run"]["run_group"] for s in segments for r in inspected(s) if r["type"] == "run"]
    assert groups == ["mine"] * 3
    found = {each["name"]: each for (each,) in (inspected(s, "--summary") for s in segments)}
    last = found.pop("mine-summary")
    assert sorted(each["config"]["varied"]["lr"] for each in found.values()) == [0.01, 0.1]
    assert all(each["config"]["model"]["init_args"]["lr"] for each in found.values())
    assert last["config"]["study"]["vary"] == {"model.lr": [0.01, 0.1]}
    assert last["summary"]["table"]["nrows"] == 2
    assert last["summary"]["picture"]["_type"] == "images/separated"
