"""What a user can do wrong ends in one sentence, at once, with nothing written."""

import json
import pickle
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import zoo as zoo_package
from datamodules.core import hub
from zoo.catalog.contents import OTHER_VERBS, VERBS
from zoo.cli.request import check_early, take_apart
from zoo.errors import UserError
from zoo.run.checkpoint import LAYOUT
from zoo.run.folder import RunFolder

Refuse = Callable[..., str]
FIT = "fit --config r.yaml --wandb off "
CANARY = """
from pathlib import Path
from torch import nn
Path("CANARY").touch()
class Net(nn.Module):
    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(image_size**2, num_classes))
    def forward(self, x):
        return self.layers(x)
"""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn of a run that is not refused is tested elsewhere."""
    monkeypatch.setattr("zoo.cli.verbs._draw", lambda cli: None)


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A module beside the recipe; the file appears once it is imported."""
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m zoo` has it
    monkeypatch.delitem(sys.modules, "canary_pkg", raising=False)
    (tmp_path / "canary_pkg.py").write_text(CANARY)
    return tmp_path / "CANARY"


# -------------------------------------------------------------------------------- options

OPTIONS = {
    "--model.num_classes 1": "option model.num_classes is 1; leave it out, as the data says what "
    "it is",
    "--model.lr .nan": "option model.lr is nan; give 0 or more",
    "--model.beta2 1": "option model.beta2 is 1.0; give a number from 0 to below 1",
    "--model.focal_gamma 3": "option model.focal_gamma is 3.0; leave it out, as it is for focal "
    "and has no effect on cross_entropy",
    "--trainer.gradient_clip_val .nan": "option trainer.gradient_clip_val is nan; give 0 or more",
    # unknown
    "--wandbb off": "option --wandbb is not known; did you mean --wandb?",
    "--trainr.max_epochs 3": "option --trainr.max_epochs is not known; "
    "did you mean --trainer.max_epochs?",
    "--max_epochs 3": "option --max_epochs is not known; did you mean --trainer.max_epochs?",
    "--trainer.max_epoch 3": "option --trainer.max_epoch is not known; "
    "did you mean --trainer.max_epochs?",
    "--checkpoint.moniter val/acc": "option --checkpoint.moniter is not known; "
    "did you mean --checkpoint.monitor?",
    "--model.lrr 1": "option --model.lrr is not known; did you mean --model.lr?",
    "--model.net.layuot cifar": "option --model.net.layuot is not known; "
    "did you mean --model.net.layout?",
    "--data.batchsize 3": "option --data.batchsize is not known; did you mean --data.batch_size?",
    "--nope 1": "option --nope is not known; options of the task start with --model., of its net "
    "with --model.net., of the data with --data., of Lightning's Trainer with --trainer.",
    # of another section
    "--lr 1": "option --lr is not known; did you mean --model.lr?",
    "--batch_size 8": "option --batch_size is not known; did you mean --data.batch_size?",
    "--model.batch_size 8": "option --model.batch_size is not known; "
    "did you mean --data.batch_size?",
    "--model.norm group": "option --model.norm is not known; did you mean --model.net.norm?",
    "--data.optimizer sgd": "option --data.optimizer is not known; did you mean --model.optimizer?",
    "--model.max_epochs 3": "option --model.max_epochs is not known; "
    "did you mean --trainer.max_epochs?",
    "--layuot cifar": "option --layuot is not known; did you mean --model.net.layout?",
    # as other programs call it
    "--epochs 3": "option --epochs is not known; did you mean --trainer.max_epochs?",
    "--model.learning_rate 1": "option --model.learning_rate is not known; "
    "did you mean --model.lr?",
    "--resume x": "option --resume is not known; did you mean --ckpt_path?",
    "nonsense": "option names start with two dashes, unlike 'nonsense'",
    "--data.root x": "option --data.root is not known; Digits takes as_tuple, balanced, "
    "batch_size, brightness, channels, contrast, crop_padding, cutout, horizontal_flip, hue, mean, "
    "near_copies, num_workers, partition, policy, random_erasing, resident, rotate90, rotation, "
    "saturation, scale, seed, split_seed, std, ...",
    "--model.optimizer.lr 1": "option model.optimizer has no options of its own; "
    "give adamw, adam, sgd, rmsprop or muon",
    # abbreviated
    "--see 3": "option --see is not known; did you mean --seed_everything?",
    "--trainer.max_ep 3": "option --trainer.max_ep is not known; "
    "did you mean --trainer.max_epochs?",
    "--model.optim sgd": "option --model.optim is not known; did you mean --model.optimizer?",
    "--model.net.lay cifar": "option --model.net.lay is not known; "
    "did you mean --model.net.layout?",
    "--data.batch 3": "option --data.batch is not known; did you mean --data.batch_size?",
    # of another type
    "--trainer.max_epochs many": "option trainer.max_epochs is 'many'; give a whole number or null",
    "--data.batch_size 1.5": "option data.batch_size is 1.5; give a whole number",
    "--data.batch_size x": "option data.batch_size is 'x'; give a whole number",
    "--model.lr fast": "option model.lr is 'fast'; give a number or null",
    "--model.lr nan": "option model.lr is 'nan'; give a number or null",
    "--model.channels_last perhaps": "option model.channels_last is 'perhaps'; give true or false",
    "--model.net.aux_heads 7": "option model.net.aux_heads is 7; give true, false or null",
    "--model.optimizer SDG": "option model.optimizer is 'SDG'; "
    "give adamw, adam, sgd, rmsprop or muon (did you mean 'sgd'?)",
    "--model.optimizer lion": "option model.optimizer is 'lion'; "
    "torch has none; give adamw or muon",
    "--model.optimizer NAdam": "option model.optimizer is 'NAdam'; "
    "give adamw, the nearest of those at hand",
    "--model.net.activation swish": "option model.net.activation is 'swish'; give relu, "
    "leaky_relu, gelu, silu, mish, tanh, sigmoid, softplus, elu or hardswish "
    "(did you mean 'silu'?)",
    "--model.net.layout papr": "option model.net.layout is 'papr'; "
    "give paper, torchvision or cifar (did you mean 'paper'?)",
    "--model.milestones 3": "option model.milestones is 3; "
    "give a list of numbers ([1, 2.5]) or null",
    "--wandb maybe": "option wandb is 'maybe'; give auto, online, offline or off",
    "--seed_everything -4": "option seed_everything is -4; give a number from 0 to 4294967295",
    "--trainer 5": "option trainer is 5; set its options one by one, --trainer.NAME VALUE",
    "--trainer.barebones true": "option trainer.barebones is true; "
    "leave it out, as a run logs and saves",
    "--trainer.val_check_interval 0": "option trainer.val_check_interval is 0; "
    "give a share of the epoch above 0, or a number of batches",
    "--trainer.strategy ddp_spawn": "option trainer.strategy is 'ddp_spawn'; "
    "give ddp, whose processes start by themselves",
    "--trainer.strategy xla": "option trainer.strategy is 'xla'; "
    "give ddp, whose processes start by themselves",
    # without a value
    "--wandb": "option --wandb needs a value",
    "--config": "option --config needs a value",
    "--ckpt_path": "option --ckpt_path needs a value",
    "--trust": "option --trust needs a value",
    "--trainer.max_epochs": "option --trainer.max_epochs needs a value",
    "--trainer.max_epochs --model.lr 3": "option --trainer.max_epochs needs a value",
    "--model": "option --model needs a value",
    "--model.lr --data.batch_size 3": "option --model.lr needs a value",
    "--model.net.layout": "option --model.net.layout needs a value",
    "--data.batch_size": "option --data.batch_size needs a value",
    # classes
    "--model ImageClasifier": "option model: there is no class 'ImageClasifier'; "
    "did you mean 'ImageClassifier'?",
    "--model.net GoogleNet": "option model.net: there is no class 'GoogleNet'; "
    "did you mean 'GoogLeNet'?",
    "--model.net torchvision.models.resnet81": "option model.net: there is no class "
    "'torchvision.models.resnet81'; did you mean 'torchvision.models.resnet18'?",
    "--model.net zoo.nosuch.Net": "option model.net: there is no class 'zoo.nosuch.Net'; "
    "give the whole path, package.module.Class",
    "--model Clasifier": "option model: there is no class 'Clasifier'; "
    "did you mean 'ImageClassifier' or 'TextClassifier'?",
    "--data medmnist2": "option data: there is no class 'medmnist2'; did you mean 'MedMNIST'?",
    "--data Digit": "option data: there is no class 'Digit'; did you mean 'Digits'?",
    "--trainer.callbacks+=EarlyStoping": "option trainer.callbacks: there is no class "
    "'EarlyStoping'; did you mean 'EarlyStopping'?",
    "--model.net torch.nn.Linear": "option model.net.in_features is missing; "
    "set it in a recipe or on the command line",
    "--data ImageFolder": "option data.root is missing; set it in a recipe or on the command line",
    "--model.net torch.optim.SGD": "option model.net is 'torch.optim.SGD', which is not a net "
    "(see `zoo list nets`)",
    "--model.net Digits": "option model.net is 'datamodules.Digits', which is not a net "
    "(see `zoo list nets`)",
    "--data GoogLeNet": "option data is 'zoo.GoogLeNet', which is not a data set "
    "(see `zoo list data`)",
    # impossible values
    "--data.batch_size 0": "option data.batch_size is 0; give 1 or more",
    "--data.batch_size -3": "option data.batch_size is -3; give 1 or more",
    "--data.val_fraction 0": "Digits's val split is empty; "
    "give a larger data.val_fraction or more images",
    "--data.test_fraction 0": "Digits's test split is empty; "
    "give a larger data.test_fraction or more images",
    "--data.val_fraction 0.9": "option data.test_fraction is 0.2; lower it or "
    "data.val_fraction, or add images: 1976 of 1797 would leave too few to train on",
    "--data.crop_padding 99": "option data.crop_padding is 99; give at most 8, the image's side",
    "--model.lr -1": "option model.lr is -1.0; give 0 or more",
    "--model.warmup_steps -1": "option model.warmup_steps is -1; give 0 or more",
    "--model.label_smoothing 2": "option model.label_smoothing is 2.0; "
    "give a number from 0 to below 1",
    "--model.class_weights [1.0,2.0]": "option model.class_weights is [1.0, 2.0]; "
    "give 10 numbers, one for each class",
    "--model.net.dropout 3": "option model.net.dropout is 3.0; give a number from 0 to below 1",
    "--checkpoint.monitor val/nope": "option checkpoint.monitor is 'val/nope'; "
    "give one of val/loss, val/acc, val/top5, val/balanced_acc, val/f1",
    "--checkpoint.every_n_train_steps -1": "option checkpoint.every_n_train_steps is -1; "
    "give 0 (off) or more",
    "--trainer.max_epochs -5": "option trainer.max_epochs is -5; "
    "give -1 or more (-1 sets no limit)",
    "--trainer.log_every_n_steps 0": "option trainer.log_every_n_steps is 0; give 1 or more",
    "--trainer.accumulate_grad_batches 0": "option trainer.accumulate_grad_batches is 0; "
    "give 1 or more",
    "--trainer.limit_train_batches -1": "option trainer.limit_train_batches is -1; give 0 or more",
    "--trainer.val_check_interval 7.5": "option trainer.val_check_interval is 7.5: You have "
    "passed invalid value 7.5 for val_check_interval, it has to be in [0.0, 1.0] or an int.",
    "--trainer.accelerator gqu": "option trainer.accelerator is 'gqu'; "
    "give one of auto, cpu, cuda, gpu, mps, tpu",
    "--trainer.strategy dpp": "option trainer.strategy is 'dpp'; "
    "give auto for the one that fits (did you mean 'ddp'?)",
    "--trainer.devices x": "option trainer.devices is 'x'; give auto or a number",
    "--trainer.default_root_dir=": "option trainer.default_root_dir is ''; "
    "give a folder on this machine",
    "--trainer.default_root_dir s3://bucket/runs": "option trainer.default_root_dir is "
    "'s3://bucket/runs'; give a folder on this machine",
    # what the data decides
    "--model.num_classes 7": "option model.num_classes is 7; leave it out, as the data says what "
    "it is",
    "--model.net.num_classes=7": "option model.net.num_classes is 7; leave it out, as the data "
    "says what it is",
    # of another verb
    "--inputs x.png": "option --inputs belongs to predict, not to fit",
}


@pytest.mark.parametrize("flags", OPTIONS)
def test_option_is_refused(flags: str, refuse: Refuse) -> None:
    assert refuse(FIT + flags) == OPTIONS[flags]


@pytest.mark.parametrize(
    "flags",
    [
        "--data.root x",
        "--model.num_classes 7",
        "--model.optimizer SDG",
        "--model.optimizer lion",
        "--model.net.activation swish",
        "--model.net.aux_heads 7",
        "--model.lr fast",
        "--data.batch_size 1.5",
        "--trainer.max_epochs many",
        "--wandb maybe",
        "--model Clasifier",
        "--model.net GoogleNet",
        "--data Digit",
        "--data ImageFolder",
    ],
)
def test_source_tells_what_is_refused(flags: str, zoo: Callable[..., Any]) -> None:
    """No need for torch, for which one would wait."""
    with pytest.raises(UserError) as refused:
        check_early(take_apart(shlex.split(FIT + flags)))
    assert str(refused.value) == OPTIONS[flags]


@pytest.mark.parametrize(
    "flags",
    [
        "--model.lr 1e-3 --model.optimizer sgd --model.net.aux_heads true",
        "--model.net AlexNet --data.horizontal_flip alternate --wandb off",
        "--model.net Linear --model.net.in_features 3 --trainer.max_epochs -1",
        "--trainer.precision 16 --trainer.limit_val_batches 0.5 --trainer.devices 2",
        "--data ImageFolder --data.init_args.root x --data.image_size=32 --model.freeze null",
        "--data ImageFolder --data.init_args '{root: x}' --trainer.gradient_clip_val 1",
        "--data '{class_path: ImageFolder, init_args: {root: x}}' --seed_everything 3",
        "--model.class_weights [1,2] --trainer.callbacks+=EarlyStopping --print_config",
    ],
)
def test_source_refuses_nothing_that_may_be_meant(flags: str, zoo: Callable[..., Any]) -> None:
    check_early(take_apart(shlex.split(FIT + flags)))


def test_torch_is_not_loaded_for_a_refusal(zoo: Callable[..., Any]) -> None:
    code = (
        "import sys; from zoo.__main__ import main; "
        "code = main(['fit', 'r.yaml', '--model.optimizer', 'rmsprp']); "
        "assert not {'torch', 'lightning', 'numpy'} & set(sys.modules); sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, "did you mean 'rmsprop'?" in ended.stderr) == (2, True), ended.stderr


def test_run_s_own_recipe_tells_what_its_checkpoint_takes(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine" / "1"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").touch()
    recipe = {"model": "zoo.Classifier", "data": {"class_path": "datamodules.Digits"}}
    (run / "recipe.yaml").write_text(json.dumps(recipe))
    line = ["--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    with pytest.raises(UserError, match=r"^option data\.batch_size is 'x'; give a whole number$"):
        check_early(take_apart(["test", *line, "--data.batch_size", "x"]))
    with pytest.raises(UserError, match=r"^option --data\.root is not known; Digits takes as_tup"):
        check_early(take_apart(["test", *line, "--data.root", "x"]))
    other = ["--inputs", "a.png", "--data.root", "x"]  # whose class only the checkpoint names
    check_early(take_apart(["predict", *line, *other]))
    (run / "recipe.yaml").write_text("")
    check_early(take_apart(["test", *line, "--data.batch_size", "x"]))


FRAGMENTS = {
    # unknown
    "nonsense: 3": "option nonsense is not known; there are checkpoint, ckpt_path, data, "
    "init_from, model, seed_everything, trainer, wandb, wandb_checkpoint, "
    "wandb_group, wandb_notes, wandb_tags, wandb_watch",
    "trainr: {max_epochs: 1}": "option trainr.max_epochs is not known; "
    "did you mean trainer.max_epochs?",
    "trainer: {max_epoch: 1}": "option trainer.max_epoch is not known; "
    "did you mean trainer.max_epochs?",
    "checkpoint: {moniter: x}": "option checkpoint.moniter is not known; "
    "did you mean checkpoint.monitor?",
    "model: {init_args: {lrr: 1}}": "option model.lrr is not known; did you mean model.lr?",
    "model: {init_args: {net: {class_path: GoogLeNet, init_args: {layuot: paper}}}}": "option "
    "model.net.layuot is not known; did you mean model.net.layout?",
    "data: {class_path: Digits, init_args: {batchsize: 3}}": "option data.batchsize is not "
    "known; did you mean data.batch_size?",
    "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitr: x}}]}": "option "
    "trainer.callbacks.monitr is not known; did you mean trainer.callbacks.monitor?",
    # of another type
    "trainer: {max_epochs: 1.5}": "option trainer.max_epochs is 1.5; give a whole number or null",
    "model: {init_args: {lr: fast}}": "option model.lr is 'fast'; give a number or null",
    "model: {init_args: {lr: 2020-01-01}}": "option model.lr is '2020-01-01'; "
    "give a number or null",
    "model: {init_args: {channels_last: 3}}": "option model.channels_last is 3; give true or false",
    "model: {init_args: {optimizer: adamm}}": "option model.optimizer is 'adamm'; "
    "give adamw, adam, sgd, rmsprop or muon (did you mean 'adam'?)",
    "model: {init_args: {norm: group}}": "option model.norm is not known; "
    "did you mean model.net.norm?",
    "model: {init_args: {net: {class_path: GoogLeNet, init_args: {layout: papr}}}}": "option "
    "model.net.layout is 'papr'; give paper, torchvision or cifar (did you mean 'paper'?)",
    "data: {class_path: Digits, init_args: {batch_size: x}}": "option data.batch_size is 'x'; "
    "give a whole number",
    "model: 3": "option model is 3; give a task (see `zoo list tasks`) or null",
    # classes
    "model: {class_path: ImageClasifier}": "option model: there is no class 'ImageClasifier'; "
    "did you mean 'ImageClassifier'?",
    "model: {init_args: {net: {class_path: GoogleNet}}}": "option model.net: there is no class "
    "'GoogleNet'; did you mean 'GoogLeNet'?",
    "data: {class_path: Digit}": "option data: there is no class 'Digit'; did you mean 'Digits'?",
    "trainer: {callbacks: [{class_path: EarlyStoping}]}": "option trainer.callbacks: there is no "
    "class 'EarlyStoping'; did you mean 'EarlyStopping'?",
}


@pytest.mark.parametrize("text", FRAGMENTS)
def test_option_of_a_recipe_is_refused_with_the_file(text: str, refuse: Refuse) -> None:
    """The file is named, among several."""
    Path("mine.yaml").write_text(text)
    Path("last.yaml").write_text("trainer: {max_epochs: 3}")
    sentence = refuse("fit --config r.yaml --config mine.yaml --config last.yaml --wandb off")
    assert sentence == f"recipe 'mine.yaml': {FRAGMENTS[text]}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "model: {init_args: {net: {class_path: torch.nn.Linear}}}",
            "option model.net.in_features is missing; set it in a recipe or on the command line",
        ),
        (
            "trainer: {callbacks: [{class_path: EarlyStopping}]}",
            "option trainer.callbacks.monitor is missing; "
            "set it in a recipe or on the command line",
        ),
        (
            "model: {init_args: {num_classes: 3}}",
            "option model.num_classes is 3; leave it out, as the data says what it is",
        ),
        (  # alike by what stands before the last dot alone
            "trainer: {nope: 3}",
            "recipe 'mine.yaml': option trainer.nope is not known; Trainer takes accelerator, "
            "accumulate_grad_batches, barebones, benchmark, callbacks, check_val_every_n_epoch, "
            "default_root_dir, detect_anomaly, deterministic, devices, enable_autolog_hparams, "
            "enable_checkpointing, enable_model_summary, enable_progress_bar, ...",
        ),
    ],
)
def test_argument_is_missing_or_too_many(text: str, sentence: str, refuse: Refuse) -> None:
    Path("mine.yaml").write_text(text)
    assert refuse("fit --config r.yaml --config mine.yaml --wandb off") == sentence


@pytest.mark.parametrize(
    ("verb", "end"),
    [
        ("fti", " (did you mean 'fit'?)"),
        ("lst", " (did you mean 'list'?)"),
        ("train", " (did you mean 'fit'?)"),
        ("inception", " (did you mean `zoo fit inception`?)"),
        ("xyz", f"; give one of {', '.join([*VERBS, *OTHER_VERBS])}"),
    ],
)
def test_verb(verb: str, end: str, refuse: Refuse) -> None:
    assert refuse(verb) == f"there is no verb {verb!r}{end}"


# -------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("incepton", "; give {} (did you mean 'inception'?)"),
        ("xyz.yaml", "; give {}; `zoo list recipes` shows what there is"),
    ],
)
def test_recipe_is_not_there(name: str, end: str, refuse: Refuse) -> None:
    sentence = f"option config is {name!r}" + end.format("a file or the name of a packaged recipe")
    assert refuse(f"fit --config {name}") == sentence


def test_recipe_is_a_folder(refuse: Refuse) -> None:
    Path("recipes").mkdir()
    assert refuse("fit --config recipes") == (
        "option config is 'recipes'; it is a folder: give a YAML file in it"
    )


RECIPES = {
    b"": " is empty; it needs model: and data:",
    b"# nothing\n": " is empty; it needs model: and data:",
    b"model:\n\tclass_path: X\n": ", line 2, has a tab; indent with spaces",
    b"# caf\xe9\nmodel: {}\n": " is not UTF-8 text; save it as UTF-8",
    b"\x00\x01": " is not a YAML file: ",
    b"model: [1, 2\n": ", line 2, is not YAML (",
    b"a: b: c\n": ", line 1, is not YAML (",
    b"- a\n": " is no mapping; it has to hold options such as model: and data:",
    b"word\n": " is no mapping; it has to hold options such as model: and data:",
    b"trainer: {}\ndata: {}\ntrainer: {}\n": ": key 'trainer' stands twice, in lines 1 and 3; "
    "remove one of them",
    b"trainer:\n  devices: 1\n  max_epochs: 1\n  devices: 2\n": ": key 'devices' stands twice, "
    "in lines 2 and 4; remove one of them",
    b"data:\n  class_path: Digits\n  batch_size: 3\n": ": data has 'batch_size' beside "
    "class_path; arguments of the class belong under init_args",
    b"model: {init_args: {net: {class_path: GoogLeNet, layout: paper}}}": ": model.init_args.net "
    "has 'layout' beside class_path; arguments of the class belong under init_args",
    b"a: !!python/object/apply:os.mkdir [CANARY]": ", line 1, is not YAML (",
    b"a: &a [*a]": " cannot be taken: it is nested too deeply; flatten it",
    b"a: !!set {b}": " holds something else than texts, numbers, lists and mappings: ",
    b"trainer:\n": ": trainer is null; it has to hold options, or be left out",
    b"trainer: [1]": ": trainer is [1]; it has to hold options, or be left out",
    b"ckpt_path: 3": ": ckpt_path is 3; give a file's name",
    b"trust: [canary_pkg]": ": trust is an option of the command line alone; "
    "remove it and give --trust",
    b"config: other.yaml": ": config is an option of the command line alone; "
    "remove it and give --config",
}


@pytest.mark.parametrize("content", RECIPES)
def test_recipe_cannot_be_read(content: bytes, refuse: Refuse) -> None:
    Path("mine.yaml").write_bytes(content)
    sentence = refuse("fit --config mine.yaml --wandb off")
    assert sentence.startswith(f"recipe 'mine.yaml'{RECIPES[content]}")


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("data: {class_path: Digits}", "model"),
        ("model: {class_path: ImageClassifier, init_args: {net: {class_path: GoogLeNet}}}", "data"),
        ("data: {class_path: Digits}\nmodel: {class_path: ImageClassifier}", "model.net"),
    ],
)
def test_recipe_lacks_a_part(text: str, missing: str, refuse: Refuse) -> None:
    Path("mine.yaml").write_text(text)
    sentence = f"option {missing} is missing; set it in a recipe or on the command line"
    assert refuse("fit --config mine.yaml --wandb off") == sentence


def test_fit_without_a_recipe(refuse: Refuse) -> None:
    refuse("fit", "fit needs a recipe: give --config NAME", "`zoo list recipes`")
    refuse("fit --model.lr 0.1", "fit needs a recipe: give --config NAME")


@pytest.mark.parametrize(
    "classes",
    [
        "--model {} --data {}",
        "--model.class_path {} --data.class_path {}",
        "--model.class_path={} --data={}",
    ],
)
def test_classes_do_for_a_recipe(classes: str) -> None:
    words = f"fit --model.net MLP {classes.format('ImageClassifier', 'Digits')}".split()
    check_early(take_apart(words))


@pytest.mark.parametrize("value", ["papers-h", "please help", "last-print_config"])
def test_a_value_that_ends_like_a_flag_asks_for_nothing(value: str) -> None:
    given = take_apart(["fit", "inception", "--data", "ImageFolder", "--data.labels", value])
    with pytest.raises(UserError, match=r"option data\.root is missing"):
        check_early(given)


@pytest.mark.parametrize("flag", ["--quiet", "--json"])
def test_a_switch_takes_no_value(flag: str, refuse: Refuse) -> None:
    assert refuse(f"fit --config inception {flag}=true") == f"option {flag} takes no value"


def test_off_needs_no_quotes_in_yaml(zoo: Callable[[str], Any]) -> None:
    Path("mine.yaml").write_text("wandb: off\n")
    ended = zoo("fit --config r.yaml --config mine.yaml")
    assert ended.code == 0
    assert "W&B" not in ended.out + ended.err


def test_what_lightning_refuses_late(refuse: Refuse) -> None:
    refuse(FIT + "--trainer.val_check_interval 1000", "option trainer.val_check_interval is 1000: ")


def test_recipe_that_grows_or_is_deep(refuse: Refuse) -> None:
    laughs = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for last, name in zip("abcdefghijkl", "bcdefghijklm", strict=True):
        laughs.append(f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]")
    texts = {"\n".join(laughs): "too often", f"model: {'[' * 3000}{']' * 3000}": "too deeply"}
    texts[f"model: {'[' * 120}{']' * 120}"] = "too deeply"
    for text, word in texts.items():
        Path("mine.yaml").write_text(text)
        refuse("fit --config mine.yaml", "recipe 'mine.yaml' ", word, "; flatten it")


def test_long_names(zoo: Callable[[str], Any]) -> None:
    for command in (f"fit --config {'x' * 5000}", FIT + f"--model.net {'x' * 5000}"):
        ended = zoo(command)
        assert ended.code == 2
        assert len(ended.err) < 1000
        assert ended.err.startswith("zoo: option ")


@pytest.mark.parametrize(
    "command", ["validate --print_config", FIT + "--trainer.callbacks.help EarlyStopping"]
)
def test_what_only_shows_needs_nothing(command: str, zoo: Callable[[str], Any]) -> None:
    with pytest.raises(SystemExit) as ended:
        zoo(command)
    assert ended.value.code == 0


def test_lightnings_tuners_and_bars(zoo: Callable[[str], Any]) -> None:
    """The finder restores a checkpoint that was saved before the first batch."""
    pytest.importorskip("rich")
    ended = zoo(
        FIT.replace("fit", "fit --trainer.enable_progress_bar true")
        + "--trainer.callbacks+=LearningRateFinder --trainer.callbacks.num_training_steps 2 "
        "--trainer.callbacks+=RichProgressBar"
    )
    assert ended.code == 0


# -------------------------------------------------------------------------------- trust

UNTRUSTED = "which is not among the packages that a recipe may use; if you trust it, add --trust "


@pytest.mark.parametrize(
    "flags",
    [
        "--model canary_pkg.Net",
        "--model.net canary_pkg.Net",
        "--model.net=canary_pkg.Net",
        "--model.net canary_pkg.Net --trust another_pkg",
        "--data canary_pkg.Net",
        "--trainer.callbacks+=canary_pkg.Net",
        "--trainer.logger canary_pkg.Net",
        "--trainer.plugins canary_pkg.Net",
        "--model.help canary_pkg.Net",
        "--model.net.help canary_pkg.Net",
    ],
)
def test_untrusted_class_is_not_imported(flags: str, refuse: Refuse, canary: Path) -> None:
    refuse(FIT + flags, "names 'canary_pkg.Net'", UNTRUSTED + "canary_pkg")
    assert not canary.exists()


@pytest.mark.parametrize(
    "text",
    [
        "model: {class_path: canary_pkg.Net}",
        "model: {init_args: {net: {class_path: canary_pkg.Net}}}",
        "data: {class_path: canary_pkg.Net}",
        "trainer: {callbacks: [{class_path: canary_pkg.Net}]}",
        "trainer: {callbacks+: [{class_path: canary_pkg.Net}]}",
    ],
)
def test_untrusted_class_in_a_recipe(text: str, refuse: Refuse, canary: Path) -> None:
    Path("mine.yaml").write_text(text)
    command = "fit --config r.yaml --config mine.yaml --wandb off"
    sentence = refuse(command, "names 'canary_pkg.Net'", UNTRUSTED + "canary_pkg")
    assert sentence.startswith("recipe 'mine.yaml': option ")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["torch.load", "torch.hub.load", "lightning.pytorch.Trainer"])
def test_what_no_recipe_names_of_a_known_library_is_not_offered_for_trust(
    name: str, refuse: Refuse
) -> None:
    top = name.split(".")[0]
    sentence = refuse(f"{FIT} --model.net {name}", f"but of {top} a recipe names classes of {top}.")
    assert "--trust" not in sentence


def test_untrusted_strategy(refuse: Refuse, canary: Path) -> None:
    refuse(FIT + "--trainer.strategy canary_pkg.Net", "trainer.strategy is 'canary_pkg.Net'")
    assert not canary.exists()


def test_trusted_class_trains(zoo: Callable[[str], Any], canary: Path) -> None:
    ended = zoo(FIT + "--model.net canary_pkg.Net --trust canary_pkg")
    assert ended.code == 0, ended.err
    assert canary.exists()
    (path,) = Path("runs").glob("r/*/checkpoints/best.ckpt")
    assert any("layers.1" in name for name in torch.load(path)["state_dict"])


@pytest.mark.parametrize("name", ["*", "./canary_pkg", "jsonargparse", "jsonargparse.x"])
def test_what_cannot_be_trusted(name: str, refuse: Refuse) -> None:
    assert refuse(FIT + f"--trust {name}") == (
        f"option --trust is {name!r}; give the name of a package"
    )


@pytest.mark.parametrize("section", ["model", "net", "data"])
def test_untrusted_class_in_a_checkpoint(
    section: str, refuse: Refuse, canary: Path, checkpoint: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    settings = content["hyper_parameters"]
    settings["_instantiator"] = "canary_pkg.Net"
    if section == "model":
        settings["_class_path"] = "canary_pkg.Net"
    elif section == "net":
        settings["net"] = {"class_path": "canary_pkg.Net", "init_args": {}}
    else:
        content["zoo"]["data"] = {"class_path": "canary_pkg.Net", "init_args": {}}
    torch.save(content, "mine.ckpt")
    for verb in ("test", "fit", "fit --config r.yaml"):
        refuse(
            f"{verb} --ckpt_path mine.ckpt --wandb off",
            "ckpt_path 'mine.ckpt': option ",
            "names 'canary_pkg.Net'",
        )
    assert not canary.exists()


# -------------------------------------------------------------------------------- data


def picture(path: Path, side: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = [*"/".join(path.parts[-3:]).encode()]  # no two are copies
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of twelve images each."""
    for name in ("cat", "dog"):
        for number in range(12):
            picture(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


FOLDER = FIT + "--data ImageFolder --data.root images --data.image_size 16 --data.batch_size 4 "


def test_data_folder_is_missing_or_empty(refuse: Refuse) -> None:
    assert refuse(FOLDER) == ("option data.root is 'images'; give a folder that exists")
    Path("images").mkdir()
    assert refuse(FOLDER) == ("'images' holds no class folders; put each class's images in one")
    sentence = refuse(FIT + "--data CIFAR10 --data.root images --data.download false")
    assert sentence.startswith("'images' holds no CIFAR-10 and download is false; ")


def test_class_without_images(refuse: Refuse, folder: Path) -> None:
    (folder / "emu").mkdir()
    assert refuse(FOLDER) == "'images/emu' holds no images; add some or remove the folder"


def test_truncated_image(refuse: Refuse, folder: Path, zoo: Callable[[str], Any]) -> None:
    broken = folder / "cat" / "3.png"
    broken.write_bytes(broken.read_bytes()[:300])
    refuse(FOLDER, "'images/cat/3.png' cannot be read as an image", "skip_broken: true")
    with pytest.warns(UserWarning, match=r"left out 1 of 24 images: '.*cat/3.png'"):
        assert zoo(FOLDER + "--data.skip_broken true").code == 0


def cifar_parquet(folder: Path, labels: list[int]) -> None:
    folder.mkdir()
    buffer = BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    image = {"bytes": buffer.getvalue(), "path": None}
    table = pa.table({"img": [image] * len(labels), "label": labels})
    pq.write_table(table, folder / "train-0.parquet")
    pq.write_table(table, folder / "test-0.parquet")


def test_label_outside_the_classes(refuse: Refuse) -> None:
    cifar_parquet(Path("cifar"), [*range(11)] * 3)
    assert refuse(FIT + "--data CIFAR10 --data.root cifar --data.val_size 5") == (
        "CIFAR10's train split holds 2 labels outside its 10 classes, which are numbered 0 to 9: "
        "10 for one; mend the labels"
    )


class Touch:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("CANARY"),)


def cifar_pickles(folder: Path, labels: Any) -> None:
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        content = {b"data": np.zeros((20, 3072), dtype=np.uint8), b"labels": labels}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def test_cifar_of_another_sum(refuse: Refuse, zoo: Callable[[str], Any]) -> None:
    cifar_pickles(Path("data/cifar-10-batches-py"), [*range(10)] * 2)
    command = FIT + "--data CIFAR10 --data.val_size 10 --data.batch_size 8 "
    assert refuse(command) == (
        "'data/cifar-10-batches-py/data_batch_1' has not the md5 sum of the original; "
        "fetch it again, or set verify: false if it is meant to differ"
    )
    assert zoo(command + "--data.verify false").code == 0


def test_cifar_pickle_runs_nothing(refuse: Refuse) -> None:
    cifar_pickles(Path("data/cifar-10-batches-py"), Touch())
    refuse(
        FIT + "--data CIFAR10 --data.verify false",
        "'data/cifar-10-batches-py/data_batch_1' is no CIFAR-10 file",
    )
    assert not Path("CANARY").exists()


def test_no_network(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    Path("empty").mkdir()
    start = time.monotonic()
    refuse(
        FIT + "--data CIFAR10 --data.root empty",
        "'empty' holds no CIFAR-10 and 127.0.0.1 cannot be reached",
        "unpack cifar-10-python.tar.gz",
    )
    assert time.monotonic() - start < 15


# -------------------------------------------------------------------------------- nets and data


def test_batch_norm_of_one_value(refuse: Refuse, zoo: Callable[[str], Any]) -> None:
    """The last map of this net is of 1x1 pixels."""
    command = FIT + "--model.net.stem large --data.batch_size "
    assert refuse(command + "1") == (
        "with batches of 1, a batch norm would see one value per channel; set data.batch_size to "
        "2 or more, or choose another norm (model.net.norm: group)"
    )
    # 1,258 images are left to train on: three batches of 419, and one image, which joins the last.
    ended = zoo(command + "419 --trainer.limit_train_batches null")
    assert ended.code == 0, ended.err


def test_net_does_not_fit_the_data(refuse: Refuse) -> None:
    assert refuse(FIT + "--model.net torchvision.models.alexnet") == (
        "option model.net: AlexNet does not take images of 1 channel and 8x8 pixels "
        "(Given input size: (64x1x1). Calculated output size: (64x0x0). Output size is too small); "
        "choose another net or other data, or set the net's options"
    )
    assert refuse(FIT + "--model.net torch.nn.Flatten") == (
        "option model.net: Flatten gives 64 numbers for a sample, but the data asks for 10, one "
        "for each class; set the net's number of outputs"
    )
    assert refuse(FIT + "--model.net torch.nn.Identity") == (
        "option model.net: Identity gives 1x8x8 numbers for a sample, but the data asks for 10, "
        "one for each class; set the net's number of outputs"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--model.net.norm bath", ["model.net.norm is 'bath'", "did you mean 'batch'?"]),
        ("--model.net.activation rel", ["model.net.activation", "did you mean 'relu'?"]),
        (
            "--model.net ResNet --model.net.norm group --model.net.num_groups 32",
            ["model.net.num_groups is 32; it does not divide 16 channels"],
        ),
        (
            "--model.net ResNet --model.net.weights IMAGENET1K_V1",
            ["option model.net.depth is 20; ", "weights 'IMAGENET1K_V1'", "18, 34, 50, 101"],
        ),
        (
            "--model.loss binary_cross_entropy",
            ["option model.loss is 'binary_cross_entropy'", "data's labels are multiclass"],
        ),
        ("--model.loss cros_entropy", ["model.loss", "did you mean 'cross_entropy'?"]),
        ("--model.adaptive_clip -1", ["option model.adaptive_clip is -1.0; give a number above 0"]),
        (
            "--model.net torch.nn.Flatten --model.freeze backbone",
            ["option model.freeze is 'backbone'", "Flatten has no last layer named fc, classifier"],
        ),
        (
            "--model Regressor --model.net GoogLeNet",
            ["option model.label_kind is 'multiclass'", "ImageClassifier"],
        ),
        ("--data Diabetes", ["the data is a table", "MLP"]),
    ],
)
def test_part_does_not_fit_another(flags: str, words: list[str], refuse: Refuse) -> None:
    refuse(FIT + flags, *words)


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        (b"a,b,y\n1,2,3\n2,,4\n3,,5\n", "", ["column 'b' of 't.csv' has 2 missing", "line 3"]),
        (
            b"a,b,y\n1,2,3\n2,x,4\n3,4,5\n4,5,6\n",
            "",
            ["column 'b' of 't.csv' has 1 text among its numbers", "'x' in line 3"],
        ),
        (
            b"a,b,y\n1,2,3\n",
            " --data.target z",
            ["option data.target is 'z'; give a column"],
        ),
        (b"", "", ["t.csv"]),
    ],
)
def test_table_is_refused(content: bytes, flags: str, words: list[str], refuse: Refuse) -> None:
    Path("t.csv").write_bytes(content)
    table = "fit --config regression --wandb off --data CSVTable --data.path t.csv"
    refuse(f"{table} --data.target y{flags}", *words)


# -------------------------------------------------------------------------------- medical images

SMALL = " --model.net.depth 2 --model.net.width 4 --wandb off"
MASKS = f"fit --config unet{SMALL} --data SegmentationFolder --data.image_size 16 --data.root cells"
MASK = np.arange(24 * 24, dtype=np.uint8).reshape(24, 24) % 2


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Six images with masks in each of three splits."""
    for split in ("train", "val", "test"):
        for kind, pixels in (("images", MASK * 90), ("masks", MASK)):
            (tmp_path / "cells" / split / kind).mkdir(parents=True)
            for number in range(6):
                file = tmp_path / "cells" / split / kind / f"{number}.png"
                Image.fromarray(pixels).save(file)
    return tmp_path / "cells"


def owners(folder: Path, **changes: str) -> None:
    """A table in which each image is a patient's of its own, but for the changes."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    lines = [f"{file},{changes.get(file.split('/')[0] + Path(file).stem, file)}" for file in files]
    Path("owners.csv").write_text("\n".join(["file,patient", *lines]))


def test_image_without_mask(refuse: Refuse, cells: Path) -> None:
    (cells / "val" / "masks" / "3.png").unlink()
    assert refuse(MASKS) == (
        "'cells/val/images/3.png' has no mask; add cells/val/masks/3.png or remove the image; "
        "where names differ otherwise, data.mask_pattern says how"
    )


def test_mask_without_image(refuse: Refuse, cells: Path) -> None:
    (cells / "val" / "images" / "3.png").unlink()
    assert refuse(MASKS) == (
        "'cells/val/masks/3.png' has no image; add cells/val/images/3.png or remove the mask; "
        "where names differ otherwise, data.mask_pattern says how"
    )


def test_mask_outside_the_classes(refuse: Refuse, cells: Path) -> None:
    Image.fromarray(MASK * 7).save(cells / "train" / "masks" / "3.png")
    assert refuse(MASKS).startswith(
        "'cells/train/masks/3.png' holds the value 7, outside the 2 classes 0 to 1; mend the mask"
    )


def test_mask_of_another_size(refuse: Refuse, cells: Path) -> None:
    Image.fromarray(MASK[:, :20]).save(cells / "train" / "masks" / "3.png")
    assert refuse(MASKS) == (
        "'cells/train/masks/3.png' has 20x24 pixels, and its image 'cells/train/images/3.png' has "
        "24x24 (width x height); bring them to one size"
    )


def test_masks_that_cannot_be_read(refuse: Refuse, cells: Path) -> None:
    for path in (cells / "train" / "masks").iterdir():
        path.write_bytes(b"nothing")
    for flag in ("", " --data.skip_broken true"):
        refuse(
            MASKS + flag,
            "'cells' holds no readable pair of image and mask for the train split, "
            "though it lists 6: the first of them is 'cells/train/masks/0.png' cannot be read",
        )


def test_class_in_which_every_image_is_broken(refuse: Refuse, folder: Path) -> None:
    for path in (folder / "dog").iterdir():
        path.write_bytes(b"nothing")
    refuse(
        FOLDER + "--data.skip_broken true",
        "'images/dog' holds broken files alone (12 of 12), the first being 'images/dog/",
    )


def test_ignored_number_among_colours(refuse: Refuse, cells: Path) -> None:
    flags = " --data.palette [[0,0,0],[1,1,1]] --data.ignore_value "
    assert refuse(f"{MASKS}{flags}255").startswith(
        "option data.ignore_value is 255; give a colour, such as [224, 224, 192], as palette reads"
    )
    assert refuse(f"{MASKS}{flags}red") == (
        "option data.ignore_value is 'red'; give a whole number, a list of whole numbers ([1, 2]) "
        "or null"
    )


@pytest.mark.parametrize("split", ["val", "test"])
def test_class_that_a_split_of_masks_lacks(split: str, refuse: Refuse, cells: Path) -> None:
    for path in (cells / split / "masks").iterdir():
        Image.fromarray(MASK * 0).save(path)
    assert refuse(MASKS) == (
        f"'cells' has no pixel of class 'foreground' in its {split} split; add some, or set "
        "data.allow_missing_classes: true"
    )


@pytest.mark.parametrize("split", ["val", "test"])
def test_class_that_a_split_of_images_lacks(split: str, refuse: Refuse, tmp_path: Path) -> None:
    for each in ("train", "val", "test"):
        for name in ("cat", "dog"):
            if (each, name) != (split, "dog"):
                for number in range(4):
                    picture(tmp_path / "images" / each / name / f"{number}.png")
    assert refuse(FOLDER) == (
        f"'images' has no image of class 'dog' in its {split} split; add some, or set "
        "data.allow_missing_classes: true"
    )


def test_patient_in_two_splits(refuse: Refuse, cells: Path, tmp_path: Path) -> None:
    owners(cells, train2="Kim", test5="Kim")
    assert refuse(f"{MASKS} --data.groups owners.csv") == (
        "patient 'Kim' stands in two splits, with 'train/images/2.png' in train and "
        "'test/images/5.png' in test; move its images into one"
    )
    for each in ("train", "val", "test"):
        for name in ("cat", "dog"):
            picture(tmp_path / "images" / each / name / "0.png")
    owners(tmp_path / "images", val0="Lee", test0="Lee")
    assert refuse(f"{FOLDER} --data.groups owners.csv").startswith(
        "patient 'Lee' stands in two splits, with 'val/cat/0.png' in val and 'test/"
    )


def test_npz_without_all_its_keys(refuse: Refuse) -> None:
    stack = np.stack([MASK] * 4)
    np.savez("x.npz", train_images=stack, train_masks=stack, val_images=stack, test_masks=stack)
    assert refuse(f"fit --config unet{SMALL} --data SegmentationNpz --data.path x.npz") == (
        "'x.npz' holds train_images, train_masks, val_images, test_masks; add val_masks, "
        "test_images"
    )
    assert refuse(FIT + "--data ImageNpz --data.path x.npz") == (
        "'x.npz' holds train_images, train_masks, val_images, test_masks; add train_labels, "
        "val_labels, test_images, test_labels"
    )


def test_set_that_medmnist_has_not(refuse: Refuse) -> None:
    assert refuse("fit --config medmnist/resnet18 --wandb off --data.name pnuemoniamnist") == (
        "option data.name is 'pnuemoniamnist'; give a 2-D set of MedMNIST; did you mean "
        "'pneumoniamnist'?"
    )


# ------------------------------------------------------------------------------------------ texts

REVIEWS = "".join(f"a {word} film {k},{k % 2}\n" for k in range(60) for word in ("good", "slow"))
TEXTS = {
    "reviews.csv": b"text,label\n" + REVIEWS.encode(),
    "number.csv": b"text,label\na film,1.5\na plot,0\n",
    "one.csv": b"text,label\na film,1\na plot,1\n",
    "empty.csv": b"",
    "mixed.csv": b"text,label\na film,1\nb\x81d,0\n",
    "two.csv": b"text,label,topic\ngood,1,a\nbad,0,b\n",
    "broken.csv": b"text,label\na film,1\na,plot,0\n",
    "words.vec": b"film 0.1 0.2 0.3\nplot 0.3 0.2 0.1\n",
    "pickled/config.json": b'{"model_type": "bert"}',
    "pickled/pytorch_model.bin": b"",
}
ON_REVIEWS = "--data.path reviews.csv "
ENCODER = ON_REVIEWS + "--data.tokenizer word --model.net PretrainedEncoder --model.net.name "


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ON_REVIEWS + "--data.text_column txt",
            [
                "option data.text_column is 'txt'; give a column of",
                "has 'text', 'label' (did you mean 'text'?)",
            ],
        ),
        (
            ON_REVIEWS + "--data.label_column stars",
            ["option data.label_column is 'stars'; give a column of", "has 'text', 'label'"],
        ),
        ("--data.path number.csv", ["label_column", "'1.5' in line 2", "mend the labels"]),
        ("--data.path one.csv", ["all texts of 'one.csv'", "the label '1'", "two classes"]),
        ("--data.path empty.csv", ["'empty.csv' is empty; give"]),
        (
            "--data.path mixed.csv",
            ["'mixed.csv' is not text in UTF-8: byte 21 (0x81) in line 3, nor in"],
        ),
        (
            "--data.path two.csv",
            ["data.label_column is null", "'label' and 'topic' could be"],
        ),
        ("--data.path broken.csv", ["'broken.csv' has 3 values in line 3 but 2", "mend the row"]),
        ("--data.path none.csv", ["option data.path is 'none.csv'; give a file or folder"]),
        (ON_REVIEWS + "--data.vocab_size 0", ["option data.vocab_size is 0; give 1"]),
        (
            ON_REVIEWS + "--data.tokenizer word --data.vocab_size 3",
            ["option data.vocab_size is 3", "give 4 or more"],
        ),
        (
            ON_REVIEWS + "--data.tokenizer word --data.min_frequency 999",
            [
                "option data.tokenizer is 'word'; give more texts",
                "vocabulary would be of size zero",
            ],
        ),
        (
            ON_REVIEWS + "--data.tokenizer word --model.vectors words.vec",
            [
                "model.vectors",
                "is 'words.vec'; it has vectors of 3 numbers",
                "set model.net.embedding_dim to 3",
            ],
        ),
        (ENCODER + "pickled", ["option model.net.name is 'pickled'", "pickled"]),
    ],
)
def test_texts_are_refused(flags: str, words: list[str], refuse: Refuse) -> None:
    for name, content in TEXTS.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content)
    Path("runs/gru").mkdir(parents=True)  # where vectors are looked at, the run has a folder
    refuse(f"fit --config gru --wandb off --data TextClassification {flags}", *words)


def test_texts_beyond_an_encoders_positions(refuse: Refuse) -> None:
    transformers = pytest.importorskip("transformers")
    Path("reviews.csv").write_bytes(TEXTS["reviews.csv"])
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 200}
    config = transformers.BertConfig(**sizes, num_hidden_layers=1, max_position_embeddings=16)
    transformers.BertModel(config).save_pretrained("tiny")
    command = f"fit --config gru --wandb off --data TextClassification {ENCODER}tiny "
    refuse(
        command + "--data.max_length 17",
        "option data.max_length is 17; 'tiny' has no more than 16 positions",
        "set max_length of the data to 16 or less",
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("sst2/lstm", ["option data.root is null", "stanfordnlp/sst2", "with train.tsv"]),
        (
            "gru --data TextClassification --data.path owner/name",
            ["option data.path is 'owner/name'", "give their folder as the path"],
        ),
        (
            "gru --data TextClassification --data.path reviews.csv --data.tokenizer owner/name",
            ["option data.tokenizer is 'owner/name'", "the path of a tokenizer.json"],
        ),
        (
            "gru --data TextClassification --data.path reviews.csv --data.tokenizer word "
            "--model.net PretrainedEncoder --model.net.name owner/name",
            ["option model.net.name is 'owner/name'; give a folder with"],
        ),
    ],
)
def test_a_hub_that_does_not_answer(
    flags: str, words: list[str], refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    Path("reviews.csv").write_bytes(TEXTS["reviews.csv"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert hub.PROBE_S <= 10
    monkeypatch.setattr(hub, "PROBE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes calls, and says nothing
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        sentence = refuse(f"fit --wandb off --config {flags}", *words)
    assert "127.0.0.1 does not answer within 0.5 s" in sentence


# -------------------------------------------------------------------------------- devices, folders


def test_too_many_devices(refuse: Refuse) -> None:
    sentence = refuse(FIT + "--trainer.accelerator cpu --trainer.devices 99999")
    assert re.fullmatch(
        r"option trainer.devices is 99999; give a number from 1 to \d+, the CPU cores", sentence
    )


@pytest.mark.skipif(torch.accelerator.is_available(), reason="has an accelerator")
@pytest.mark.parametrize("name", ["gpu", "cuda", "tpu"])
def test_no_accelerator(name: str, refuse: Refuse) -> None:
    assert refuse(FIT + f"--trainer.accelerator {name} --trainer.devices 2") == (
        f"option trainer.accelerator is {name!r}; give auto for the best that this machine has, or "
        "cpu: it has no other that torch can use"
    )


def test_run_folder_cannot_be_written(refuse: Refuse) -> None:
    Path("runs").write_text("in the way")
    refuse(FIT, "the run folder 'runs/r/", "set trainer.default_root_dir to a folder that can")
    refuse(FIT + "--trainer.default_root_dir /proc/runs", "the run folder '/proc/runs/r/")


@pytest.mark.parametrize(
    ("flags", "option", "value"),
    [
        ("callbacks+=ModelCheckpoint --trainer.callbacks.dirpath", "callbacks.dirpath", "/tmp/x"),
        (
            "callbacks+=ModelCheckpoint --trainer.callbacks.dirpath",
            "callbacks.dirpath",
            "a/../../x",
        ),
        ("callbacks+=ModelCheckpoint --trainer.callbacks.filename", "callbacks.filename", "../x"),
        (
            "callbacks+=OnExceptionCheckpoint --trainer.callbacks.dirpath",
            "callbacks.dirpath",
            "~/x",
        ),
        ("logger CSVLogger --trainer.logger.save_dir", "logger.save_dir", ".."),
        (
            "logger CSVLogger --trainer.logger.save_dir logs --trainer.logger.name",
            "logger.name",
            "/tmp/x",
        ),
        ("logger WandbLogger --trainer.logger.dir", "logger.dir", "/tmp/x"),
        ("profiler SimpleProfiler --trainer.profiler.dirpath", "profiler.dirpath", "/tmp/x"),
        ("profiler AdvancedProfiler --trainer.profiler.filename", "profiler.filename", "/tmp/x"),
    ],
)
def test_nothing_is_written_elsewhere(flags: str, option: str, value: str, refuse: Refuse) -> None:
    refuse(
        f"{FIT} --trainer.{flags} {value}",
        f"option trainer.{option} is '{value}'; give a name inside the run folder, such as logs",
    )


def test_relative_folders_lie_in_the_run_folder(zoo: Callable[[str], Any]) -> None:
    command = (
        FIT + "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.dirpath mine "
        "--trainer.logger CSVLogger --trainer.logger.save_dir logs "
        "--trainer.profiler SimpleProfiler --trainer.profiler.dirpath . "
        "--trainer.profiler.filename times"
    )
    assert zoo(command).code == 0
    (run,) = Path("runs/r").iterdir()
    assert {path.name for path in Path().iterdir()} - {"cache"} == {"runs", "r.yaml"}
    assert list((run / "mine").glob("*.ckpt"))
    assert list((run / "logs").rglob("metrics.csv"))
    assert list(run.glob("fit-times.txt"))
    recipe = (run / "recipe.yaml").read_text()
    assert "save_dir: logs" in recipe
    assert zoo(f"fit --config {run / 'recipe.yaml'} --wandb off").code == 0


def test_checkpoints_cannot_be_written(
    zoo: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe = RunFolder.write_recipe

    def in_the_way(self: RunFolder, text: str) -> None:
        write_recipe(self, text)
        (self.path / "checkpoints").touch()

    monkeypatch.setattr(RunFolder, "write_recipe", in_the_way)
    ended = zoo(FIT)
    assert ended.code == 1
    assert ended.err.startswith("zoo: 'runs/r/")
    assert ended.err.endswith(
        "best.ckpt' cannot be written (File exists); mend that, then start anew\n"
    )


# -------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("verb", ["test", "validate", "predict"])
def test_no_checkpoint(verb: str, refuse: Refuse) -> None:
    refuse(verb, f"{verb} needs a checkpoint: give --ckpt_path FILE")
    refuse(f"{verb} --config r.yaml --wandb off", f"{verb} needs a checkpoint: give --ckpt_path")


@pytest.mark.parametrize("which", ["last", "best"])
def test_no_run_to_go_on_with(which: str, refuse: Refuse) -> None:
    assert refuse(FIT + f"--ckpt_path {which}") == (
        f"option ckpt_path is '{which}'; leave it out to start a run of 'r', of which there is "
        "none in 'runs'"
    )


@pytest.mark.parametrize("url", ["http://a.b/c.ckpt", "s3://b/c.ckpt", "file:///tmp/c.ckpt"])
def test_checkpoint_is_a_url(url: str, refuse: Refuse) -> None:
    sentence = (
        f"option ckpt_path is '{url}'; download the file, check where it comes from, and give its "
        "local path"
    )
    assert refuse(FIT + f"--ckpt_path {url}") == sentence
    assert refuse(f"test --ckpt_path {url}") == sentence
    Path("mine.yaml").write_text(f"ckpt_path: {url}")
    assert refuse(FIT + "--config mine.yaml") == sentence


def test_checkpoint_is_no_checkpoint(refuse: Refuse, checkpoint: Path) -> None:
    def says(*words: str) -> None:
        for verb in ("fit --config r.yaml", "test"):
            refuse(
                f"{verb} --ckpt_path mine.ckpt --wandb off",
                "option ckpt_path is 'mine.ckpt'; ",
                *words,
            )

    says("give a file that is there: runs keep theirs in RUN/checkpoints")
    mine = Path("mine.ckpt")
    content = checkpoint.read_bytes()
    for kept in (0, 100, len(content) // 2, len(content) - 1):
        mine.write_bytes(content[:kept])
        says("it is damaged, or is no checkpoint: give a file that `fit` saved")
    for content in (b"some text\n", bytes(range(256)) * 9):
        mine.write_bytes(content)
        says("it is damaged, or is no checkpoint: give a file that `fit` saved")
    for content in ({"weight": torch.zeros(3)}, [1, 2], torch.zeros(3)):
        torch.save(content, mine)
        says("no training checkpoint, as it has no 'state_dict': give a file that `fit` saved")
    mine.unlink()
    mine.mkdir()
    says("it is a folder: give a file in it")


@pytest.mark.parametrize("place", ["top", "hyper_parameters", "state_dict"])
@pytest.mark.parametrize("value", [Touch(), Path("x"), np.float64(1), slice(1)], ids=type)
def test_checkpoint_holds_objects(place: str, value: Any, refuse: Refuse) -> None:
    content: dict[str, Any] = {"state_dict": {}, "hyper_parameters": {}}
    (content if place == "top" else content[place])["x"] = value
    torch.save(content, "mine.ckpt")
    for verb in ("fit --config r.yaml", "test", "predict --inputs r.yaml"):
        assert refuse(f"{verb} --ckpt_path mine.ckpt --wandb off") == (
            "option ckpt_path is 'mine.ckpt'; it holds objects that are not plain data, and is not "
            "opened: save it again with tensors, numbers, strings, lists and dictionaries only"
        )
    assert not Path("CANARY").exists()


def test_checkpoint_of_another_net(refuse: Refuse, checkpoint: Path) -> None:
    options = f"--ckpt_path {checkpoint} --wandb off --model.net.layout paper"
    sentence = refuse(f"test {options}")
    assert sentence.startswith(f"option ckpt_path is '{checkpoint}'; it does not fit the net ")
    sentence = refuse(f"fit --config r.yaml {options}")
    assert "had model.net.layout 'cifar', not 'paper' as here" in sentence
    for net in ("torchvision.models.alexnet", "torch.nn.Identity"):
        command = f"test --ckpt_path {checkpoint} --wandb off --model.net {net}"
        refuse(
            command, f"option ckpt_path is '{checkpoint}'; it does not fit the net of this run, as "
        )


@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer_states": None},
        {"loops": None, "optimizer_states": None, "lr_schedulers": None},
        {"pytorch-lightning_version": None},
        {"hyper_parameters": [1]},
        {"zoo": {"layout": LAYOUT, "data": 3}},
    ],
    ids=str,
)
def test_checkpoint_lacks_a_part(changed: dict[str, Any], refuse: Refuse, checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    for name, value in changed.items():
        content[name] = value
        if value is None:
            del content[name]
    torch.save(content, "mine.ckpt")
    refuse(
        "fit --config r.yaml --ckpt_path mine.ckpt --wandb off", "option ckpt_path is 'mine.ckpt'; "
    )


@pytest.mark.parametrize(
    ("facts", "maker"), [({}, "0.1.0"), ({"version": "9.1", "layout": 9}, "9.1")]
)
def test_checkpoint_of_another_version(
    facts: dict[str, Any], maker: str, refuse: Refuse, checkpoint: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    assert content["zoo"]["version"] == zoo_package.__version__
    assert content["zoo"]["layout"] == LAYOUT
    for name in ("version", "layout"):
        del content["zoo"][name]
    content["zoo"] |= facts
    content["hyper_parameters"]["_class_path"] = "zoo.tasks.image_classifier.ImageClassifier"
    torch.save(content, "mine.ckpt")
    for command in ("fit --config r.yaml", "test", "predict --inputs r.yaml"):
        assert refuse(f"{command} --ckpt_path mine.ckpt --wandb off") == (
            f"option ckpt_path is 'mine.ckpt'; it was made by lightning-zoo {maker}, whose layout "
            "differs: use it with that version, or train again with its run's recipe.yaml"
        )


# -------------------------------------------------------------------------------- inputs


def test_inputs(refuse: Refuse, checkpoint: Path) -> None:
    predict = f"predict --ckpt_path {checkpoint} --wandb off --inputs"
    assert refuse(predict) == "option --inputs needs at least one file or folder"
    assert refuse(f"{predict} nowhere.png") == (
        "'nowhere.png' does not exist; give image files or folders"
    )
    Path("empty").mkdir()
    refuse(f"{predict} empty", "no image found in 'empty'")


def test_inputs_cannot_be_read(zoo: Callable[[str], Any], checkpoint: Path) -> None:
    picture(Path("whole.png"))
    Path("broken.png").write_bytes(Path("whole.png").read_bytes()[:200])
    for name in ("r.yaml", "broken.png"):
        ended = zoo(f"predict --ckpt_path {checkpoint} --wandb off --inputs {name}")
        assert ended.code == 2
        assert ended.err.startswith(
            f"zoo: no input can be read; {name!r} cannot be read as an image ("
        )
        assert ended.err.count("\n") == 1
        assert not Path("runs").exists()
    ended = zoo(f"predict --ckpt_path {checkpoint} --wandb off --inputs whole.png broken.png")
    assert ended.code == 1
    assert "'broken.png' cannot be read as an image (" in ended.err
    (predictions,) = Path("runs").rglob("predictions.csv")
    assert "whole.png" in predictions.read_text()


# -------------------------------------------------------------------------------- the process


def test_traceback_on_demand(zoo: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DEBUG", "1")
    ended = zoo(FIT + "--model.lrr 1")
    assert ended.code == 2
    assert "Traceback (most recent call last)" in ended.err
    assert ended.err.endswith("zoo: option --model.lrr is not known; did you mean --model.lr?\n")


def test_in_a_process_of_its_own(zoo: Callable[[str], Any], folder: Path) -> None:
    """No library says anything beside the sentence."""
    (folder / "cat" / "3.png").write_bytes(b"")
    command = [sys.executable, "-m", "zoo", *FOLDER.split()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2
    assert ended.stderr.startswith("zoo: 'images/cat/3.png' cannot be read as an image (")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    assert not Path("runs").exists()
