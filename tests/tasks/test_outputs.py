"""Nets that give more than logits train as those that give logits alone."""

from collections import namedtuple
from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from zoo import MLP
from zoo.errors import UserError
from zoo.inference.tiling import predict_tiled
from zoo.nets.outputs import auxiliary_logits, main_logits
from zoo.tasks import (
    ImageClassifier,
    ImageSegmenter,
    LanguageModel,
    Regressor,
    Task,
    TextClassifier,
)

TextBatch = namedtuple("TextBatch", ["tokens", "labels", "lengths"])
Named = namedtuple("Named", ["logits", "other"])
FORMS: dict[str, Callable[[Tensor], Any]] = {
    "dictionary": lambda logits: {"aux": 2 * logits, "out": logits},
    "object": lambda logits: SimpleNamespace(hidden=2 * logits, logits=logits),
    "tuple": lambda logits: (logits, None),
    "named tuple": lambda logits: Named(logits, None),
}


class Gives(nn.Module):
    """A net that wraps another's logits."""

    def __init__(self, net: nn.Module, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.form = net, form

    def forward(self, *inputs: Any, **_: Any) -> Any:
        return self.form(self.net(inputs[0]))


def case(task: type[Task]) -> tuple[Callable[[nn.Module], Task], nn.Module, DataLoader]:
    """Return how the task is made, a net that gives logits alone, and data."""
    draw = torch.Generator().manual_seed(0)
    images, classes = torch.randn(8, 1, 4, 4, generator=draw), torch.arange(8) % 2
    tokens = torch.randint(0, 5, (8, 6), generator=draw)
    words = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    if task is ImageClassifier:
        net = MLP(1, 2, image_size=4, widths=[4])
        return lambda net: ImageClassifier(net, num_classes=2), net, loader(images, classes)
    if task is ImageSegmenter:
        data = loader(images, (images[:, 0] > 0).long())
        return lambda net: ImageSegmenter(net, num_classes=2), nn.Conv2d(1, 2, 1), data
    if task is Regressor:
        return Regressor, MLP(4, 1, widths=[4]), loader(images[:, 0, 0], images.mean((1, 2, 3)))
    if task is TextClassifier:
        net = nn.Sequential(nn.EmbeddingBag(5, 4), nn.Linear(4, 2))
        data = loader(tokens, classes, torch.full((8,), 6))
        return lambda net: TextClassifier(net, num_classes=2), net, data
    data = loader(tokens, tokens.roll(-1, 1), torch.full((8,), 6))
    return lambda net: LanguageModel(net, sample_tokens=0), words, data


def loader(*parts: Tensor) -> DataLoader:
    as_batch = TextBatch if len(parts) == 3 else lambda *stacked: stacked

    def collate(rows: list[Any]) -> Any:
        return as_batch(*map(torch.stack, zip(*rows, strict=True)))

    return DataLoader(TensorDataset(*parts), batch_size=4, collate_fn=collate)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "kind", [ImageClassifier, ImageSegmenter, Regressor, TextClassifier, LanguageModel]
)
def test_logits_are_taken_out(
    trainer: Callable[..., L.Trainer], kind: type[Task], form: str
) -> None:
    make, net, data = case(kind)
    found = []
    for given in (lambda logits: logits, FORMS[form]):
        task = make(Gives(deepcopy(net), given))
        fit = trainer()
        fit.fit(task, data, data)
        figures = {name: float(value) for name, value in fit.callback_metrics.items()}
        found.append((figures, torch.cat([p.flatten() for p in task.parameters()])))
    assert found[0][0] == pytest.approx(found[1][0], nan_ok=True)
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (lambda logits: {"last_hidden_state": logits}, "gives a dict of last_hidden_state, in"),
        (lambda logits: [logits], "gives a list, in"),
        (lambda logits: None, "gives a NoneType, in"),
        (lambda logits: ({"out": 1},), "gives a dict of out, in"),
    ],
)
@pytest.mark.parametrize("kind", [ImageClassifier, Regressor, LanguageModel])
def test_a_net_without_logits_is_refused(
    trainer: Callable[..., L.Trainer], kind: type[Task], given: Callable[[Tensor], Any], named: str
) -> None:
    make, net, data = case(kind)
    with pytest.raises(UserError, match=f"option model.net: Gives {named}"):
        trainer().fit(make(Gives(net, given)), data)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (nn.Conv2d(1, 3, 1), "gives 3x4x4 .*asks for 2x4x4.* set the net's number of outputs"),
        (nn.Conv2d(1, 2, 1, stride=2), "gives 2x2x2 .*wrap it in a net that resizes them"),
    ],
)
def test_logits_of_another_shape_are_refused(
    trainer: Callable[..., L.Trainer], net: nn.Module, said: str
) -> None:
    make, _, data = case(ImageSegmenter)
    with pytest.raises(UserError, match=said):
        trainer().fit(make(net), data)


def test_tiles_of_such_a_net() -> None:
    net, images = nn.Conv2d(1, 2, 1), torch.randn(2, 1, 9, 7)
    tiled = predict_tiled(Gives(net, FORMS["dictionary"]), images, tile=4, overlap=1)
    assert torch.allclose(tiled, net(images))


def test_nets_of_transformers_and_torchvision() -> None:
    transformers = pytest.importorskip("transformers")
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(image_size=32, num_hidden_layers=1, num_labels=3, **sizes)
    images = torch.randn(2, 3, 32, 32)
    for net, shape in (
        (transformers.ViTForImageClassification(config), (2, 3)),
        (lraspp_mobilenet_v3_large(num_classes=3, weights_backbone=None), (2, 3, 32, 32)),
    ):
        assert main_logits(net.eval()(images), net).shape == shape
    with pytest.raises(UserError, match="ViTModel gives a BaseModelOutputWithPooling of last_hid"):
        main_logits(transformers.ViTModel(config)(images), transformers.ViTModel(config))
    bert = transformers.BertConfig(vocab_size=20, num_hidden_layers=1, **sizes)
    with pytest.raises(UserError, match="choose PretrainedEncoder"):
        TextClassifier(transformers.BertForSequenceClassification(bert), num_classes=2)
    with pytest.raises(UserError, match="sample_tokens is 200; give 0"):
        LanguageModel(nn.Linear(2, 2))


def test_auxiliary_heads_stand_behind_the_logits() -> None:
    first, second = torch.ones(1, 2), torch.zeros(1, 2)
    assert auxiliary_logits((first, None, second)) == [second]
    assert auxiliary_logits({"out": first, "aux": second}) == []
    assert auxiliary_logits(first) == []
