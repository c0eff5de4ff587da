"""Weights that come with the package: listed with their cards, and taken by their names."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.catalog import weights as catalog
from zoo.run.checkpoint import read_checkpoint
from zoo.run.weights_file import write_weights

Zoo = Callable[..., Any]
ROOT = Path(__file__).parents[2]
CARD = {
    "net": "GoogLeNet",
    "parameters": 259498,
    "recipe": "inception",
    "data": "Digits",
    "licence": "CC BY 4.0",
    "figure": "acc",
    "test": {"acc": 0.9, "loss": 0.3},
    "chosen": "epoch 1, step 1: val/acc 0.9",
    "seed": 0,
    "seconds": 12.0,
    "device": "CPU",
    "threads": 1,
    "precision": "32-true",
    "versions": {"torch": "2.15.0"},
    "commit": "0123456789ab",
}


@pytest.fixture
def shipped(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with one net in it."""
    folder = tmp_path / "packaged"
    folder.mkdir()
    content = read_checkpoint(checkpoint) | {"card": CARD, "test": CARD["test"]}
    write_weights(content, folder / "tiny-digits.safetensors")
    monkeypatch.setattr(catalog, "FOLDER", folder)
    catalog.card_of.cache_clear()
    yield folder
    catalog.card_of.cache_clear()


def test_they_are_listed(zoo: Zoo, shipped: Path) -> None:
    line = "GoogLeNet, 259,498 parameters, trained on Digits: test acc 0.9."
    assert zoo("list weights").out == f"weights:\n  tiny-digits  {line}\n"
    for command in ("list weights tiny-digits", "help tiny-digits"):
        out = zoo(command).out
        assert "  data      Digits; CC BY 4.0\n" in out
        assert "  recipe    inception, seed 0, 12 s on CPU with 1 thread\n" in out
        assert "Try:\n  zoo predict --weights tiny-digits --inputs FILE" in out
    (entry,) = json.loads(zoo("list weights tiny-digits --json").out)
    assert entry["card"] == CARD


def test_they_are_taken_by_name(zoo: Zoo, shipped: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save("x.png")
    told = [
        zoo(f"predict {option} --inputs x.png --trainer.accelerator cpu")
        for option in (
            "--weights tiny-digits",
            f"--ckpt_path {shipped / 'tiny-digits.safetensors'}",
        )
    ]
    assert [each.code for each in told] == [0, 0]
    assert told[0].out.splitlines()[0] == told[1].out.splitlines()[0]
    still = "--model.lr 0 --trainer.max_epochs 1 --trainer.limit_train_batches 1 --wandb off"
    few = "--trainer.limit_val_batches 1 --trainer.limit_test_batches 1 --trainer.accelerator cpu"
    ended = zoo(f"fit r.yaml --init_from tiny-digits {still} {few}")
    assert ended.code == 0
    assert "weights  of tiny-digits: " in ended.out


def test_they_load_in_python(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zoo

    model = zoo.load("tiny-digits", device="cpu")
    result: Any = model(np.zeros((8, 8), dtype=np.uint8))
    assert result.label in map(str, range(10))


def test_what_cannot_be(refuse: Callable[..., str], shipped: Path) -> None:
    refuse(
        "fit r.yaml --weights tiny-digits", "not to fit: a training starts from them by --init_from"
    )
    refuse("fit r.yaml --ckpt_path tiny-digits", "without an optimiser's state")
    refuse("fit r.yaml --init_from tiny-digit", "option init_from is 'tiny-digit'", "'tiny-digits'")
    refuse("test --weights tiny-digit", "weights is 'tiny-digit'", "did you mean 'tiny-digits'?")
    refuse("test --weights hf:tiny-digits", "option weights is ", "give owner/name")
    refuse("test --weights tiny-digits --ckpt_path last", "option weights is 'tiny-digits'; leave")
    refuse("push tiny-digits digits", "owner/name is 'digits'; give owner/name")
    refuse("push tiny-digit me/digits", "did you mean 'tiny-digits'?")


def _script() -> Any:
    path = ROOT / "tests" / "benchmarks" / "shipped_weights.py"
    spec = importlib.util.spec_from_file_location("shipped_weights", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["shipped_weights"] = module
    spec.loader.exec_module(module)
    return module


NAMES = catalog.weights_names()


def test_the_package_has_those_that_its_script_makes() -> None:
    assert set(NAMES) == set(_script().SHIPPED)
    assert sum(catalog.weights_path(name).stat().st_size for name in NAMES) <= 12e6


@pytest.mark.parametrize("name", NAMES)
def test_each_that_the_package_has_is_whole(name: str) -> None:
    content, card = read_checkpoint(catalog.weights_path(name)), catalog.card_of(name)
    assert set(card) == set(CARD)
    assert card["test"] == content["test"]
    assert card["figure"] in card["test"]
    assert card["recipe"] == _script().SHIPPED[name].recipe
    net = {n: v for n, v in content["state_dict"].items() if n.startswith("net.")}
    assert sum(value.numel() for value in net.values()) >= card["parameters"]
    assert list(_script().absolute({**content["hyper_parameters"], **content["zoo"]})) == []
