"""What splits are called."""

import pytest

from datamodules.core.split_names import split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("VAL", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("Dev", "val"),
        ("test", "test"),
        ("TESTING", "test"),
        ("trn", None),
        ("test-tube", None),
        ("", None),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split
