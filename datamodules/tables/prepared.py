"""Rows as a net takes them: encoded all at once, standardised and one-hot."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.core.arrays import ArrayData
from datamodules.core.csv_file import Numbers, Texts
from datamodules.core.errors import refuse, shown

Rows = npt.NDArray[np.int64]


class TableBatch(NamedTuple):
    """A batch of rows of a table.

    Attributes:
        features: Float32 (B, F), numeric columns standardised, then categories one-hot.
        target: Float64 (B,), in its own unit; NaN where it is not known.
        index: Int64 (B,), the row's number in its table, unique over all splits.
    """

    features: Tensor
    target: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no one needs here


class ArrayTable(Dataset[TableBatch]):
    """Some rows of an encoded table.

    Args:
        features: Float32 (N, F).
        target: Float64 (N,).
        rows: The rows that belong to this split; all of them if None.
    """

    def __init__(
        self,
        features: npt.NDArray[np.float32],
        target: Numbers,
        rows: Rows | None = None,
    ) -> None:
        self.features = features
        self.target = target
        self.rows = np.arange(len(target)) if rows is None else rows

    def __len__(self) -> int:
        """Return how many rows the split has."""
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> TableBatch:
        """Return the whole batch in one gather."""
        rows = self.rows[indices]
        return TableBatch(
            torch.from_numpy(np.take(self.features, rows, axis=0)),
            torch.from_numpy(self.target[rows]),
            torch.from_numpy(rows),
        )

    def __getitem__(self, item: int) -> TableBatch:
        """Return one row, without the batch dimension."""
        features, target, index = self.__getitems__([item])
        return TableBatch(features[0], target[0], index[0])


class PreparedTable(ArrayData):
    """Rows of numbers and categories, encoded all at once.

    A numeric column x becomes (x - mean) / std, and 0 throughout where std is 0. A column of
    categories becomes one column for each category, which is 1 where the row has it and 0 elsewhere
    (one-hot); a category that training did not see gives zeros alone. All facts are right as soon
    as the object is built.

    Args:
        means: Mean of each numeric column; by default the training split's.
        stds: Standard deviation of each numeric column; by default the training split's.
        categories: The categories of each other column; by default the training split's, sorted.
        target_mean: The target's mean; by default the training split's.
        target_std: The target's standard deviation; by default the training split's.

    Raises:
        OptionError: If an option's value is not possible.
    """

    inputs_class = "TableInputs"
    inputs_options: ClassVar[tuple[str, ...]] = (
        "means",
        "stds",
        "categories",
        "target_name",
        "target_mean",
        "target_std",
        "batch_size",
    )
    label_kind: str = "continuous"
    #: How many outputs a net needs.
    num_classes: int = 1
    image_size: None = None
    #: How many input columns there are once they are encoded.
    in_channels: int
    input_shape: tuple[int, ...]
    feature_names: list[str]
    target_name: str

    def __init__(
        self,
        *,
        means: dict[str, float] | None = None,
        stds: dict[str, float] | None = None,
        categories: dict[str, list[str]] | None = None,
        target_mean: float | None = None,
        target_std: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        given = [value is not None for value in (means, stds, categories)]
        if any(given) != all(given):
            raise refuse("means", means, "give all or none of it, stds and categories")
        if (target_mean is None) != (target_std is None):
            remedy = f"give both or neither of it and target_std, which is {shown(target_std)}"
            raise refuse("target_mean", target_mean, remedy)
        if target_std is not None and not target_std > 0:
            raise refuse("target_std", target_std, "give a number above 0")
        self.means = dict(means or {})
        self.stds = dict(stds or {})
        self.categories = {column: list(names) for column, names in (categories or {}).items()}
        if self.means.keys() != self.stds.keys():
            raise refuse("means", means, f"name the columns of stds, {', '.join(self.stds)}")
        if all(given) and not self.means and not self.categories:
            raise refuse("means", means, "name a column at least, there or in categories")
        negative = [column for column, std in self.stds.items() if not std >= 0]
        if negative:
            raise refuse("stds", stds, f"give 0 or more for {negative[0]!r}")
        self._given = all(given)
        self.target_mean, self.target_std = target_mean, target_std

    def _set_facts(self, target_name: str) -> None:
        self.target_name = target_name
        one_hot = [f"{column}={name}" for column, of in self.categories.items() for name in of]
        self.feature_names = [*self.means, *one_hot]
        self.in_channels = len(self.feature_names)
        self.input_shape = (self.in_channels,)

    def _encode(
        self, numbers: Mapping[str, Numbers], texts: Mapping[str, Texts], count: int, source: str
    ) -> npt.NDArray[np.float32]:
        """Return the features (N, F) of ``count`` rows; tell which categories are not known."""
        features = np.zeros((count, self.in_channels), dtype=np.float32)
        for place, (column, mean) in enumerate(self.means.items()):
            if self.stds[column] > 0:
                features[:, place] = (numbers[column] - mean) / self.stds[column]
        first = len(self.means)
        for column, names in self.categories.items():
            places = {name: first + number for number, name in enumerate(names)}
            values, codes = texts[column]
            hot = np.array([places.get(value, -1) for value in values])[codes]
            known = np.flatnonzero(hot >= 0)
            if len(known) < count:
                unseen = values[codes[int((hot < 0).argmax())]]
                self._tell(
                    f"{count - len(known)} of {count} rows of {source} have in column {column!r} "
                    f"what no training row has, the first {unseen!r}; it counts as no category"
                )
            features[known, hot[known]] = 1
            first += len(names)
        return features
