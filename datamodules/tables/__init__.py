"""Rows of numbers and words."""

from datamodules.tables.inputs import TableInputs
from datamodules.tables.table import CSVTable, Diabetes

__all__ = ["CSVTable", "Diabetes", "TableInputs"]
