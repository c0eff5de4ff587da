"""Rows of numbers and words."""

from typing import TYPE_CHECKING, Any

from datamodules.core.lazy import attribute

if TYPE_CHECKING:
    from datamodules.tables.inputs import TableInputs
    from datamodules.tables.table import CSVTable, Diabetes

__all__ = ["CSVTable", "Diabetes", "TableInputs"]

#: In which module each of them is.
_HOMES = {
    "TableInputs": "inputs",
    "CSVTable": "table",
    "Diabetes": "table",
}


def __getattr__(name: str) -> Any:
    return attribute(__name__, _HOMES, name)
