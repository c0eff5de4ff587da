"""Images with labels."""

from datamodules.images.cifar import CIFAR10, CIFAR100
from datamodules.images.digits import Digits
from datamodules.images.fashion_mnist import FashionMNIST
from datamodules.images.image_folder import ImageFolder
from datamodules.images.inputs import ImageInputs
from datamodules.images.medmnist import ImageNpz, MedMNIST

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "ImageInputs",
    "ImageNpz",
    "MedMNIST",
]
