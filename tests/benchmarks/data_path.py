"""Images per second of our training data path beside torchvision's per-sample loaders.

`python tests/benchmarks/data_path.py [rounds]` prints medians over interleaved rounds, all on one
thread. Every side crops (padding 4), flips and normalises 32x32 images in batches of 128. The
images are CIFAR-10's where `ZOO_TEST_DATA` has them, random bytes otherwise.
"""

# ruff: noqa: E402

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from datamodules.images.base import ImageDataModule
from datamodules.images.dataset import ArrayImages

BATCH = 128
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
Images = npt.NDArray[np.uint8]


class Ours(ImageDataModule):
    """The arrays at hand as a data set."""

    def __init__(self, images: Images, **kwargs: Any) -> None:
        super().__init__(
            batch_size=BATCH, crop_padding=4, horizontal_flip=True, mean=MEAN, std=STD, **kwargs
        )
        self.hparams.pop("images", None)
        self.images = images
        self._set_facts([str(i) for i in range(10)], in_channels=3, image_size=32)

    def load_fit(self) -> tuple[ArrayImages, ArrayImages]:
        """All images to train on; one to validate, since an empty split is an error."""
        labels = np.zeros(len(self.images), dtype=np.int64)
        return ArrayImages(self.images, labels), ArrayImages(self.images, labels, np.arange(1))

    def batches(self) -> Iterator[Tensor]:
        """One epoch of prepared batches."""
        for batch in self.train_dataloader():
            yield self.prepare_batch(batch, training=True, epoch=0).image


class PerSample(Dataset[tuple[Tensor, int]]):
    """The usual dataset: one image in, one transformed image out."""

    def __init__(self, images: Images, load: Callable[[Images], Any], transform: Any) -> None:
        self.images, self.load, self.transform = images, load, transform

    def __len__(self) -> int:
        """How many images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Load and transform one image."""
        return self.transform(self.load(self.images[index])), 0


def classical(images: Images) -> Iterator[Tensor]:
    """torchvision.transforms on PIL images."""
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    dataset = PerSample(images, Image.fromarray, transform)
    yield from (image for image, _ in DataLoader(dataset, batch_size=BATCH, shuffle=True))


def version_2(images: Images) -> Iterator[Tensor]:
    """torchvision.transforms.v2 on tensors."""
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    dataset = PerSample(images, lambda x: torch.from_numpy(x).permute(2, 0, 1), transform)
    yield from (image for image, _ in DataLoader(dataset, batch_size=BATCH, shuffle=True))


def read_images() -> tuple[Images, str]:
    """CIFAR-10's training images, or random bytes of the same shape."""
    root = Path(os.environ.get("ZOO_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if (root / "images" / "cifar10_jpeg" / "train.parquet").exists():
        from datamodules.images.cifar import CIFAR10

        data = CIFAR10(root=str(root / "images" / "cifar10_jpeg"), val_size=1)
        data.setup("fit")
        return np.array(data.split("train").images), "CIFAR-10"
    shape = (50_000, 32, 32, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), "random bytes"


def rate(batches: Iterator[Tensor]) -> float:
    """Images per second."""
    start = time.perf_counter()
    count = sum(len(image) for image in batches)
    return count / (time.perf_counter() - start)


def main(rounds: int = 7) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    images, name = read_images()
    ours, resident = Ours(images), Ours(images, resident=True)
    ours.setup("fit")
    resident.setup("fit")
    few = images[:4_096]  # enough for half a second of the slow ones
    sides: dict[str, Callable[[], Iterator[Tensor]]] = {
        "ours": ours.batches,
        "ours, resident": resident.batches,
        "torchvision on PIL images": lambda: classical(few),
        "torchvision v2 on tensors": lambda: version_2(few),
    }
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds + 1):
        for side, batches in sides.items():
            rates[side].append(rate(batches()))
    medians = {
        side: statistics.median(values[1:]) for side, values in rates.items()
    }  # 1 to warm up
    print(
        f"{len(images)} images 32x32x3 ({name}), batch {BATCH}, 1 thread, median of {rounds} "
        f"rounds; Python {platform.python_version()}, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    classical_rate, v2_rate = (
        medians["torchvision on PIL images"],
        medians["torchvision v2 on tensors"],
    )
    for side, median in medians.items():
        values = rates[side][1:]
        print(
            f"{side:26s} {median:9,.0f} images/s ({min(values):,.0f} to {max(values):,.0f}): "
            f"{median / classical_rate:.1f} x PIL, {median / v2_rate:.1f} x v2"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
