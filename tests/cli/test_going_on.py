"""Which run a command goes on with, and what ends a run that cannot be written."""

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.run.checkpoint_io import AtomicCheckpointIO
from zoo.run.folder import RunFolder
from zoo.tasks import ImageClassifier

Zoo = Callable[[str], Any]
FIT = "fit --config r.yaml --wandb off --model.net MLP --trainer.limit_train_batches 2 "


def runs() -> list[Path]:
    return sorted(Path("runs/r").iterdir())


def contents(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    original = ImageClassifier.training_step

    def training_step(self: ImageClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == step:
            action()
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ImageClassifier, "training_step", training_step)


def killed(zoo: Zoo, monkeypatch: pytest.MonkeyPatch, options: str = "") -> Path:
    """A run that ends in its second epoch as a killed one: without its summary."""

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    before = set(runs()) if Path("runs/r").exists() else set()
    with monkeypatch.context() as patch:
        at_step(patch, 2, kill)
        with pytest.raises(Killed):
            zoo(f"{FIT} --trainer.max_epochs 2 {options}")
    (run,) = set(runs()) - before
    return run


def test_last_is_the_newest_unfinished_run_of_the_same_data_and_net(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of other data, another net and finished ones are left as they are."""
    ours = killed(zoo, monkeypatch)
    others = [
        killed(zoo, monkeypatch, "--data.val_fraction 0.2"),
        killed(zoo, monkeypatch, "--model.net.dropout 0.5"),
    ]
    assert zoo(FIT).code == 0
    others += [run for run in runs() if run not in (ours, *others)]
    for number, run in enumerate([ours, *others]):  # made within a second, perhaps
        run.rename(run.with_name(str(number)))
    ours, others = Path("runs/r/0"), [Path(f"runs/r/{n}") for n in (1, 2, 3)]
    before = [contents(run) for run in others]
    (ours / "checkpoints" / ".last.ckpt.0123abcd.tmp").touch()
    same = "--data.val_fraction 0.1 --model.net.dropout 0.0 --trainer.max_epochs 2"
    ended = zoo(f"{FIT} --ckpt_path last {same}")
    assert ended.code == 0
    assert "run goes on in runs/r/0" in ended.out
    assert [contents(run) for run in others] == before
    assert not list(ours.rglob("*.tmp"))

    ended = zoo(f"{FIT} --ckpt_path last {same} --data.test_fraction 0.3")
    assert ended.code == 2
    assert "the run 'runs/r/2' had data.test_fraction 0.2, not 0.3 as here" in ended.err
    shutil.rmtree("runs/r/1")
    shutil.rmtree("runs/r/2")
    ended = zoo(f"{FIT} --ckpt_path last")
    assert ended.code == 2
    assert "all runs of 'r' have come to their end" in ended.err
    assert zoo(f"{FIT} --ckpt_path last --trainer.max_epochs 2").code == 0  # one more than 3 had
    assert json.loads((others[2] / "summary.json").read_text())["data_mark"]
    assert (others[2] / "summary.1.json").is_file()


def test_fewer_epochs_than_the_checkpoint_has_are_refused(zoo: Zoo) -> None:
    assert zoo(f"{FIT} --trainer.max_epochs 3").code == 0
    (run,) = runs()
    ended = zoo(f"{FIT} --trainer.max_epochs 1 --ckpt_path {run}/checkpoints/last.ckpt")
    assert ended.code == 2
    sentence = "zoo: option trainer.max_epochs is 1; give more, as the checkpoint is of epoch 3\n"
    assert ended.err.endswith(sentence)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ("--data.val_fraction 0.2", "had a train split of 1,258 samples ("),
        ("--data.split_seed 7", "had a train split of 1,258 samples ("),
        ("--model.net.dropout 0.5", "had model.net.dropout 0.0, not 0.5 as here"),
    ],
)
def test_a_runs_own_file_goes_on_with_its_data_and_net_alone(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, options: str, difference: str
) -> None:
    run = killed(zoo, monkeypatch)
    before = contents(run)
    ended = zoo(f"{FIT} --ckpt_path {run}/checkpoints/last.ckpt {options}")
    assert ended.code == 2
    assert f"; the run '{run}' {difference}" in ended.err
    assert contents(run) == before


def test_samples_that_changed_in_place_are_other_data(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    def write(first: int) -> None:
        draw = np.random.default_rng(0)
        arrays = {}
        for split in ("train", "val", "test"):
            images = draw.integers(0, 256, (40, 8, 8), dtype=np.uint8)
            images[0, 0, 0] = first
            arrays |= {f"{split}_images": images, f"{split}_labels": np.arange(40) % 2}
        np.savez("set.npz", **arrays)

    write(1)
    spec = "--data ImageNpz --data.path set.npz --data.batch_size 8"
    run = killed(zoo, monkeypatch, spec)
    write(2)
    ended = zoo(f"{FIT} --ckpt_path {run}/checkpoints/last.ckpt {spec}")
    assert ended.code == 2
    assert "had a train split of 40 samples (" in ended.err


def test_a_second_process_is_told_who_writes_the_run(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = killed(zoo, monkeypatch)
    first = RunFolder(run, resumed=True)
    first.open()
    try:
        before = contents(run)
        ended = zoo(f"{FIT} --ckpt_path last")
        assert contents(run) == before
    finally:
        first.close()
    assert ended.code == 2
    assert f"is being written by process {os.getpid()} on " in ended.err


def test_no_save_lies_inside_an_accumulation_window(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in a run that goes on, whose step is saved already: gradients would be lost."""
    batches: list[int] = []
    save = AtomicCheckpointIO.save_checkpoint

    def noted(self: Any, checkpoint: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        batches.append(progress["total"]["ready"])
        save(self, checkpoint, *args, **kwargs)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", noted)
    options = "--trainer.limit_train_batches 6 --trainer.accumulate_grad_batches 2"
    options += " --checkpoint.every_n_train_steps 1"
    killed(zoo, monkeypatch, options)
    assert zoo(f"{FIT} --trainer.max_epochs 2 {options} --ckpt_path last").code == 0
    assert [count % 2 for count in batches] == [0] * len(batches)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("what", ["moved", "replaced"])
def test_a_run_folder_that_is_gone_ends_the_run(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, what: str, step: int
) -> None:
    def lose() -> None:
        (run,) = Path("runs/r").iterdir()
        run.rename("moved")
        if what == "replaced":
            shutil.copytree("moved", run)

    at_step(monkeypatch, step, lose)
    ended = zoo(f"{FIT} --trainer.max_epochs 2 --checkpoint.every_n_train_steps 1")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "' was moved or removed while the run wrote into it; put it back" in ended.err


def test_a_limit_on_the_size_of_files_ends_the_run(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    small = (20_000, limits[1])
    try:
        with monkeypatch.context() as patch:
            at_step(patch, 3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, small))
            ended = zoo(f"{FIT} --trainer.max_epochs 2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.code == 1
    (run,) = runs()
    last = run / "checkpoints" / "last.ckpt"
    remedy = f".ckpt' cannot be written (File too large); make room for it, then go on with {last}"
    assert remedy.replace("with ", "with --ckpt_path ") in ended.err
    assert ended.err.count("\n") == 1
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert not list(run.rglob("*.tmp"))
    assert zoo(f"{FIT} --trainer.max_epochs 2 --ckpt_path last").code == 0


@pytest.mark.parametrize("name", ["metrics.csv", "summary.json", "last.ckpt"])
def test_a_full_disk_ends_the_run(zoo: Zoo, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    original = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if name in self.name and "r" not in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    ended = zoo(f"{FIT} --checkpoint.every_n_train_steps 1")
    assert ended.code == 1
    assert "cannot be written (No space left on device); make room for it, then " in ended.err
    assert ended.err.count("\n") == 1
