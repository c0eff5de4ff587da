"""Kills runs with SIGKILL, goes on twice, and compares with the uninterrupted runs.

By hand, 64 kills of six nets: ``OMP_NUM_THREADS=1 python tests/cli/kill_and_resume.py FOLDER`` (the
threads of all runs are to be the same, whatever else is at work); with a number behind it, the
first so many; with ``signals``, 40 signals that let a run save. ``test_resume.py`` gives its own
few. It forks before torch has computed anything, so that a run costs no new import of torch. Prints
one JSON line for each job.
"""

import csv
import io
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy
from matplotlib.figure import Figure
from PIL import Image

import zoo.cli.verbs  # noqa: F401  imported before the fork, so that no child has to
from datamodules.core.protocols import sample_numbers
from zoo.__main__ import main
from zoo.run.csv_logger import MetricsCSV

SHORT = (
    "--wandb off --trainer.accelerator cpu --trainer.devices 1 --trainer.precision 32 "
    "--trainer.enable_progress_bar false --trainer.max_epochs 3 --trainer.log_every_n_steps 2 "
)
SIX = (
    "--trainer.limit_train_batches 6 --trainer.limit_val_batches 2 --trainer.limit_test_batches 2 "
)
TEXT = "--data.tokenizer byte --data.max_length 16 --data.batch_size 8 --model.net.embedding_dim 32"
#: What is trained: with accumulation, averaged weights, workers, and validation inside epochs.
KINDS = {
    "inception": (
        "--config inception --model.net.dropout 0.3 --model.schedule one_cycle --model.lr 0.003 "
        "--model.ema_decay 0.9 --model.mixup_alpha 0.2 --data.batch_size 150 --data.cutout 2"
    ),
    "mlp": f"--config mlp {SIX} --model.ema_decay 0.9 --trainer.accumulate_grad_batches 2",
    "resnet": f"--config resnet {SIX} --data.num_workers 2",
    "unet": (
        f"--config unet {SIX} --model.net.depth 2 --model.net.width 4 --data.batch_size 4 "
        "--trainer.accumulate_grad_batches 3 --model.ema_decay 0.9"
    ),
    "lstm": (
        f"--config lstm {SIX} --model.net.hidden_size 16 --data.max_length 20 --data.num_workers 2 "
        "--trainer.val_check_interval 3 --data.batch_size 16"
    ),
    "gpt": (
        f"--config gpt {SIX} {TEXT} --model.net.num_layers 2 --model.ema_decay 0.9 "
        "--trainer.accumulate_grad_batches 2"
    ),
    "rnn_lm": f"--config rnn_lm {SIX} {TEXT} --model.net.hidden_size 16",
}
#: Where a run is killed, and from which to which time that it comes there: at first, and again.
PLACES = {
    "step": ((7, 14), (1, 4)),  # once something is saved, and before the end
    "save": ((2, 3), (1, 1)),
    "validation": ((3, 6), (1, 2)),
    "test": ((1, 2), (1, 2)),
    "csv": ((4, 7), (1, 2)),
}


SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


def jobs_by_hand(count: int, signals: tuple[str, ...] = ("SIGKILL",)) -> list[dict[str, Any]]:
    """Signals at all places in all nets, two a job, in a mixed order."""
    draw = random.Random(20261126)
    kinds = [kind for kind in KINDS if kind != "inception"]
    jobs = []
    for number in range(count):
        place = list(PLACES)[number % len(PLACES)]
        at = [draw.randint(*bounds) for bounds in PLACES[place]]
        job = {"kind": kinds[number % len(kinds)], "place": place, "at": at}
        job["signals"] = [signals[(number + k) % len(signals)] for k in (0, 1)]
        jobs.append(job | {"every": draw.choice([1, 2])})
    return jobs


def run(
    folder: Path, arguments: list[str], place: str = "", at: int = 0, name: str = "SIGKILL"
) -> int:
    """Runs the command line in a child process; notes the samples of every training batch."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        torch.set_num_threads(1)
        sys.argv = ["zoo", *arguments]
        with Path("log.txt").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            watch(place, at, signal.Signals[name])
            os._exit(main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def watch(place: str, at: int, number: signal.Signals) -> None:
    # Pictures are not drawn: that takes longer than all else.
    Figure.savefig = lambda self, path, **_: Image.new("L", (1, 1)).save(path)  # type: ignore[method-assign]
    came = 0

    def is_due(here: str) -> bool:
        nonlocal came
        came += here == place
        return here == place and came == at

    def stop() -> None:
        os.kill(os.getpid(), number)

    steps = {"step": "training_step", "validation": "validation_step", "test": "test_step"}
    for here, name in steps.items():
        setattr(Strategy, name, stepped(here, getattr(Strategy, name), is_due, stop))

    save, log = torch.save, MetricsCSV.log_metrics

    def half_saved(checkpoint: Any, file: Any) -> None:
        due = is_due("save")
        if due and number != signal.SIGKILL:
            stop()
        elif due:
            whole = io.BytesIO()
            save(checkpoint, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            stop()
        save(checkpoint, file)

    def half_logged(self: MetricsCSV, *args: Any, **kwargs: Any) -> None:
        log(self, *args, **kwargs)
        if is_due("csv"):
            if number == signal.SIGKILL:
                os.truncate(self.path, self.path.stat().st_size - 9)
            stop()

    torch.save = half_saved  # type: ignore[assignment]
    MetricsCSV.log_metrics = half_logged  # type: ignore[method-assign]


def stepped(
    here: str, original: Callable[..., Any], is_due: Callable[[str], bool], stop: Callable[[], None]
) -> Callable[..., Any]:
    def step(self: Strategy, batch: Any, batch_idx: int = 0, *args: Any) -> Any:
        if is_due(here):
            stop()
        if here == "step":
            task = self.lightning_module
            numbers = sample_numbers(batch)
            assert task is not None
            assert numbers is not None
            with Path("samples.txt").open("a") as file:
                place = [task.current_epoch, batch_idx]
                file.write(json.dumps([place, numbers.tolist()]) + "\n")
        return original(self, batch, batch_idx, *args)

    return step


def samples_by_place(folder: Path) -> dict[str, list[int]]:
    """Samples of each batch that counted: one done again replaces the first try."""
    lines = [json.loads(line) for line in (folder / "samples.txt").read_text().splitlines()]
    return {str(place): numbers for place, numbers in lines}


def rows(folder: Path) -> list[dict[str, str]]:
    (path,) = folder.glob("runs/*/*/metrics.csv")
    with path.open() as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.startswith("time/") and v} for row in found]


def tensors(node: Any, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by their places: weights, averages, the optimiser's state."""
    if isinstance(node, torch.Tensor):
        return {name: node}
    items = node.items() if isinstance(node, dict) else enumerate(node)
    nested = [
        tensors(v, f"{name}.{k}") for k, v in items if isinstance(v, dict | list | torch.Tensor)
    ]
    return {place: tensor for each in nested for place, tensor in each.items()}


def weights(folder: Path, which: str) -> dict[str, torch.Tensor]:
    (path,) = folder.glob(f"runs/*/*/checkpoints/{which}.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    parts = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")
    return tensors({part: checkpoint[part] for part in parts if part in checkpoint})


def test_figures(folder: Path) -> Any:
    (path,) = folder.glob("runs/*/*/summary.json")
    return json.loads(path.read_text())["test"]


def compare(reference: Path, folder: Path) -> dict[str, bool]:
    same = {}
    for which in ("last", "best"):
        whole, pieces = weights(reference, which), weights(folder, which)
        same[which] = whole.keys() == pieces.keys() and all(
            torch.equal(whole[name], pieces[name]) for name in whole
        )
    same["rows"] = rows(reference) == rows(folder)
    same["samples"] = samples_by_place(reference) == samples_by_place(folder)
    same["test"] = test_figures(reference) == test_figures(folder)
    return same


def main_test(root: Path, jobs: list[dict[str, Any]]) -> None:
    os.environ["ZOO_CACHE"] = str(root / "cache")
    for number, job in enumerate(jobs):
        folder = root / f"job{number}"
        folder.mkdir(parents=True)
        fit = f"fit {KINDS[job['kind']]} {SHORT} {job.get('options', '')}".split()
        reference = root / f"whole-{job['kind']}{job.get('options', '').replace(' ', '')}"
        if not reference.exists():
            reference.mkdir()
            assert run(reference, fit) == 0, (reference / "log.txt").read_text()
        fit += ["--checkpoint.every_n_train_steps", str(job["every"])]
        last: list[str] = []
        codes = []
        signals = job.get("signals", ["SIGKILL"] * len(job["at"]))
        for at, name in zip(job["at"], signals, strict=True):
            codes.append(run(folder, fit + last, job["place"], at, name))
            last = ["--ckpt_path", "last"]
        codes.append(run(folder, fit + last))
        result: dict[str, Any] = {"job": job, "codes": codes}
        if codes[-1] == 0:
            result["same"] = compare(reference, folder)
        else:
            result["log"] = (folder / "log.txt").read_text()[-2000:]
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    given = sys.argv[2] if len(sys.argv) > 2 else "64"
    if given == "signals":
        chosen = jobs_by_hand(20, SIGNALS)
    else:
        chosen = jobs_by_hand(int(given)) if given.isdigit() else json.loads(given)
    main_test(Path(sys.argv[1]), chosen)
