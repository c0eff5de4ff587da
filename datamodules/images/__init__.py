"""Images with labels."""

from typing import TYPE_CHECKING, Any

from datamodules.core.lazy import attribute

if TYPE_CHECKING:
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

#: In which module each of them is.
_HOMES = {
    "CIFAR10": "cifar",
    "CIFAR100": "cifar",
    "Digits": "digits",
    "FashionMNIST": "fashion_mnist",
    "ImageFolder": "image_folder",
    "ImageInputs": "inputs",
    "ImageNpz": "medmnist",
    "MedMNIST": "medmnist",
}


def __getattr__(name: str) -> Any:
    return attribute(__name__, _HOMES, name)
