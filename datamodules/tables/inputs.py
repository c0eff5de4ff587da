"""Rows to predict on."""

import numpy as np

from datamodules.core.csv_file import ColumnFaults, CsvFile
from datamodules.core.errors import refuse
from datamodules.core.sampling import PositionedLoader
from datamodules.tables.table import ArrayTable, PreparedTable


class TableInputs(PreparedTable):
    """Csv or xlsx files to predict on, prepared as a trained net's own table was.

    Any number of files, of your own and under your own licence. Columns are found by name, in any
    order; others, the target's among them, are passed over. Targets are NaN.

    Args:
        inputs: The files; gzip may have packed them.
        means: Mean of each numeric column.
        stds: Standard deviation of each numeric column.
        categories: The categories of each other column.
        target_name: What is predicted.
        target_mean: The target's mean in training.
        target_std: The target's standard deviation in training.
        delimiter: The character between two values; by default what fits.
        encoding: What the files are in, by Python's name; by default what their bytes tell.
        batch_size: Samples in a batch, over all processes together.

    Raises:
        DataError: If a file or one of its columns will not do.
    """

    def __init__(
        self,
        inputs: list[str],
        means: dict[str, float],
        stds: dict[str, float],
        categories: dict[str, list[str]],
        target_name: str,
        target_mean: float,
        target_std: float,
        delimiter: str | None = None,
        encoding: str | None = None,
        batch_size: int = 128,
    ) -> None:
        super().__init__(
            means=means,
            stds=stds,
            categories=categories,
            target_mean=target_mean,
            target_std=target_std,
            batch_size=batch_size,
        )
        self.inputs = [str(path) for path in inputs]
        self.delimiter = delimiter
        self.encoding = encoding
        self._set_facts(target_name)
        if not self.inputs:
            raise refuse("inputs", inputs, "give csv files")
        #: File and line of each row, as ``table.csv:2``; ``batch.index`` numbers them.
        self.names: list[str] = []
        features = np.concatenate([self._read(path) for path in self.inputs])
        self._table = ArrayTable(features, np.full(len(features), np.nan))

    def _read(self, path: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        file = CsvFile(path, self.delimiter, "inputs", self.encoding)
        file.read([*self.means, *self.categories])
        lines = file.lines()
        self.names += [f"{path}:{line}" for line in lines]
        numbers, texts = {}, {}
        faults = ColumnFaults(file.name)
        for name in (*self.means, *self.categories):
            with faults.kept():
                file.check_complete(name)
                if name in self.means:
                    numbers[name] = file.numbers(name, "mend them")
                else:
                    texts[name] = file.texts(name)
        faults.refuse()
        return self._encode(numbers, texts, len(lines), file.name)

    def predict_dataloader(self) -> PositionedLoader:
        """Return the rows in the order of ``names``."""
        return self._prediction_loader(self._table)
