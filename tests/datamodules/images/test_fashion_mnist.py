"""Fashion-MNIST in its authors' files: what is read, and what is wrong with them."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from datamodules import FashionMNIST
from datamodules.core.errors import DataError
from datamodules.images import fashion_mnist


def write(root: Path, *, packed: bool = True, train: int = 60, test: int = 20) -> None:
    """Write random images in the format idx."""
    root.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            content = head + array.tobytes()
            path = root / f"{part}-{name}-ubyte{'.gz' * packed}"
            path.write_bytes(gzip.compress(content) if packed else content)


def test_sums_and_classes_are_torchvisions() -> None:
    from torchvision import datasets

    assert list(fashion_mnist.FILES.items()) == datasets.FashionMNIST.resources
    assert datasets.FashionMNIST.mirrors == [f"{fashion_mnist.URL}/"]
    data = FashionMNIST(root="nowhere")
    assert data.class_names == datasets.FashionMNIST.classes
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 1, 28)


@pytest.mark.parametrize("folder", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_files_are_read(tmp_path: Path, folder: str, packed: bool) -> None:
    write(tmp_path / folder, packed=packed)
    data = FashionMNIST(root=str(tmp_path), val_size=10, verify=False, download=False)
    data.prepare_data()
    data.setup()
    sizes = {split: len(data.split(split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 50, "val": 10, "test": 20}
    drawn = np.random.default_rng(20).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    batch = data.split("test").__getitems__([0, 7])
    assert np.array_equal(np.asarray(batch[0]).reshape(2, 28, 28), drawn[[0, 7]])
    assert np.asarray(batch[1]).tolist() == [0, 7]


def test_other_sums_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    data = FashionMNIST(root=str(tmp_path))
    data.prepare_data()
    with pytest.raises(DataError, match="has not the md5 sum of the original"):
        data.setup("fit")


def test_what_is_absent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"holds no train-images-idx3-ubyte\.gz and download is"):
        FashionMNIST(root=str(tmp_path), download=False).prepare_data()

    def unreachable(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(fashion_mnist, "download", unreachable)
    with pytest.raises(DataError, match=r"the download failed \(no network\); put the four files"):
        FashionMNIST(root=str(tmp_path)).prepare_data()


@pytest.mark.parametrize("harm", ["cut", "other", "empty"])
def test_damaged_files(tmp_path: Path, harm: str) -> None:
    write(tmp_path, packed=False)
    path = tmp_path / "t10k-images-idx3-ubyte"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "other":
        path.write_bytes((tmp_path / "t10k-labels-idx1-ubyte").read_bytes())
    else:
        path.write_bytes(b"")
    data = FashionMNIST(root=str(tmp_path), val_size=10)
    with pytest.raises(DataError, match="is no file of Fashion-MNIST"):
        data.setup("test")


def test_images_without_labels(tmp_path: Path) -> None:
    write(tmp_path, packed=False)
    write(tmp_path / "more", packed=False, test=30)
    (tmp_path / "more" / "t10k-labels-idx1-ubyte").replace(tmp_path / "t10k-labels-idx1-ubyte")
    with pytest.raises(DataError, match="which do not fit each other"):
        FashionMNIST(root=str(tmp_path), val_size=10).setup("test")
