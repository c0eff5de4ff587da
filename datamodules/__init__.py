"""Where data lives and how a batch of it is made. Each import below is one data set."""

from datamodules.cifar import CIFAR10, CIFAR100
from datamodules.digits import Digits
from datamodules.image_folder import ImageFolder
from datamodules.image_inputs import ImageInputs
from datamodules.table import CSVTable, Diabetes
from datamodules.table_inputs import TableInputs

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CSVTable",
    "Diabetes",
    "Digits",
    "ImageFolder",
    "ImageInputs",
    "TableInputs",
]
