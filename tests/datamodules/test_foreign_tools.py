"""Our data under a LightningModule of somebody else, and in a notebook."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from datamodules import Diabetes, Digits, SyntheticCells
from zoo import MLP, ImageClassifier
from zoo.errors import OptionError


class Theirs(L.LightningModule):
    """As in Lightning's tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.seen: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        self.seen.append((x, y))
        return nn.functional.cross_entropy(self.layer(x.flatten(1)), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_plain_pairs_are_normalised_images_and_labels(trainer: Callable[..., L.Trainer]) -> None:
    model = Theirs()
    trainer(max_epochs=1).fit(model, Digits(batch_size=2000, as_tuple=True))
    ((images, labels),) = model.seen
    assert images.shape[1:] == (1, 8, 8)
    assert labels.dtype == torch.int64
    assert float(images.mean()) == pytest.approx(0, abs=1e-4)
    assert float(images.std()) == pytest.approx(1, abs=1e-3)


def test_plain_pairs_of_masks_and_of_tables() -> None:
    cells = SyntheticCells(as_tuple=True, batch_size=2)
    batch = next(iter(_set_up(cells).val_dataloader()))
    image, mask = cells.on_after_batch_transfer(batch, 0)
    assert image.is_floating_point()
    assert image.shape[2:] == mask.shape[1:]
    table = Diabetes(as_tuple=True)
    features, target = table.on_after_batch_transfer(next(iter(_set_up(table).val_dataloader())), 0)
    assert (features.shape[1], target.ndim) == (10, 1)


def _set_up(data: Any) -> Any:
    data.setup("fit")
    return data


def test_our_tasks_refuse_pairs(trainer: Callable[..., L.Trainer]) -> None:
    task = ImageClassifier(MLP(64, 10, widths=[4]))
    with pytest.raises(OptionError, match=r"option data\.as_tuple is true; leave it out"):
        trainer(max_epochs=1).fit(task, Digits(as_tuple=True))


def test_tasks_and_data_say_what_they_are() -> None:
    task = ImageClassifier(MLP(64, 10, widths=[4]), lr=0.5)
    assert repr(task) == (
        "ImageClassifier(MLP of 310 parameters, adamw, lr 0.5, cosine, max of val/acc)"
    )
    data = Digits()
    before = "Digits(10 classes: 0, 1, 2, 3, 4, ..., input 1 x 8 x 8, batch_size 128, "
    assert repr(data) == str(data) == before + "not set up yet)"
    assert repr(_set_up(data)).startswith(before + "train 1,258, val 180")


class TheirNet(nn.Module):
    """A net of somebody else's, which knows nothing of the zoo."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


def test_a_plain_trainer_takes_our_data_our_task_and_a_net_of_theirs(tmp_path: Path) -> None:
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    task, data = ImageClassifier(TheirNet(), num_classes=10, lr=0.05), Digits(batch_size=64)
    trainer.fit(task, data)
    (figures,) = trainer.test(task, data, verbose=False)
    assert figures["test/acc"] > 0.85


def test_our_net_in_a_loop_of_ones_own() -> None:
    torch.manual_seed(0)
    data = _set_up(Digits(batch_size=64, as_tuple=True))
    net = MLP(1, 10, image_size=8, widths=[32])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(3):
        for raw in data.train_dataloader():
            images, labels = data.on_after_batch_transfer(raw, 0)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    task = ImageClassifier(net)
    test = Digits(batch_size=64, mean=data.mean, std=data.std)
    figures = task.evaluate(test)
    assert figures["acc"] > 0.85
    assert "loss" in figures
    with pytest.raises(RuntimeError, match="not attached to a `Trainer`"):
        _ = task.trainer
    prepared = [test.prepare_batch(raw, training=False, epoch=0) for raw in test.test_dataloader()]
    assert task.evaluate(prepared) == pytest.approx(figures)


#: What a notebook's cells hold, one after the other.
CELLS = [
    "import zoo, datamodules, lightning as L",
    "data = datamodules.Digits(batch_size=256)\ndata.show_batch()",
    "task = zoo.ImageClassifier(zoo.MLP(1, 10, image_size=8, widths=[16]), lr=0.01)\ntask",
    "trainer = L.Trainer(max_epochs=2, accelerator='cpu', logger=False, "
    "enable_progress_bar=False, enable_model_summary=False, default_root_dir='.')\n"
    "trainer.fit(task, data)\ntrainer.save_checkpoint('mine.ckpt')",
    "task.evaluate(data)",
    "model = zoo.load('mine.ckpt', device='cpu')\nmodel",
    "image = data.split('test').images[0]\nmodel(image)",
    "model([image, image])",
]


@pytest.mark.usefixtures("drawing")
def test_a_notebook_runs_headless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells are executed one by one, and each one's last value is what it shows."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown = []
    for cell in CELLS:
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    figure, task, *_, figures, model, one, several = shown
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert repr(task).startswith("ImageClassifier(MLP")
    assert figures["acc"] > 0.2
    assert repr(model).startswith("Model(MLP")
    assert "<table>" in one._repr_html_()
    assert [each.label for each in several] == [one.label, one.label]


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("stage", ["train", "test"])
def test_a_batch_is_shown_before_setup_as_a_notebook_takes_it(stage: Any) -> None:
    shown: Any = Digits().show_batch(stage)
    assert shown._repr_png_().startswith(b"\x89PNG")
