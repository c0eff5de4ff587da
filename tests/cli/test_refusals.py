"""Refusals that need more than a line, and what a line that is right may look like."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonargparse import Namespace
from PIL import Image

from datamodules.core.errors import OptionError
from zoo.cli.config import classes_first, refuse_deep
from zoo.cli.inside import write_inside

Refuse = Callable[..., str]
Zoo = Callable[..., Any]
FIT = "fit --config r.yaml --wandb off "

# -------------------------------------------------------------------------------- one class


@pytest.mark.parametrize("folders", [["cat"], ["train/cat", "val/cat", "test/cat"]])
def test_images_of_one_class(folders: list[str], refuse: Refuse) -> None:
    for folder in folders:
        Path("images", folder).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(f"images/{folder}/{number}.png")
    assert refuse(FIT + "--data ImageFolder --data.root images --data.image_size 8") == (
        "'images' holds one class, 'cat', which leaves nothing to learn; add another"
    )


def test_arrays_of_one_class(refuse: Refuse) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    arrays = {f"{split}_images": images for split in ("train", "val", "test")}
    labels = {name.replace("images", "labels"): np.zeros((9, 1), np.int64) for name in arrays}
    np.savez("x.npz", **arrays, **labels)
    assert refuse(FIT + "--data ImageNpz --data.path x.npz") == (
        "'x.npz' holds one class, '0', which leaves nothing to learn; add another"
    )


def test_texts_of_one_class(refuse: Refuse) -> None:
    for split in ("train", "test"):
        Path("reviews", split, "good").mkdir(parents=True)
        for number in range(9):
            Path("reviews", split, "good", f"{number}.txt").write_text(f"{split} {number}")
    flags = "--data TextClassification --data.path reviews --data.tokenizer word"
    assert refuse(f"fit --config gru --wandb off {flags}") == (
        "all texts of 'reviews/train' have the label 'good', which leaves nothing to learn; give "
        "texts of two classes at least"
    )


def test_table_of_one_value(refuse: Refuse) -> None:
    Path("t.csv").write_text("a,y\n" + "".join(f"{number},1\n" for number in range(30)))
    flags = "--data CSVTable --data.path t.csv --data.target y"
    refuse(
        f"fit --config regression --wandb off {flags}",
        "column 'y' of 't.csv' has one value, 1, in all 21 training rows, which leaves nothing to "
        "learn; choose another target",
    )


# -------------------------------------------------------------------------------- nets

SQUASHED = """
from torch import nn
class Net(nn.Module):
    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        last = nn.Linear(image_size**2, num_classes)
        self.layers = nn.Sequential(nn.Flatten(), last, nn.Softmax(1))
    def forward(self, x):
        return self.layers(x)
"""


def test_a_net_that_ends_in_softmax_leaves_no_run_folder(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "squashed.py").write_text(SQUASHED)
    sentence = refuse(FIT + "--model.net squashed.Net --trust squashed")
    assert sentence.startswith("option model.net: the net's outputs look like probabilities")
    assert not Path("runs").exists()


def test_an_option_is_named_once(refuse: Refuse) -> None:
    """Where what it names was looked into elsewhere, too."""
    texts = [f"a {word} film {k},{k % 2}\n" for k in range(40) for word in ("good", "slow")]
    Path("reviews.csv").write_text("text,label\n" + "".join(texts))
    flags = "--data TextClassification --data.path reviews.csv --data.tokenizer word"
    assert refuse(f"fit --config gru --wandb off {flags} --model.vectors nope.vec") == (
        "option model.vectors is 'nope.vec'; there is no such file; give a text file of word "
        "vectors in fastText's (.vec) or GloVe's (.txt) form"
    )


# -------------------------------------------------------------------------------- flags


def test_a_folder_of_a_long_name(zoo: Zoo) -> None:
    for name in ("x" * 5000, "x/" * 3000):
        ended = zoo([*FIT.split(), "--trainer.default_root_dir", name])
        assert ended.code == 2
        assert ended.err.startswith("zoo: the run folder 'x")
        assert ended.err.endswith(
            "(File name too long); set trainer.default_root_dir to a folder that can\n"
        )
        assert len(ended.err) < 1000


@pytest.mark.parametrize("value", ["{" * 3000, "[" * 3000 + "]" * 3000, "{a: " * 99 + "}" * 99])
@pytest.mark.parametrize(
    "option", ["model.lr", "trainer.callbacks", "model.net.num_classes", "trainer.max_epochs"]
)
def test_a_deep_value(option: str, value: str, refuse: Refuse) -> None:
    for words in ([f"--{option}", value], [f"--{option}={value}"]):
        assert refuse([*FIT.split(), *words]) == (
            f"option {option} is nested too deeply; flatten its value"
        )


def test_brackets_beside_each_other_are_not_deep() -> None:
    refuse_deep(["--data.palette", str([[0, 0, 0]] * 200), "--model.x={}"])
    with pytest.raises(OptionError, match=r"option b\.c "):
        refuse_deep(["--a", "1", "--b.c", "[" * 51])


def test_a_class_may_stand_behind_its_options(refuse: Refuse) -> None:
    data = "--data.path nope.csv --data.target y --data CSVTable"
    assert refuse(f"{FIT} {data}").startswith("option data.path is 'nope.csv'; give a csv file")
    assert refuse(f"{FIT} --model.net.depth 21 --model.net ResNet").startswith(
        "option model.net.depth is 21; give 20, "
    )
    assert refuse(f"{FIT} --trainer.logger.save_dir .. --trainer.logger CSVLogger").startswith(
        "option trainer.logger.save_dir is '..'; give a name inside the run folder"
    )


def test_order_of_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of classes come first; files and mappings stay, as they hold options themselves."""
    flags = ["--model.net.depth", "3", "--model.net", "A", "--model", "B", "--data=C", "--x", "-1"]
    moved = ["--model", "B", "--data=C", "--model.net", "A", "--model.net.depth", "3", "--x", "-1"]
    assert classes_first(flags) == moved
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").touch()
    for value in ("net.yaml", "{class_path: A}"):
        kept = ["--model.net.depth", "3", "--model.net", value]
        assert classes_first(kept) == kept


# -------------------------------------------------------------------------------- what is printed


def printed(zoo: Zoo, capfd: pytest.CaptureFixture[str], command: str) -> str:
    with pytest.raises(SystemExit) as ended:
        zoo(f"{command} --print_config")
    assert ended.value.code == 0
    return capfd.readouterr().out


def test_a_printed_recipe_can_be_run_again(
    zoo: Zoo, capfd: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    command = f"{FIT} --trust some_package --ckpt_path {checkpoint} --model.lr 0.5"
    text = printed(zoo, capfd, command)
    recipe = yaml.safe_load(text)
    assert not {"trust", "config", "inputs"} & set(recipe)
    assert recipe["ckpt_path"] == str(checkpoint)
    assert recipe["model"]["init_args"]["lr"] == 0.5
    Path("again.yaml").write_text(text)
    assert printed(zoo, capfd, "fit --config again.yaml") == text
    text = printed(zoo, capfd, FIT)
    assert "ckpt_path" not in yaml.safe_load(text)
    Path("again.yaml").write_text(text)
    assert zoo("fit --config again.yaml --trainer.fast_dev_run true").code == 0


@pytest.mark.parametrize("words", ["list", "help", "--version"])
@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell's pipes")
def test_nobody_reads_on(words: str) -> None:
    code = f"import sys; sys.argv[1:] = {words.split()!r}; from zoo.__main__ import entry; entry()"
    running = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait(60) == 141
    running.stderr.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a signal that a program may be sent")
def test_ctrl_c_while_libraries_are_loaded_is_no_traceback() -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import zoo.__main__ as door; "
        "door.main = lambda: os.kill(os.getpid(), signal.SIGINT); door.entry()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130
    assert ended.stderr == "zoo: stopped\n"


# -------------------------------------------------------------------------------- loggers


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        (None, "sqlite:////runs/r/1/mlflow.db"),
        ("tracking.db", "sqlite:////runs/r/1/tracking.db"),
        ("sqlite:///mine.db", "sqlite:////runs/r/1/mine.db"),
        ("http://host:5000", "http://host:5000"),
        ("databricks", "databricks"),
    ],
)
def test_mlflow_writes_into_the_run_folder(
    given: str | None, becomes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    arguments = Namespace(tracking_uri=given)
    spec = Namespace(class_path="lightning.pytorch.loggers.MLFlowLogger", init_args=arguments)
    trainer = Namespace(logger=spec)
    write_inside(trainer, Path("/runs/r/1"))
    arguments = trainer.logger.init_args
    assert arguments.tracking_uri == becomes
    assert (arguments.get("artifact_location") == "/runs/r/1/artifacts") == ("sqlite" in becomes)


def test_mlflow_writes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    class_path = "lightning.pytorch.loggers.MLFlowLogger"
    arguments = Namespace(tracking_uri="sqlite:////elsewhere/mlflow.db")
    trainer = Namespace(logger=Namespace(class_path=class_path, init_args=arguments))
    with pytest.raises(OptionError, match=r"^option trainer\.logger\.tracking_uri is .*elsewhere"):
        write_inside(trainer, Path("/runs/r/1"))
