"""What the tests of datamodules share. They need no network, and a cache of their own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn

from datamodules.images.base import ImageDataModule
from datamodules.images.dataset import ArrayImages, ImageBatch


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


@pytest.fixture
def real_images(real_data: Path) -> Path:
    """The folder of real images, if there is one."""
    return real_data / "images"


class Arrays(ImageDataModule):
    """Random images as a data set; the test split is another array than the rest."""

    def __init__(self, *, count: int = 203, side: int = 8, channels: int = 3, **kwargs) -> None:
        super().__init__(**kwargs)
        self.count, self.side, self.channels = count, side, channels
        rng = np.random.default_rng(7)
        self.pixels = rng.integers(0, 256, (count + 40, side, side, channels), dtype=np.uint8)
        self.targets = np.arange(count + 40) % 5
        self._set_facts(list("abcde"), channels, side)

    def load_fit(self) -> tuple[ArrayImages, ArrayImages]:
        images, labels = self.pixels[: self.count], self.targets[: self.count]
        rows = np.arange(self.count)
        return ArrayImages(images, labels, rows[20:]), ArrayImages(images, labels, rows[:20])

    def load_test(self) -> ArrayImages:
        images, labels = self.pixels[self.count :], self.targets[self.count :]
        return ArrayImages(images, labels, first=self.count, source="test")


@pytest.fixture
def arrays() -> Callable[..., Arrays]:
    """Build an `Arrays` that is set up."""

    def build(stage: str | None = None, **kwargs) -> Arrays:
        data = Arrays(**kwargs)
        data.setup(stage)
        return data

    return build


class Recorder(pl.LightningModule):
    """A tiny classifier that notes what reaches it."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))
        self.seen: list[tuple[int, tuple[int, ...]]] = []
        self.images: list[torch.Tensor] = []

    def training_step(self, batch: ImageBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, tuple(batch.index.tolist())))
        self.images.append(batch.image.clone())
        return nn.functional.cross_entropy(self.net(batch.image), batch.label)

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        self.seen.append((-1, tuple(batch.index.tolist())))

    def test_step(self, batch: ImageBatch, batch_idx: int) -> None:
        self.seen.append((-2, tuple(batch.index.tolist())))

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> torch.Tensor:
        return batch.index

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def trainer(trainer: Callable[..., pl.Trainer]) -> Callable[..., pl.Trainer]:
    """A quiet Trainer on the CPU, of as many epochs as a test says."""
    return partial(trainer, max_epochs=None)
