"""What may be asked of data: which of ours answer what, and that others need not."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Diabetes, Digits
from datamodules.core import protocols
from datamodules.core.protocols import sample_numbers
from datamodules.images.dataset import ImageBatch

OF_IMAGES = {
    "HasClassNames",
    "HasInputShape",
    "HasLabelKind",
    "HasNumClasses",
    "SupportsClassWeights",
    "SupportsCopies",
    "SupportsDenormalize",
    "SupportsDrawBatch",
    "SupportsMarks",
    "SupportsRebuilding",
    "SupportsSampleImages",
}
OF_TABLES = {
    "HasInputShape",
    "HasLabelKind",
    "HasNumClasses",
    "HasTargetName",
    "SupportsCopies",
    "SupportsMarks",
    "SupportsRebuilding",
}


@pytest.mark.parametrize(("data", "expected"), [(Digits(), OF_IMAGES), (Diabetes(), OF_TABLES)])
def test_data_answer_what_fits_them(data, expected) -> None:
    asked = {name for name in vars(protocols) if name.startswith(("Has", "Supports"))}
    asked.remove("HasSmallestBatch")  # known only after setup
    assert {name for name in asked if isinstance(data, getattr(protocols, name))} == expected


def test_sample_numbers_are_a_batchs_own() -> None:
    index = torch.tensor([3, 5])
    assert sample_numbers(ImageBatch(torch.zeros(2, 1, 8, 8), torch.zeros(2), index)) is index
    (plain,) = DataLoader(TensorDataset(torch.zeros(2, 1), torch.zeros(2)), batch_size=2)
    assert hasattr(plain, "index")  # a list's method
    assert sample_numbers(plain) is None
