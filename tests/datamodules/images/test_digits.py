import numpy as np
import pytest

from datamodules import Digits
from datamodules.core.errors import UserError


def test_facts_need_no_pixels() -> None:
    data = Digits()
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 1, 8)
    assert data.class_names == list("0123456789")
    assert data.mean is None


def test_splits() -> None:
    data = Digits()
    data.setup()
    rows = {name: set(data.split(name).rows.tolist()) for name in ("train", "val", "test")}
    assert {name: len(r) for name, r in rows.items()} == {"train": 1258, "val": 180, "test": 359}
    assert set.union(*rows.values()) == set(range(1797))
    for name in rows:
        labels = data.split(name).labels[data.split(name).rows]
        counts = np.bincount(labels, minlength=10)
        assert counts.max() - counts.min() <= 0.06 * len(labels)


def test_the_split_changes_with_its_own_seed_alone() -> None:
    def val(**kwargs):
        data = Digits(**kwargs)
        data.setup("fit")
        return data.split("val").rows.tolist()

    assert val() == val(seed=1) != val(split_seed=1)


def test_pixels() -> None:
    from sklearn.datasets import load_digits

    source = load_digits()
    data = Digits()
    data.setup("test")
    images = data.split("test").images
    assert np.array_equal(images[..., 0], np.round(source.images * 255 / 16))
    assert images.max() == 255
    assert np.array_equal(data.split("test").labels, source.target)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"val_fraction": 0.8, "test_fraction": 0.2},
            r"test_fraction is 0\.2; lower it or val_fraction, .* 1797 of 1797 would leave too",
        ),
        ({"val_fraction": 0.0}, "val split is empty"),
        ({"val_fraction": 1.0}, r"option val_fraction is 1\.0"),
        ({"test_fraction": -0.5}, r"option test_fraction is -0\.5"),
    ],
)
def test_shares_that_cannot_be(options, words) -> None:
    with pytest.raises(UserError, match=words):
        Digits(**options).setup("fit")
