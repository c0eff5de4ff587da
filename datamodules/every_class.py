"""Splits of one's own in which every class has to occur."""

from typing import Any

from datamodules.balance import need_every_class
from datamodules.base import DatasetT, SplitDataModule, Stage


class EveryClass(SplitDataModule[DatasetT]):
    """A data set that refuses a split without some class.

    A subclass implements `_place`, and gets `_class_counts` from its other base.

    Args:
        allow_missing_classes: let the validation or the test split lack a class.

    Raises:
        DataError: if an option's value is not possible.
    """

    class_names: list[str]

    def __init__(self, *, allow_missing_classes: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allow_missing_classes = allow_missing_classes

    def _place(self) -> str:
        """The file or folder that a message names."""
        raise NotImplementedError

    def _add(self, stage: Stage, dataset: DatasetT) -> None:
        super()._add(stage, dataset)
        if stage == "train" or not self.allow_missing_classes:
            counts = self._class_counts(dataset)
            need_every_class(counts, self.class_names, stage, self._place(), self.counted)
