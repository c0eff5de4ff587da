"""Data modules, which a Trainer takes."""

import inspect

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only

from datamodules.core.arrays import ArrayData
from datamodules.core.private import is_built_by_command_line


class ArrayDataModule(ArrayData, pl.LightningDataModule):
    """Batches that are gathered by number, for a Trainer."""

    def _record(self) -> None:
        """Note the constructor's arguments, as Lightning's checkpoints hold them."""
        # Of modules only what a recipe says of them can be saved.
        ignored = None if is_built_by_command_line() else ["transform"]
        frame = inspect.currentframe()
        assert frame is not None
        self.save_hyperparameters(logger=False, ignore=ignored, frame=frame.f_back)

    def __str__(self) -> str:
        """Return what ``repr`` says: Lightning's would load the data."""
        return repr(self)

    @rank_zero_only
    def _tell(self, fact: str) -> None:
        super()._tell(fact)
