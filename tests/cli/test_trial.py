"""``zoo check``: what it finds in sound recipes and in broken ones, and that it leaves nothing."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules import CSVTable, Digits, SyntheticCells, TextCorpus
from zoo.cli.trial import Findings, Trial, TrialOver
from zoo.errors import UserError
from zoo.nets import GPT, MLP
from zoo.report.understood import Length
from zoo.tasks import ImageClassifier, ImageSegmenter, LanguageModel, Regressor


class Linear(nn.Module):
    """Eight by eight pixels to ten logits."""

    num_classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.flatten(1))
        return logits


class WithForgotten(Linear):
    """Has a layer that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(8, 8)


class Dead(Linear):
    """Has a layer behind units that are never alive."""

    def __init__(self) -> None:
        super().__init__()
        self.dead = nn.Linear(64, 10)
        nn.init.constant_(self.dead.bias, -1e6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.dead(x.flatten(1)).relu()


class NotFinite(Linear):
    """Is not finite from the start."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.full((1,), -1.0).log()


@pytest.fixture
def tried(trainer: Callable[..., Any]) -> Callable[..., Findings]:
    """Tries a task on data and gives the findings."""

    def run(task: Any, data: Any, **options: Any) -> Findings:
        trial = Trial()
        with pytest.raises(TrialOver):
            trainer(**{"callbacks": [trial], "max_epochs": 3, **options}).fit(task, data)
        return trial.findings

    return run


def digits() -> Digits:
    return Digits(batch_size=100)


def test_a_sound_classifier(tried: Callable[..., Findings]) -> None:
    task = ImageClassifier(Linear(), lr=0.01, warmup_steps=30, label_smoothing=0.1)
    found = tried(task, digits(), accumulate_grad_batches=2)
    assert found.problems == []
    assert found.batch == {"image": (100, 1, 8, 8), "label": (100,)}
    assert found.outputs == (100, 10)
    assert len(found.losses) == 21
    assert found.losses[-1] < found.losses[0] / 2
    assert found.chance == 10
    assert found.cross_entropy is not None
    assert 1.5 < found.cross_entropy < 4
    assert found.length == Length(batches=13, accumulated=2, steps=21, epochs=3)
    assert found.seconds > 0
    assert found.memory is None or 1e8 < found.memory < (found.room or 0)
    told = found.table()
    assert "batch   image (100, 1, 8, 8), label (100); the net gives (100, 10)" in told
    assert "a net that knows nothing has log(10) = 2.303" in told
    assert told.splitlines()[-1] == "right   nothing is wrong"


def test_steps_that_take_long_are_fewer_and_judge_no_loss(
    tried: Callable[..., Findings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.cli.trial._LONGEST", 0.0)
    found = tried(ImageClassifier(Linear(), lr=1e-9), digits())
    assert found.is_cut_short
    assert len(found.losses) == 5
    assert found.problems == []  # all 20 would tell that the loss hardly falls
    assert "steps   4 on this batch alone, as 20 take over 0 s: loss " in found.table()


def test_the_loss_is_the_weights_alone(tried: Callable[..., Findings]) -> None:
    net = MLP(1, 10, image_size=8, dropout=0.5)
    found = tried(ImageClassifier(net, lr=0.0, mixup_alpha=1.0), digits())
    assert len(set(found.losses)) == 1
    assert found.problems == ["no weight moves in 20 steps: model.lr is 0; give a higher one"]


def test_a_number_a_mask_and_a_text(tried: Callable[..., Findings], tmp_path: Path) -> None:
    rows = "\n".join(f"{x},{3 * x}" for x in range(40))
    (tmp_path / "t.csv").write_text(f"x,y\n{rows}\n")
    data = CSVTable(str(tmp_path / "t.csv"), target="y", batch_size=16)
    task = Regressor(
        MLP(1, 1, image_size=None),
        lr=0.01,
        target_mean=data.target_mean,
        target_std=data.target_std,
    )
    found = tried(task, data)
    assert (found.problems, found.chance, found.outputs) == ([], None, (16, 1))
    assert found.losses[0] < 3  # on the scale that the net learns

    cells = SyntheticCells(count=20, image_size=16, batch_size=4)
    found = tried(ImageSegmenter(nn.Conv2d(3, 2, 3, padding=1), num_classes=2, lr=0.01), cells)
    assert (found.problems, found.chance) == ([], None)
    assert found.batch == {"image": (4, 3, 16, 16), "mask": (4, 16, 16)}

    (tmp_path / "corpus.txt").write_text("to be or not to be " * 50)
    text = TextCorpus(str(tmp_path / "corpus.txt"), tokenizer="char", max_length=8, batch_size=4)
    net = GPT(text.vocab_size, max_length=8, num_layers=1, embedding_dim=16, num_heads=2)
    found = tried(LanguageModel(net, lr=0.01), text)
    assert (found.problems, found.chance, found.outputs) == ([], 8, None)
    assert f"has log(8) = {math.log(8):.4g}" in found.table()


@pytest.mark.parametrize(
    ("net", "options", "problem"),
    [
        (Linear, {"lr": 1e-9}, "the loss hardly falls on one batch, from "),
        (Linear, {"lr": 1e4, "optimizer": "sgd"}, "the loss rises on one batch, from "),
        (Linear, {"lr": 1e30, "optimizer": "sgd"}, "the loss is not finite after 2 steps: give a"),
        (NotFinite, {}, "the loss is not finite before the first step: look for numbers in "),
        (WithForgotten, {}, "forgotten.bias gets no gradient (nor 1 more): the loss does not "),
        (Dead, {}, "dead.bias gets no gradient (nor 1 more): the loss does not depend on it, or"),
    ],
)
def test_what_is_broken_is_named(
    net: type[nn.Module], options: Any, problem: str, tried: Callable[..., Findings]
) -> None:
    found = tried(ImageClassifier(net(), **options), digits())
    (told,) = found.problems
    assert told.startswith(problem)
    assert f"\nwrong   {problem[:40]}" in found.table()
    assert all(len(line) <= 100 for line in found.table().splitlines())


def test_a_net_without_anything_to_train_is_refused(trainer: Callable[..., Any]) -> None:
    task = ImageClassifier(Linear().requires_grad_(False))
    with pytest.raises(UserError, match=r"option model\.net: Linear has no parameter that is tr"):
        trainer(callbacks=[Trial()]).fit(task, digits())


def test_weights_that_are_frozen_need_no_gradient(tried: Callable[..., Findings]) -> None:
    found = tried(ImageClassifier(MLP(1, 10, image_size=8), freeze="backbone", lr=0.1), digits())
    assert found.problems == []


def test_a_start_far_above_chance_is_noted() -> None:
    found = Findings(losses=[9.0], cross_entropy=9.0, chance=10)
    assert "= 2.303: look at how weights start and inputs" in found.table()


def test_the_command_leaves_nothing_behind(zoo: Callable[[str], Any]) -> None:
    before = sorted(Path().iterdir())
    ended = zoo("check --config r.yaml --model.net MLP --model.lr 0.01 --trainer.devices 2")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("data    Digits, 10 classes: ")
    assert ended.out.endswith("right   nothing is wrong\n")
    assert "a step, " in ended.out
    assert sorted(p for p in Path().iterdir() if p.name != "cache") == before
    ended = zoo("check --config r.yaml --model.net MLP --model.lr 0 --quiet")
    assert ended.code == 1
    assert ended.out.startswith("batch   image (64, 1, 8, 8)")
    assert "\nwrong   no weight moves in 20 steps: model.lr is 0" in ended.out
    ended = zoo("check --config r.yaml --model.net MLP --trainer.limit_train_batches 0")
    assert ended.code == 2
    assert "option trainer.limit_train_batches is 0; give more: there is no batch" in ended.err
    ended = zoo("check")
    assert (ended.code, ended.err[:40]) == (2, "zoo: check needs a recipe: give --config")
