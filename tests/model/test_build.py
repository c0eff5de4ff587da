"""What a checkpoint names is built with a parser only where it is not the zoo's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo as package
from zoo.__main__ import main
from zoo.errors import UserError
from zoo.inference.outputs import (
    ImageClassAnswers,
    MaskAnswers,
    NumberAnswers,
    TextClassAnswers,
)
from zoo.model.build import build_net
from zoo.model.find import find_weights
from zoo.tasks import ImageClassifier, ImageSegmenter, Regressor, TextClassifier

OWN = """\
from pathlib import Path

import torch
from torch import nn

Path("IMPORTED").touch()


class Net(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.layer = nn.Linear(64, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))
"""


@pytest.fixture
def own(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a checkpoint with another net, and a module of the user's own with one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    Path("own_net.py").write_text(OWN)
    content = torch.load(checkpoint, weights_only=True)

    def write(spec: Any, state: dict[str, torch.Tensor]) -> str:
        content["hyper_parameters"]["net"] = spec
        content["state_dict"] = state
        torch.save(content, "mine.ckpt")
        return "mine.ckpt"

    return write


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("os.system", {"class_path": "os.system", "init_args": {"command": "touch CANARY"}}),
        ("own_net.Net", {"class_path": "own_net.Net"}),
        ("zoo.errors.Ended", {"class_path": "zoo.errors.Ended", "init_args": {"sentence": "x"}}),
        (
            "os.system",
            {"class_path": "zoo.MLP", "init_args": {"norm": {"class_path": "os.system"}}},
        ),
    ],
)
def test_nothing_else_is_imported_or_called(own: Any, name: str, spec: Any) -> None:
    with pytest.raises(UserError):
        package.load(own(spec, {}), device="cpu")
    assert not Path("CANARY").exists()
    assert not Path("IMPORTED").exists()


def test_a_net_of_a_package_that_is_trusted(own: Any) -> None:
    weights = {"net.layer.weight": torch.zeros(10, 64), "net.layer.bias": torch.eye(10)[3] * 9}
    path = own({"class_path": "own_net.Net", "init_args": {"classes": 10}}, weights)
    with pytest.raises(UserError, match=r"names 'own_net\.Net', .*trust=\[\"own_net\"\]"):
        package.load(path)
    model = package.load(path, device="cpu", trust=["own_net"])
    result: Any = model(np.zeros((8, 8), np.uint8))
    assert result.label == "3"
    assert type(model.net).__module__ == "own_net"
    task: Any = model.task
    assert task.net is model.net
    with pytest.raises(UserError, match=r"it lacks net\.layer\.weight"):
        package.load(own({"class_path": "own_net.Net"}, {}), trust=["own_net"])


@pytest.mark.parametrize(
    ("class_path", "arguments", "words"),
    [
        ("zoo.GoogLeNet", {"in_channels": 3, "weights": "IMAGENET1K_V1"}, "it lacks net."),
        ("torchvision.models.squeezenet1_1", {"weights": "IMAGENET1K_V1"}, "it lacks net."),
        ("timm.create_model", {"model_name": "resnet10t", "pretrained": True}, "it lacks net."),
        ("zoo.PretrainedEncoder", {"name": "org/tiny"}, "names the model 'org/tiny', and not its"),
        ("zoo.PretrainedCausalLM", {"model": "org/tiny"}, "names the model 'org/tiny', and not it"),
    ],
)
def test_a_file_makes_nothing_be_downloaded(
    own: Any, monkeypatch: pytest.MonkeyPatch, class_path: str, arguments: Any, words: str
) -> None:
    """Neither here nor by the command line: the net's own weights follow."""

    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("asked the network")

    monkeypatch.setattr("socket.create_connection", fail)
    monkeypatch.setattr("urllib.request.urlopen", fail)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fail)
    path = own({"class_path": class_path, "init_args": arguments}, {})
    with pytest.raises(UserError, match=words):
        package.load(path, device="cpu")
    assert main(["predict", "--ckpt_path", path, "--inputs", "x.png"]) == 2


def test_a_net_of_torchvision() -> None:
    spec = {
        "class_path": "torchvision.models.squeezenet1_1",
        "init_args": {"num_classes": 4, "weights": None},
        "dict_kwargs": {"in_channels": 1},
    }
    options = {"_class_path": "zoo.ImageClassifier", "net": spec}
    net: Any = build_net(options, "x.ckpt")
    assert net(torch.zeros(1, 1, 64, 64)).shape == (1, 4)
    norm = {"num_classes": 4, "norm_layer": "torch.nn.BatchNorm2d"}  # which the parser looks up
    for class_path, given in (("get_model", {}), ("resnet18", norm)):
        other = {"class_path": f"torchvision.models.{class_path}", "init_args": given}
        assert build_net({**options, "net": other}, "x.ckpt") is None


@pytest.mark.parametrize(
    ("task", "answers"),
    [
        (ImageClassifier, ImageClassAnswers),
        (TextClassifier, TextClassAnswers),
        (ImageSegmenter, MaskAnswers),
        (Regressor, NumberAnswers),
    ],
)
def test_answers_have_the_tasks_options(task: Any, answers: Any) -> None:
    """Of the same names and defaults: a checkpoint of an earlier version may lack one."""
    net = package.UNet(1, 2, depth=1, width=4) if task is ImageSegmenter else torch.nn.Linear(2, 1)
    options = {} if task is Regressor else {"num_classes": 2}
    assert task(net, **options).answers() == answers()


def test_a_file_with_a_colon_in_its_name(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "mine:best"
    path.write_bytes(checkpoint.read_bytes())
    assert find_weights(path) == path


def test_an_image_of_16_bits_and_one_that_lies_on_its_side(
    checkpoint: Path, tmp_path: Path
) -> None:
    model = package.load(checkpoint, device="cpu")
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert model(deep) == model(tmp_path / "deep.png")
    grey = Image.fromarray((deep // 257).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        turned = model(opened)
    assert turned == model(tmp_path / "turned.png") == model(np.rot90(np.asarray(grey), -1))
