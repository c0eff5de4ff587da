"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import zoo.losses
import zoo.metrics
import zoo.nets.layers

PACKAGES = (zoo.losses, zoo.metrics, zoo.nets.layers)
MODULES = ["datamodules.core.errors"] + [
    f"{package.__name__}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0  # what differs is printed
