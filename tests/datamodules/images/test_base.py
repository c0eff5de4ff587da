"""What every image data set inherits."""

import json
import pickle

import lightning as L
import numpy as np
import pytest
import torch

from datamodules import Digits
from datamodules.core.errors import DataError, UserError
from datamodules.images.dataset import ArrayImages, ImageBatch

RICH = {"crop_padding": 2, "horizontal_flip": True, "cutout": 3, "brightness": 0.2}


def epoch(data, number=0):
    return [data.prepare_batch(b, training=True, epoch=number) for b in data.train_dataloader()]


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"resident": True}])
def test_same_batches_however_they_travel(arrays, options) -> None:
    plain = epoch(arrays("fit", batch_size=32, **RICH))
    other = epoch(arrays("fit", batch_size=32, **RICH, **options))
    assert len(plain) == len(other) == 6
    for one, two in zip(plain, other, strict=True):
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.label, two.label)
        assert torch.equal(one.index, two.index)


def test_a_batch(arrays) -> None:
    data = arrays(batch_size=32)
    raw = next(iter(data.train_dataloader()))
    assert isinstance(raw, ImageBatch)
    assert raw.image.dtype == torch.uint8
    assert raw.image.shape == (32, 3, 8, 8)
    batch = data.prepare_batch(raw, training=False, epoch=0)
    for image in (raw.image, batch.image):
        assert image.is_contiguous(memory_format=torch.channels_last)
    assert batch.image.dtype == torch.float32
    pixels = data.pixels[batch.index.numpy()]
    assert np.array_equal(raw.image.permute(0, 2, 3, 1).numpy(), pixels)
    assert batch.label.tolist() == data.targets[batch.index.numpy()].tolist()
    assert torch.equal(data.denormalize(batch.image), raw.image)
    one = data.split("train")[5]
    assert torch.equal(one.image, data.split("train").__getitems__([5]).image[0])


def test_resident_batches_carry_no_pixels(arrays) -> None:
    data = arrays(resident=True)
    for loader in (data.train_dataloader(), data.test_dataloader()):
        assert not hasattr(next(iter(loader)), "image")
    batch = next(iter(data.test_dataloader()))
    prepared = data.prepare_batch(batch, training=False, epoch=0)
    got = data.denormalize(prepared.image).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(got, data.pixels[batch.index.numpy()])


def test_images_are_not_kept_twice_on_a_cpu(monkeypatch) -> None:
    monkeypatch.setattr(
        "datamodules.images.base.ResidentImages", lambda *_: pytest.fail("copies all images")
    )
    data, alike = (Digits(resident=resident, **RICH) for resident in (True, False))
    data.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    for each in (data, alike):
        each.setup("fit")
    for one, other in zip(epoch(data), epoch(alike), strict=True):
        assert torch.equal(one.image, other.image)


def test_normalised_by_the_training_split_alone(arrays) -> None:
    data = arrays("fit")
    train = data.pixels[20:203].reshape(-1, 3) / 255
    np.testing.assert_allclose(data.mean, train.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.std, train.std(axis=0), rtol=1e-12)
    images = torch.cat(
        [data.prepare_batch(b, training=False, epoch=0).image for b in data.train_dataloader()]
    )
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (images.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    given = arrays("fit", mean=[0.1, 0.2, 0.3], std=[1.0, 1.0, 1.0])
    assert given.mean == [0.1, 0.2, 0.3]
    alone = arrays("test")  # needs the same figures without the training loop
    assert alone.mean == data.mean


def test_known_sums_give_the_same_moments(arrays) -> None:
    from datamodules.images.dataset import channel_sums

    train = arrays("fit").split("train")
    sums = channel_sums(train.images)
    known = ArrayImages(train.images, train.labels, train.rows, sums=sums)
    assert known.moments() == train.moments()


def test_a_flat_channel_is_not_divided_by_zero(arrays) -> None:
    data = arrays()
    data.pixels[..., 1] = 9
    data._splits.clear()
    data.mean = data.std = None
    data.setup("fit")
    assert data.std[1] == 1.0
    assert torch.isfinite(epoch(data)[0].image).all()


def test_seed(arrays, monkeypatch) -> None:
    def order(**kwargs):
        return [b.index.tolist() for b in arrays("fit", **kwargs).train_dataloader()]

    assert order() == order(seed=0) != order(seed=1)
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert order() == order(seed=1)
    assert order(seed=0) != order()


def test_loaders_leave_the_global_generator_alone(arrays) -> None:
    data = arrays("fit", num_workers=0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    epoch(data)
    assert torch.equal(torch.get_rng_state(), before)


def test_smallest_train_batch(arrays) -> None:
    assert arrays("fit", batch_size=32).smallest_train_batch == 183 % 32
    assert arrays("fit", batch_size=91).smallest_train_batch == 91  # the last single one joins in


def test_resolved_rebuilds_it(arrays) -> None:
    data = arrays("fit", crop_padding=2, seed=5)
    spec = json.loads(json.dumps(data.resolved()))
    assert spec == data.resolved()
    assert spec["class_path"].endswith("Arrays")
    arguments = spec["init_args"]
    assert arguments["mean"] == data.mean
    assert arguments["crop_padding"] == 2
    assert arguments["count"] == 203
    assert "kwargs" not in arguments
    again = type(data)(**arguments)
    again.setup("test")
    assert "train" not in again._splits  # the figures are known: no need to read it
    assert again.resolved() == spec
    assert dict(data.hparams)["crop_padding"] == 2


def test_inputs_spec_is_plain(arrays) -> None:
    data = arrays("fit")
    spec = data.inputs_spec()
    assert spec["class_path"] == "datamodules.ImageInputs"
    assert spec["init_args"]["mean"] == data.mean
    assert json.loads(json.dumps(spec)) == spec


@pytest.mark.usefixtures("drawing")
def test_drawing(arrays, tmp_path) -> None:
    for channels in (1, 3):
        figure = arrays(channels=channels).draw_batch("train")
        assert figure.axes[0].get_title() in "abcde"
        assert len(figure.axes) == 36
        assert all(len(axis.images) == 1 for axis in figure.axes)
        figure.savefig(tmp_path / "batch.png")
    assert len(arrays().draw_batch("val").axes) == 20
    import matplotlib.pyplot as plt

    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "option batch_size is 0"),
        ({"batch_size": -3}, "option batch_size is -3"),
        ({"num_workers": -1}, "option num_workers is -1"),
        ({"crop_padding": -1}, "option crop_padding is -1"),
        ({"crop_padding": 9}, "option crop_padding is 9"),
        ({"cutout": -1}, "option cutout is -1"),
        ({"cutout": 9}, "option cutout is 9"),
        ({"brightness": -0.1}, r"option brightness is -0\.1"),
        ({"contrast": 1.5}, r"option contrast is 1\.5"),
        ({"contrast": float("nan")}, "option contrast is nan"),
        (
            {"mean": [0.5, 0.5, 0.5]},
            r"option mean is .*; give both or neither of it and std, which is null",
        ),
        ({"mean": [0.5], "std": [0.5]}, "3 channels"),
        ({"mean": [0.5] * 3, "std": [0.5, 0.0, 0.5]}, "above 0"),
    ],
)
def test_options_that_cannot_be(arrays, options, words) -> None:
    with pytest.raises(UserError, match=words):
        arrays("fit", **options)


def test_wrong_labels_and_empty_splits(arrays) -> None:
    data = arrays()
    data._splits.clear()
    data.targets[[50, 60]] = 9
    with pytest.raises(DataError, match=r"2 labels outside its 5 classes.* 9 for one"):
        data.setup("fit")
    empty = arrays()
    empty._splits.clear()
    empty.load_test = lambda: ArrayImages(empty.pixels, empty.targets, np.arange(0))
    with pytest.raises(DataError, match="test split is empty"):
        empty.setup("test")
    with pytest.raises(DataError, match=r"setup\(\)"):
        empty.test_dataloader()


def test_fit_does_not_load_the_test_split(arrays) -> None:
    data = arrays("fit")
    with pytest.raises(DataError, match="not loaded"):
        data.split("test")


def test_a_mapped_file_is_pickled_by_name(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (500, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    dataset = ArrayImages(mapped, np.zeros(500), np.arange(100))
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 20_000
    again = pickle.loads(pickled)
    assert torch.equal(again.__getitems__([3, 4]).image, dataset.__getitems__([3, 4]).image)
