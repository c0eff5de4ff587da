"""The house keeps its directions: who may import whom, no circles, a docstring on every door."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("rooms", ROOT / "tests" / "benchmarks" / "rooms.py")
assert _spec is not None
assert _spec.loader is not None
rooms = importlib.util.module_from_spec(_spec)
sys.modules["rooms"] = rooms
_spec.loader.exec_module(rooms)

#: From the ground up: a room imports itself and what stands in a line above its own.
FLOORS = {
    "datamodules": [
        {"core"},
        {"images", "text", "tables"},
        {"segmentation", "language"},
        {"__init__"},
    ],
    "zoo": [
        {"errors", "version"},
        {"catalog"},
        {"nets", "losses", "optim", "metrics", "inference"},
        {"run"},
        {"callbacks"},
        {"tasks"},
        {"model"},
        {"report", "demo"},
        {"export"},
        {"explain"},
        {"cli"},
        {"studies"},
        {"dashboards"},
        {"dispatch"},
        {"__init__"},
        {"__main__"},
    ],
}
#: Arrows between rooms of one floor: the kinds of labels are named with the losses, and what writes
#: or tiles asks a net by its protocols.
SIDEWAYS = {("zoo.metrics", "zoo.losses"), ("zoo.inference", "zoo.nets")}
FLOOR = {
    f"{package}.{room}": number
    for package, floors in FLOORS.items()
    for number, names in enumerate(floors)
    for room in names
}
IMPORTS = rooms.all_imports(ROOT)


def is_allowed(source: str, target: str) -> bool:
    """Whether a file of one room may import a file of another."""
    if source.split(".")[0] != target.split(".")[0]:  # one package knows one room of the other
        return source.startswith("zoo.") and target == "datamodules.core"
    return source == target or FLOOR[source] > FLOOR[target] or (source, target) in SIDEWAYS


def test_every_room_has_its_floor() -> None:
    assert {rooms.room_of(file) for file in rooms.files_of(ROOT)} == set(FLOOR)


def test_imports_go_one_way() -> None:
    wrong = [
        f"{each.source}:{each.line} imports {each.target}"
        for each in IMPORTS
        if not is_allowed(rooms.room_of(each.source), rooms.room_of(each.target))
    ]
    assert wrong == []


def test_layers_know_no_net() -> None:
    known = {
        each.target
        for each in IMPORTS
        if each.source.startswith("zoo/nets/layers/") and each.target.startswith("zoo/nets/")
    }
    strangers = {file for file in known if not file.startswith("zoo/nets/layers/")}
    assert strangers <= {"zoo/nets/checks.py", "zoo/nets/protocols.py"}


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert rooms.circles((each.source, each.target) for each in IMPORTS) == []


def test_every_room_says_what_it_is_for() -> None:
    doors = [file for file in rooms.files_of(ROOT) if file.endswith("__init__.py")]
    assert {rooms.folder_of(file) for file in rooms.files_of(ROOT)} == set(
        map(rooms.folder_of, doors)
    )
    for file in doors:
        about = ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        assert about, file
        assert about.split("\n")[0].endswith("."), file


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_hidden_imports_count(tmp_path: Path) -> None:
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zoo.a import x\n"
    write(
        tmp_path,
        {
            "zoo/__init__.py": "",
            "zoo/a.py": "def f():\n    import zoo.b.c\n",
            "zoo/b/__init__.py": "",
            "zoo/b/c.py": hidden + "from zoo.b import d\nfrom zoo import b\nimport numpy\n",
            "zoo/b/d.py": "",
        },
    )
    assert rooms.all_imports(tmp_path) == [
        ("zoo/a.py", "zoo/b/c.py", 2),
        ("zoo/b/c.py", "zoo/b/d.py", 4),
        ("zoo/b/c.py", "zoo/b/__init__.py", 5),
        ("zoo/b/c.py", "zoo/a.py", 3),
    ]
    assert [rooms.room_of(file) for file in rooms.files_of(tmp_path)] == [
        "zoo.__init__",
        "zoo.a",
        "zoo.b",
        "zoo.b",
        "zoo.b",
    ]
    arrows = [(each.source, each.target) for each in rooms.all_imports(tmp_path)]
    assert rooms.circles(arrows) == [["zoo/a.py", "zoo/b/c.py"]]
    assert rooms.floors(arrows) == 2
    write(tmp_path, {"zoo/a.py": "from .b import c\n"})
    with pytest.raises(SyntaxError, match="relative import"):
        rooms.all_imports(tmp_path)


def test_lines_of_code_are_counted_without_docstrings_and_comments() -> None:
    text = (
        '"""Two\nlines."""\n\n# why\nx = 1  # how\n\n\ndef f():\n    """Say."""\n'
        '    return """a\nb"""\n'
    )
    assert rooms.code_lines(text) == 4
