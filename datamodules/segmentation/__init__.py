"""Images with masks."""

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
