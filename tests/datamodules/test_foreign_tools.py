"""Our data under a LightningModule of somebody else, and in a notebook."""

from collections.abc import Callable
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


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("stage", ["train", "test"])
def test_a_batch_is_shown_before_setup_as_a_notebook_takes_it(stage: Any) -> None:
    shown: Any = Digits().show_batch(stage)
    assert shown._repr_png_().startswith(b"\x89PNG")
