"""Names of the rooms that are imported when they are used first."""

import ast
import importlib
from pathlib import Path

import pytest

import datamodules

ROOMS = ("images", "language", "segmentation", "tables", "text")


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_exports_is_said_alike(room: str) -> None:
    module = importlib.import_module(f"datamodules.{room}")
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    imported = {
        alias.name: str(node.module).rpartition(".")[2]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(module.__name__)
        for alias in node.names
    }
    assert imported == module._HOMES
    assert set(module.__all__) == set(imported)
    for name in module.__all__:
        assert getattr(datamodules, name) is getattr(module, name)
        assert getattr(module, name).__name__ == name


def test_other_names_are_none() -> None:
    for package in (datamodules, datamodules.images):
        with pytest.raises(AttributeError, match="has no attribute"):
            _ = package.Nothing
