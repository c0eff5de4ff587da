"""Several processes: what torchrun and SLURM ask for, agreed stops, lost ones."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.core.errors import OptionError
from zoo.run.launch import devices_of_launcher, launched

WORKER = Path(__file__).parents[1] / "cli" / "several_processes.py"
RECIPE = """
model:
  class_path: ImageClassifier
  init_args: {net: {class_path: MLP}}
data: {class_path: Digits, init_args: {batch_size: 200}}
trainer:
  {max_epochs: 2, accelerator: cpu, enable_progress_bar: false, accumulate_grad_batches: 2}
"""


def run(folder: Path, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
    for number, job in enumerate(jobs):
        place = job.setdefault("folder", str(folder / str(number)))
        Path(place).mkdir(exist_ok=True)
        (Path(place) / "r.yaml").write_text(RECIPE)
        extra = job.pop("extra", "").split()
        job["command"] = ["fit", "--config", "r.yaml", "--wandb", "off", *extra]
        job.setdefault("processes", 2)
        job.setdefault("batch", -1)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        [sys.executable, str(WORKER), json.dumps(jobs)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def last(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("runs/*/*/checkpoints/last.ckpt")
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


# As another program, torchrun say, starts them.
@pytest.mark.timeout(900)
def test_processes_share_a_folder(tmp_path: Path) -> None:
    (whole,) = run(tmp_path, {"extra": "--trainer.max_epochs 1"})
    assert whole["codes"] == [0, 0], whole["logs"]
    assert whole["logs"][1] == ""
    assert len(list(tmp_path.glob("0/runs/*/*"))) == 1


# A signal to one of two, in the 3rd batch, at which an accumulation window begins.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_processes_stop_at_one_step_and_go_on(tmp_path: Path) -> None:
    place = {"folder": str(tmp_path / "1")}
    whole, cut, resumed = run(
        tmp_path,
        {},
        {"batch": 2, "by": 1, "signals": [(signal.SIGUSR1, 1, 0)], **place},
        {"extra": "--ckpt_path last", **place},
    )
    assert whole["codes"] == resumed["codes"] == [0, 0], whole["logs"]
    assert cut["codes"] == [138, 138], cut["logs"]
    assert "go on with --ckpt_path" in cut["logs"][0]
    assert cut["logs"][1] == ""
    pieces, reference = last(tmp_path / "1"), last(tmp_path / "0")
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(pieces[part], reference[part], rtol=0, atol=0)


STOP, TERM = signal.SIGSTOP, signal.SIGTERM
LONG = "--checkpoint.stop_seconds 3600"
SHORT = " --checkpoint.stop_seconds 16"
TIMEOUT = "--trainer.strategy DDPStrategy --trainer.strategy.timeout 0:00:08"


# By what happens: the rank that is lost, and the exit code of the other.
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_lost_process_ends_all_with_one_sentence(tmp_path: Path) -> None:
    cases = [
        ({"signals": [(signal.SIGKILL, 1, 0)]}, 1, 1, "gone"),
        ({"signals": [(signal.SIGKILL, 0, 0)], "by": 1}, 0, 1, "gone"),
        ({"signals": [(STOP, 1, 0)]}, 1, 1, "not answered"),
        ({"signals": [(STOP, 0, 0)], "by": 1}, 0, 1, "not answered"),
        ({"signals": [(STOP, 1, 0), (TERM, 0, 0.2)]}, 1, 143, "not answered"),
        ({"hang": 1}, 1, 1, "has stood still at several_processes.py:"),
        ({"hang": 0}, 0, 1, "has stood still at several_processes.py:"),
        ({"spin": 1, "extra": TIMEOUT}, 1, 1, "did not come"),
    ]
    results = run(
        tmp_path, *({"batch": 4, **job, "extra": job.get("extra", "") + SHORT} for job, *_ in cases)
    )
    for result, (job, lost, code, why) in zip(results, cases, strict=True):
        assert result["codes"][1 - lost] == code, (job, result)
        assert result["codes"][lost] in (-signal.SIGKILL, 1), job
        said = [line for log in result["logs"] for line in log.splitlines() if "rank" in line]
        assert len(said) == 1, said
        assert f"zoo: rank {lost} of 2 " in said[0]
        assert why in said[0]
        assert "Traceback" not in "".join(result["logs"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_second_signal_ends_a_run_of_which_a_process_is_stopped(tmp_path: Path) -> None:
    signals = [(STOP, 1, 0), (TERM, 0, 0.2), (TERM, 0, 1.5)]
    (result,) = run(tmp_path, {"batch": 4, "signals": signals, "extra": LONG})
    assert result["codes"] == [143, -signal.SIGKILL], result["logs"]
    assert "zoo: stopped; " in result["logs"][0]


def torchrun(monkeypatch: pytest.MonkeyPatch, size: int, per_node: int) -> None:
    for name, value in {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": per_node}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")


def test_devices_are_what_torchrun_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() is None
    assert devices_of_launcher("auto", 1) == {}
    torchrun(monkeypatch, 4, 2)
    for devices, taken in [("auto", 2), (-1, 2), (2, 2), ("2", "2"), ([4, 5], [4, 5])]:
        assert devices_of_launcher(devices, 1) == {"devices": taken, "num_nodes": 2}
    with pytest.raises(
        OptionError, match=r"trainer.devices is 1; leave it out: torchrun started 2"
    ):
        devices_of_launcher(1, 1)
    with pytest.raises(OptionError, match=r"trainer.num_nodes is 3; leave it out: torchrun"):
        devices_of_launcher("auto", 3)
    torchrun(monkeypatch, 1, 1)
    assert devices_of_launcher("auto", 1) == {}


def test_devices_are_what_slurm_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": "8", "NNODES": "2", "JOB_NAME": "train"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    assert devices_of_launcher("auto", 1) == {"devices": 4, "num_nodes": 2}
    assert os.environ["SLURM_NTASKS_PER_NODE"] == "4"
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
