"""Images with masks."""

from typing import TYPE_CHECKING, Any

from datamodules.core.lazy import attribute

if TYPE_CHECKING:
    from datamodules.segmentation.folder import SegmentationFolder
    from datamodules.segmentation.inputs import MaskInputs
    from datamodules.segmentation.npz import SegmentationNpz
    from datamodules.segmentation.synthetic_cells import SyntheticCells, SyntheticCellTypes

__all__ = [
    "MaskInputs",
    "SegmentationFolder",
    "SegmentationNpz",
    "SyntheticCellTypes",
    "SyntheticCells",
]

#: In which module each of them is.
_HOMES = {
    "SegmentationFolder": "folder",
    "MaskInputs": "inputs",
    "SegmentationNpz": "npz",
    "SyntheticCells": "synthetic_cells",
    "SyntheticCellTypes": "synthetic_cells",
}


def __getattr__(name: str) -> Any:
    return attribute(__name__, _HOMES, name)
