"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import zoo.losses
import zoo.metrics
import zoo.nets.layers
import zoo.optim

PACKAGES = (zoo.losses, zoo.metrics, zoo.nets.layers, zoo.optim)
MODULES = ["datamodules.core.errors"] + [
    f"{package.__name__}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0  # what differs is printed


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_each_room_shows_by_example(package) -> None:
    finder = doctest.DocTestFinder()
    names = [name for name in MODULES if name.startswith(f"{package.__name__}.")]
    examples = [
        example
        for name in names
        for test in finder.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert examples
