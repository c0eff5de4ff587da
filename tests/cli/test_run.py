"""What a run leaves behind, what it prints, and how it ends."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import datamodules
from zoo.catalog.contents import KINDS, exports
from zoo.tasks import ImageClassifier

Zoo = Callable[[str], Any]

SMALL = """
model:
  class_path: ImageClassifier
  init_args: {net: {class_path: GoogLeNet, init_args: {dropout: 0.1}}}
data: {class_path: Digits, init_args: {batch_size: 100, crop_padding: 1}}
trainer:
  {max_epochs: 2, limit_train_batches: 4, accelerator: cpu, devices: 1, log_every_n_steps: 2}
"""


def small(text: str = SMALL) -> None:
    Path("small.yaml").write_text(text)


def the_run(recipe: str = "small") -> Path:
    (found,) = Path("runs", recipe).iterdir()
    return found


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in found]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        ["list"],
        ["list", "recipes"],
        ["list", "nets"],
        ["list", "data", "MedMNIST"],
        ["list", "--json"],
        ["help", "GoogLeNet"],
        ["help", "norm"],
        ["fit", "inception", "--help"],
        ["fit", "--model.net.help", "ResNet"],
        ["predict", "--help"],
    ],
)
def test_quick_answers_import_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from zoo.__main__ import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'lightning', 'numpy'} & set(sys.modules); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_list_says_what_there_is(zoo: Zoo) -> None:
    everything = zoo("list").out
    for name in ("GoogLeNet", "ImageClassifier", "CIFAR10", "cifar10/inception"):
        assert name in everything
    assert zoo("list recipes cifar*").out.split()[1] == "cifar10/inception"
    assert zoo("list nets goog*").out.startswith("nets:\n  GoogLeNet")
    assert zoo("list --foo").err == "zoo: option --foo is not known; see `zoo list --help`\n"
    assert zoo("list a b").err == (
        f"zoo: list takes no 'b' beside 'a'; give one of {', '.join(KINDS)} and a pattern, "
        "or either\n"
    )
    assert zoo("list nets nothing*").code == 2


def test_list_shows_under_which_terms_data_may_be_used(zoo: Zoo) -> None:
    kinds = [getattr(datamodules, name) for name, _ in exports("data")]
    stated = [kind for kind in kinds if isinstance(vars(kind).get("licence"), str)]
    assert len(stated) >= 6
    for kind in stated:
        shown = zoo(f"list data {kind.__name__}").out
        assert f"\nLicence: {kind.licence}\n" in shown
        assert f"\nCitation: {kind.citation}\n" in shown
    shown = zoo("list data medmnist").out
    assert "\nbreastmnist\n    binary, 2 classes, CC BY 4.0; grey, " in shown
    assert "\n    malignant; normal, benign\n" in shown
    assert "\ndermamnist\n    multiclass, 7 classes, CC BY-NC 4.0; " in shown
    assert "https://doi.org/10.1038/s41597-022-01721-8" in shown


@pytest.mark.usefixtures("drawing")
def test_fit_leaves_a_whole_run_folder(zoo: Zoo) -> None:
    small()
    ended = zoo("fit --config small.yaml --wandb off")
    assert ended.code == 0
    run = the_run()
    expected = {
        "recipe.yaml", "metrics.csv", "summary.json", "checkpoints", "batch.png", "curves.png",
        "confusion.png", "reliability.png", "wrong.png", "predictions.csv", "roc.png", ".lock",
        ".owner",
    }  # fmt: skip
    assert {path.name for path in run.iterdir()} == expected
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["parameters"] == 259_498
    assert summary["flops_per_sample"] > 1e6
    assert summary["data"]["splits"]["val"]["size"] == 180
    assert summary["data"]["splits"]["val"]["origin"] == "split_seed 0, val_fraction 0.1"
    assert sum(summary["data"]["splits"]["train"]["classes"].values()) == 1258
    assert summary["data"]["images"] == {"image_size": 8, "channels": 1}
    assert (summary["run"]["steps"], summary["run"]["steps_per_epoch"]) == (8, 4)
    table, _, epochs = ended.out.partition("epoch 1/2")
    assert "run     2 epochs of 4 steps, 8 in all, batches of 100; CPU" in table
    assert "net     GoogLeNet, 259,498 parameters, " in table
    assert "parameters" not in epochs
    plain = {"loss", "acc", "balanced_acc", "auroc", "ece", "entropy", "f1", "top5"}
    scaled = {"temperature", "ece_scaled", "nll_scaled", "entropy_scaled"}
    assert set(summary["test"]) == plain | scaled
    assert summary["seed"] == 0
    assert torch.__version__.startswith(summary["versions"]["torch"])
    for name, value in summary["test"].items():
        assert f"test {name}" in ended.out
        assert f"{value:.4f}" in ended.out
    assert str(run) in ended.out
    lines = [line for line in ended.out.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert ended.err == ""
    for picture in run.glob("*.png"):
        with Image.open(picture) as image:
            assert len(np.unique(np.asarray(image))) > 10  # something is drawn


def test_test_is_run_once_on_the_best_checkpoint(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    small()
    calls: list[int] = []
    original = ImageClassifier.on_test_epoch_end
    monkeypatch.setattr(
        ImageClassifier, "on_test_epoch_end", lambda self: (calls.append(1), original(self))[1]
    )
    assert zoo("fit --config small.yaml --wandb off").code == 0
    assert calls == [1]
    run = the_run()
    best = zoo(f"test --ckpt_path {run}/checkpoints/best.ckpt --wandb off")
    assert best.code == 0
    (again,) = Path("runs/test").iterdir()
    first, second = (json.loads((f / "summary.json").read_text())["test"] for f in (run, again))
    assert first == second


def test_a_checkpoint_is_read_once(
    zoo: Zoo, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    load = torch.load

    def counted(path: str, *args: Any, **kwargs: Any) -> Any:
        read.append(Path(path).name)
        return load(path, *args, **kwargs)

    monkeypatch.setattr(torch, "load", counted)
    Image.new("L", (8, 8)).save("a.png")
    for command in ("validate", "test", "predict --inputs a.png"):
        read.clear()
        assert zoo(f"{command} --ckpt_path {checkpoint} --wandb off").code == 0
        assert read == ["last.ckpt"]
    copy = Path(shutil.copy(checkpoint, "mine.ckpt"))
    read.clear()
    assert (
        zoo(f"fit --config r.yaml --trainer.max_epochs 2 --ckpt_path {copy} --wandb off").code == 0
    )
    assert read == ["mine.ckpt", "best.ckpt"]  # the second is what was trained


def test_the_checkpoint_alone_is_enough_to_predict(zoo: Zoo) -> None:
    small()
    assert zoo("fit --config small.yaml --wandb off").code == 0
    checkpoint = next(the_run().glob("checkpoints/best.ckpt")).rename("alone.ckpt")
    Path("small.yaml").unlink()
    Path("folder").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name in ("folder/b.png", "folder/c.jpg", "a.png"):
        Image.fromarray(pixels).save(name)
    ended = zoo(f"predict --ckpt_path {checkpoint} --inputs a.png folder --wandb off")
    assert ended.code == 0
    (path,) = Path("runs/predict").glob("*/predictions.csv")
    with path.open() as file:
        found = list(csv.DictReader(file))
    assert [row["input"] for row in found] == ["a.png", "folder/b.png", "folder/c.jpg"]
    for row in found:
        chances = [float(row[f"p({digit})"]) for digit in range(10)]
        assert sum(chances) == pytest.approx(1, abs=1e-4)
        assert chances[int(row["prediction"])] == max(chances) == float(row["probability"])
        assert f"{float(row['probability']):.4f}" in ended.out


def test_same_seed_same_run_with_any_number_of_workers(zoo: Zoo) -> None:
    small(SMALL.replace("crop_padding: 1", "crop_padding: 1, brightness: 0.3"))
    found = []
    for workers in (0, 0, 2):
        root = f"root{len(found)}"
        options = f"--data.num_workers {workers} --trainer.default_root_dir {root} --wandb off"
        assert zoo(f"fit --config small.yaml {options}").code == 0
        (run,) = Path(root, "small").iterdir()
        saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        found.append((rows(run), saved["state_dict"]))
    for other_rows, other_weights in found[1:]:
        assert other_rows == found[0][0]
        assert all(torch.equal(other_weights[k], v) for k, v in found[0][1].items())
    assert zoo("fit --config small.yaml --seed_everything 1 --wandb off").code == 0
    assert rows(the_run()) != found[0][0]


def at_batch(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], None]) -> None:
    """Does something in the training step of a batch, counted from 1."""
    original = ImageClassifier.training_step

    def training_step(self: ImageClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.trainer.fit_loop.epoch_loop.total_batch_idx == number - 1:
            action()
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ImageClassifier, "training_step", training_step)


# In mid-epoch, on an epoch's last batch, and inside an accumulation window, which is finished.
@pytest.mark.parametrize(
    ("batch", "signum", "code", "step", "accumulated"),
    [
        (2, signal.SIGINT, 130, 2, 1),
        pytest.param(4, signal.SIGTERM, 143, 4, 1, marks=pytest.mark.slow),
        (1, signal.SIGHUP, 129, 1, 2),
        pytest.param(5, signal.SIGUSR1, 138, 3, 2, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGTERM, 143, 1, 3, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_stops_and_the_run_goes_on(
    zoo: Zoo,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    signum: int,
    code: int,
    step: int,
    accumulated: int,
) -> None:
    small()
    options = f"--wandb off --trainer.accumulate_grad_batches {accumulated}"
    with monkeypatch.context() as patch:
        at_batch(patch, batch, lambda: os.kill(os.getpid(), signum))
        ended = zoo(f"fit --config small.yaml {options}")
    assert ended.code == code
    last = the_run() / "checkpoints" / "last.ckpt"
    assert str(last) in ended.err
    assert torch.load(last, weights_only=True)["global_step"] == step
    assert zoo(f"fit --config small.yaml {options} --ckpt_path last").code == 0
    assert zoo(f"fit --config small.yaml {options} --trainer.default_root_dir whole").code == 0
    (reference,) = Path("whole/small").iterdir()
    assert rows(the_run()) == rows(reference)
    saved = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        for run in (the_run(), reference)
    ]
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(saved[0][part], saved[1][part], rtol=0, atol=0)


def test_a_second_signal_stops_at_once(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.run.signals._GRACE_S", 60)  # else it ends this process, tests and all
    small()

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1.1)  # sooner, it would be the same one, passed on by a launcher
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10**6)

    at_batch(monkeypatch, 2, twice)
    ended = zoo("fit --config small.yaml --wandb off")
    assert ended.code == 130
    assert not (the_run() / "checkpoints").exists()


def hang_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Have a step ask the run to stop, and never end."""
    monkeypatch.setattr("zoo.run.signals._GRACE_S", 60)  # else it ends this process, tests and all

    def for_ever(self: ImageClassifier, batch: Any, batch_idx: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10**6)

    monkeypatch.setattr(ImageClassifier, step, for_ever)


def test_a_run_that_does_not_stop_is_ended(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    small()
    hang_at(monkeypatch, "validation_step")
    ended = zoo("fit --config small.yaml --wandb off --checkpoint.stop_seconds 1")
    assert ended.code == 143
    assert "zoo: stopped; no checkpoint was saved" in ended.err


def test_a_signal_that_was_ignored_stays_so(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    small()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        at_batch(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert zoo("fit --config small.yaml --wandb off").code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_after_training_stops_at_once(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    small()
    hang_at(monkeypatch, "test_step")
    ended = zoo("fit --config small.yaml --wandb off")
    assert ended.code == 143
    assert f"go on with --ckpt_path {the_run()}/checkpoints/last.ckpt" in ended.err


# With SLURM's scontrol, and where there is none.
@pytest.mark.parametrize("there", [True, False])
def test_slurm_requeues_a_job_that_is_warned(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    small()
    slurm = {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "31"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    if there:
        Path("bin").mkdir()
        Path("bin/scontrol").write_text("#!/bin/sh\necho $@ > asked\n")
        Path("bin/scontrol").chmod(0o755)
        monkeypatch.setenv("PATH", f"{Path('bin').resolve()}:{os.environ['PATH']}")
    at_batch(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    ended = zoo("fit --config small.yaml --wandb off")
    assert ended.code == 138
    assert (the_run() / "checkpoints" / "last.ckpt").is_file()
    if there:
        assert Path("asked").read_text() == "requeue 31\n"
        assert "the job 31 is in SLURM's queue again" in ended.err
    else:
        assert "the job 31 was not put back into SLURM's queue" in ended.err


def test_a_loss_that_is_not_finite_ends_the_run(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    small()
    original = ImageClassifier.total_loss

    def loss(self: ImageClassifier, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        factor = float("nan") if self.global_step == 6 else 1.0
        return original(self, logits, targets) * factor

    monkeypatch.setattr(ImageClassifier, "total_loss", loss)
    ended = zoo("fit --config small.yaml --wandb off")
    assert ended.code == 1
    last = the_run() / "checkpoints" / "last.ckpt"
    assert "train/loss is not finite at step 7" in ended.err
    assert "lower model.lr" in ended.err
    assert str(last) in ended.err
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 4  # of the first epoch: the bad weights were not saved
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_a_lower_rate_is_advised_only_where_it_may_help(zoo: Zoo, monkeypatch, stage: str) -> None:
    """Not before the first step, and not where the weights are sound."""
    small()
    method = "training_step" if stage == "train" else "add_batch"
    original = getattr(ImageClassifier, method)

    def spoilt(self: ImageClassifier, *given: Any) -> Any:
        if given[0] == stage or stage == "train":
            given[-2 if stage == "train" else -1][0].fill_(float("nan"))
        return original(self, *given)

    monkeypatch.setattr(ImageClassifier, method, spoilt)
    ended = zoo("fit --config small.yaml --wandb off")
    assert ended.code == 1
    assert f"{stage}/loss is not finite" in ended.err
    assert "numbers in the data" in ended.err
    assert "model.lr" not in ended.err


@pytest.mark.parametrize(
    "net",
    [
        "{class_path: torchvision.models.resnet18}",
        "{class_path: timm.create_model, init_args: {model_name: test_resnet}}",
    ],
)
def test_somebody_elses_net_trains_tests_and_predicts(zoo: Zoo, net: str) -> None:
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for label in range(10):
            folder = Path("images", split, str(label))
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (20 * label, 10 * number, 0)).save(
                    folder / f"{number}.png"
                )
    small(
        f"model: {{class_path: ImageClassifier, init_args: {{net: {net}}}}}\n"
        "data:\n"
        "  {class_path: ImageFolder, init_args: {root: images, image_size: 32, in_channels: 1}}\n"
        "trainer: {max_epochs: 1, accelerator: cpu, devices: 1}\n"
    )
    assert zoo("fit --config small.yaml --wandb off").code == 0
    best = the_run() / "checkpoints" / "best.ckpt"
    assert zoo(f"test --ckpt_path {best} --wandb off").code == 0
    assert zoo(f"predict --ckpt_path {best} --inputs images/test --wandb off").code == 0
    task = ImageClassifier.load_from_checkpoint(str(best))
    assert task(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_two_runs_never_share_a_folder(zoo: Zoo) -> None:
    small(
        SMALL.replace(
            "max_epochs: 2, limit_train_batches: 4", "max_epochs: 1, limit_train_batches: 1"
        )
    )
    for _ in range(2):
        assert zoo("fit --config small.yaml --wandb off").code == 0
    assert len(list(Path("runs/small").iterdir())) == 2
    recipe = yaml.safe_load((next(Path("runs/small").iterdir()) / "recipe.yaml").read_text())
    assert recipe["trainer"]["default_root_dir"] == "runs"
