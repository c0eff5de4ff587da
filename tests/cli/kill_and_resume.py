"""Kills a run at given steps with SIGKILL, goes on, and compares with the uninterrupted run.

Run by ``test_resume.py`` in a process of its own: it forks before torch has computed anything, so
that a run costs no new import of torch. Prints one JSON line for each kill.
"""

import csv
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image

import zoo.cli.verbs  # noqa: F401  imported before the fork, so that no child has to
from zoo.__main__ import main
from zoo.tasks import ImageClassifier

RECIPE = """
model:
  class_path: ImageClassifier
  init_args:
    net: {class_path: GoogLeNet, init_args: {dropout: 0.3}}
    schedule: one_cycle
    lr: 0.003
    ema_decay: 0.9
    mixup_alpha: 0.2
data:
  class_path: Digits
  init_args: {batch_size: 150, crop_padding: 1, cutout: 2, brightness: 0.2}
trainer: {max_epochs: 3, log_every_n_steps: 2, accelerator: cpu, devices: 1}
"""


def run(folder: Path, arguments: list[str], kill_at: int | None = None) -> int:
    """Runs the command line in a child process; notes the samples of every training batch."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        torch.set_num_threads(1)
        sys.argv = ["zoo", *arguments]
        with Path("log.txt").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            watch(kill_at)
            os._exit(main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def watch(kill_at: int | None) -> None:
    # Pictures are not drawn: that takes longer than all else.
    Figure.savefig = lambda self, path, **_: Image.new("L", (1, 1)).save(path)  # type: ignore[method-assign]
    original: Callable[..., Any] = ImageClassifier.training_step

    def training_step(self: ImageClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        if kill_at is not None and self.trainer.fit_loop.epoch_loop.total_batch_idx == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        with Path("samples.txt").open("a") as file:
            step = self.trainer.global_step
            file.write(json.dumps([self.current_epoch, step, batch.index.tolist()]) + "\n")
        loss: torch.Tensor = original(self, batch, batch_idx)
        return loss

    ImageClassifier.training_step = training_step  # type: ignore[method-assign]


def samples_by_step(folder: Path) -> dict[int, list[int]]:
    """Samples of each optimiser step that counted: a step done again replaces the first try."""
    lines = [json.loads(line) for line in (folder / "samples.txt").read_text().splitlines()]
    return {step: index for _, step, index in lines}


def rows(folder: Path) -> list[dict[str, str]]:
    (path,) = folder.glob("runs/*/*/metrics.csv")
    with path.open() as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.startswith("time/") and v} for row in found]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("runs/*/*/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    flat = {f"average.{name}": value for name, value in checkpoint["state_dict"].items()}
    return flat | checkpoint["current_model_state"]


def main_test(root: Path, jobs: list[dict[str, Any]]) -> None:
    references: dict[int, Path] = {}
    for number, job in enumerate(jobs):
        folder = root / f"job{number}"
        folder.mkdir(parents=True)
        common = ["fit", "--config", "killed.yaml", "--wandb", "off"]
        common += ["--data.num_workers", str(job["workers"])]
        if job["workers"] not in references:
            reference = references[job["workers"]] = root / f"whole{job['workers']}"
            reference.mkdir()
            (reference / "killed.yaml").write_text(RECIPE)
            assert run(reference, common) == 0, (reference / "log.txt").read_text()
        reference = references[job["workers"]]
        (folder / "killed.yaml").write_text(RECIPE)
        every = ["--checkpoint.every_n_train_steps", str(job["every"])]
        killed = run(folder, common + every, kill_at=job["step"])
        resumed = run(folder, [*common, *every, "--ckpt_path", "last"])
        result = {"job": job, "killed": killed, "resumed": resumed}
        if resumed == 0:
            whole, pieces = weights(reference), weights(folder)
            result["weights"] = whole.keys() == pieces.keys() and all(
                torch.equal(whole[name], pieces[name]) for name in whole
            )
            result["rows"] = rows(reference) == rows(folder)
            result["samples"] = samples_by_step(reference) == samples_by_step(folder)
        else:
            result["log"] = (folder / "log.txt").read_text()[-2000:]
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main_test(Path(sys.argv[1]), json.loads(sys.argv[2]))
