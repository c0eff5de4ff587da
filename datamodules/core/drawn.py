"""Data sets of which splits are drawn, and what a split must hold of each class."""

from collections.abc import Collection
from typing import Any

from datamodules.core.balance import need_every_class, need_samples
from datamodules.core.base import DatasetT, Rows, SplitDataModule
from datamodules.core.errors import DataError, between
from datamodules.core.options import some
from datamodules.core.split_names import Split, Stage
from datamodules.core.splits import Keys


class DrawnSplits(SplitDataModule[DatasetT]):
    """A data set of which those splits are drawn that it does not have.

    Where a checkpoint's partition is of other samples, and nothing here is trained on, the split
    that is asked for is all there is. A subclass implements ``load_all``.

    Args:
        val_fraction: Share of the samples for validation, where no split is.
        test_fraction: Share of the samples for the test, where no split is.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(
        self, *, val_fraction: float = 0.1, test_fraction: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.val_fraction = between("val_fraction", val_fraction, inclusive=False)
        self.test_fraction = between("test_fraction", test_fraction, inclusive=False)

    def load_all(self, stage: Stage) -> DatasetT:
        """Read all samples; of a set that has that split, the split."""
        raise NotImplementedError

    def _are_all_others(self, split: Stage) -> bool:
        """Return whether the samples are others than those that the checkpoint's partition is of.

        A subclass that draws its splits at set-up answers before it does.

        Args:
            split: What is asked for.
        """
        return self._holds_others

    def setup(self, stage: str | None = None) -> None:
        """Load what a stage needs; None loads everything.

        Args:
            stage: "fit", "validate", "test" or "predict". Only the last two load the test split.

        Raises:
            DataError: If a split is empty.
        """
        splits: dict[str | None, Stage] = {"validate": "val", "test": "test", "predict": "test"}
        split = splits.get(stage)
        if split and "train" not in self._splits and self._are_all_others(split):
            if self._whole != split:
                self._splits.clear()
                self._whole = split
                self._add(split, self.load_all(split))
            return
        if self._whole:  # they are to be trained on now
            self._whole = None
            self._splits.clear()
        super().setup(stage)

    def _origin(self, split: Split) -> str:
        if self._whole == split:
            return "all of it, as the net was trained on others"
        return super()._origin(split)

    def _draw_missing(
        self, keys: Keys, labels: Rows, given: Collection[str] = (), **options: Any
    ) -> dict[str, Rows]:
        """Draw test and validation, by their fractions, unless they are given.

        Args:
            keys: A hash of each sample's name or content, (N,).
            labels: Its class, (N,).
            given: The splits that there are.
            options: Others of ``_draw``.

        Returns:
            Ascending rows of each split that is drawn, and of what is left to train on.
        """
        fractions = {"test_fraction": self.test_fraction, "val_fraction": self.val_fraction}
        sizes = {
            option: some(fraction, len(keys))
            for option, fraction in fractions.items()
            if option.partition("_")[0] not in given
        }
        return self._draw(keys, labels, sizes, **options)


class FractionSplits(DrawnSplits[DatasetT]):
    """A data set without splits of its own: they are shares of it, chosen by ``split_seed``.

    A subclass implements ``load_splits``.

    Args:
        val_fraction: Share of all samples for validation.
        test_fraction: Share of all samples for the test.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(
        self, *, val_fraction: float = 0.1, test_fraction: float = 0.2, **kwargs: Any
    ) -> None:
        super().__init__(val_fraction=val_fraction, test_fraction=test_fraction, **kwargs)

    def load_splits(self) -> dict[str, DatasetT]:
        """Read "test", "val" and "train"."""
        raise NotImplementedError

    def load_fit(self) -> tuple[DatasetT, DatasetT]:
        """Read the training and the validation split."""
        splits = self.load_splits()
        return splits["train"], splits["val"]

    def load_test(self) -> DatasetT:
        """Read the test split."""
        return self.load_splits()["test"]


class EveryClass(SplitDataModule[DatasetT]):
    """A data set that refuses a split without some class, and one class alone.

    A validation or test split that was drawn may lack one: a class has fewer samples than there are
    splits then.

    A subclass implements ``_source_name``, and gets ``_class_counts`` from its other base.

    Args:
        allow_missing_classes: Let a validation or test split that the set comes with lack a class.

    Raises:
        OptionError: If an option's value is not possible.
    """

    class_names: list[str]
    label_kind: str

    def __init__(self, *, allow_missing_classes: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allow_missing_classes = allow_missing_classes

    def _source_name(self) -> str:
        """Return the file or folder that a message names."""
        raise NotImplementedError

    def _need_two_classes(self) -> None:
        """Refuse one class alone, unless a sample may have it or not.

        Raises:
            DataError: If there is but one.
        """
        if len(self.class_names) < 2 and self.label_kind != "multilabel":
            raise DataError(
                f"{self._source_name()!r} holds one class, {self.class_names[0]!r}, which leaves "
                "nothing to learn; add another"
            )

    def _add(self, stage: Stage, dataset: DatasetT) -> None:
        self._need_two_classes()
        if stage == "train" and self.counted == "image":
            need_samples(len(self.class_names), len(dataset), self._source_name(), self.samples)
        super()._add(stage, dataset)
        counts = self._class_counts(dataset)
        share = (self.partition or {}).get(stage)
        given = self._whole != stage and not (share and share["drawn_by"])
        if stage == "train" or (given and not self.allow_missing_classes):
            need_every_class(counts, self.class_names, stage, self._source_name(), self.counted)
