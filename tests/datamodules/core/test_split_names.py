"""What splits are called."""

import pytest

from datamodules.core.errors import DataError
from datamodules.core.split_names import by_split, split_of


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


def test_two_names_of_one_split_are_refused() -> None:
    assert by_split(["TEST", "extra", "Train"], "'x'") == {"train": "Train", "test": "TEST"}
    message = r"^in 'x', 'dev' and 'Validation' are both the val split's by their names; merge them"
    with pytest.raises(DataError, match=message):
        by_split(["train", "dev", "Validation"], "'x'")
