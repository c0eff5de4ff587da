"""Where data lives and how a batch of it is made. Each import below is one data set."""

from datamodules.cifar import CIFAR10, CIFAR100
from datamodules.digits import Digits
from datamodules.image_folder import ImageFolder
from datamodules.image_inputs import ImageInputs
from datamodules.instructions import Instructions
from datamodules.mask_inputs import MaskInputs
from datamodules.medmnist import ImageNpz, MedMNIST
from datamodules.preferences import Preferences
from datamodules.prompt_inputs import PromptInputs
from datamodules.segmentation import SegmentationNpz
from datamodules.segmentation_folder import SegmentationFolder
from datamodules.synthetic_cells import SyntheticCells, SyntheticCellTypes
from datamodules.table import CSVTable, Diabetes
from datamodules.table_inputs import TableInputs
from datamodules.text import TextClassification
from datamodules.text_inputs import TextInputs
from datamodules.text_sets import IMDB, NSMC, SST2, YNAT, AGNews, MovieReviews
from datamodules.text_windows import TextCorpus

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "IMDB",
    "NSMC",
    "SST2",
    "YNAT",
    "AGNews",
    "CSVTable",
    "Diabetes",
    "Digits",
    "ImageFolder",
    "ImageInputs",
    "ImageNpz",
    "Instructions",
    "MaskInputs",
    "MedMNIST",
    "MovieReviews",
    "Preferences",
    "PromptInputs",
    "SegmentationFolder",
    "SegmentationNpz",
    "SyntheticCellTypes",
    "SyntheticCells",
    "TableInputs",
    "TextClassification",
    "TextCorpus",
    "TextInputs",
]
