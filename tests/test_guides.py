"""What the guides say exists, and the steps to a net are steps to a net."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from zoo.catalog.contents import recipe_names

ROOT = Path(__file__).parents[1]
GUIDES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md")
COMMANDS = ("mypy", "pip", "python", "ruff", "zoo")
#: What stands for a name that the reader chooses, and what the guide's own example makes.
CHOSEN = re.compile(r"\b(NAME|BENCHMARK|RUN|FILE|recipe>|run id>)")
MADE = {"zoo/nets/linear.py", "recipes/linear.yaml", "tests/nets/test_linear.py", "linear"}


def spans(guide: str) -> list[str]:
    """Text set as code, outside of blocks."""
    text = (ROOT / guide).read_text(encoding="utf-8")
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", text)


@cache
def identifiers(file: Path) -> set[str]:
    """Names that stand in a file's code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for field in ("id", "name", "attr", "arg", "asname"):
            value = getattr(node, field, None)
            found |= set(value.split(".")) if isinstance(value, str) else set()
    return found


@cache
def all_names() -> set[str]:
    """Names in the code of all packages and tests, and those of their files and folders."""
    names: set[str] = set()
    for folder in ("zoo", "datamodules", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            names |= identifiers(path)
            names |= {path.name, *path.relative_to(ROOT).with_suffix("").parts}
    return names


@cache
def all_texts() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (ROOT / "zoo").rglob("*.py"))


def exists(span: str) -> bool:
    """Whether what a guide sets as code is there, as far as that can be told."""
    words = span.split()
    if words[0] in COMMANDS and (len(words) > 1 or span == "mypy"):
        chosen = re.findall(r"--config (\S+)", span)
        return all(CHOSEN.search(name) or name in {*recipe_names(), *MADE} for name in chosen)
    if CHOSEN.search(span) or span in MADE or (ROOT / span).exists():
        return True
    if span.startswith("("):  # a shape, or arguments
        return True
    if calls := re.findall(r"(\w+)\(", span):
        return set(calls) <= all_names()
    if span in all_names() or set(span.split(".")) <= all_names():
        return True
    if span.startswith("--"):
        return set(re.findall(r"\w+", words[0])) <= all_names()
    return f'"{span}"' in all_texts() or f"/{span}" in all_texts()


@pytest.mark.parametrize("guide", GUIDES[:2])
def test_what_a_guide_names_is_there(guide: str) -> None:
    assert [span for span in spans(guide) if not exists(span)] == []


@pytest.mark.parametrize("guide", GUIDES[:2])
def test_a_name_stands_in_the_file_that_is_given_for_it(guide: str) -> None:
    text = (ROOT / guide).read_text(encoding="utf-8")
    pairs = re.findall(r"`([\w.]+)`(?:\s\([^)`]*\))?\s+in\s+`([\w/]+\.py)`", text)
    assert pairs
    for name, file in pairs:
        known = identifiers(ROOT / file) | {"__all__"}
        assert set(name.split(".")) <= known, f"{name} in {file}"


def test_paths_of_the_readme_are_there() -> None:
    ours = ("zoo/", "datamodules/", "recipes/", "tests/", ".ci/")  # not a run's or the reader's
    paths = [span for span in spans("README.md") if re.fullmatch(r"[\w./]+", span)]
    links = re.findall(r"\]\(([\w./]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    named = {*links, *(path for path in paths if path.startswith(ours))}
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert {"ARCHITECTURE.md", "CONTRIBUTING.md"} <= set(links)


def test_the_tree_shows_every_room() -> None:
    tree = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    shown: list[str] = []
    for line in tree.strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        shown = [*shown, "/".join([*_above(shown, depth), line.split()[0].rstrip("/")])]
    rooms = {
        path.parent.relative_to(ROOT).as_posix()
        for package in ("zoo", "datamodules")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert set(shown) == rooms | {"recipes", "tests"}


def _above(shown: list[str], depth: int) -> list[str]:
    return shown[-1].split("/")[:depth] if depth else []


# --- the walk ------------------------------------------------------------------------------------


def blocks() -> list[tuple[str, str]]:
    """Kind and text of the blocks of code in the steps to a net, in their order."""
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = guide.split("\n## Add a net\n")[1].split("\n## ")[0]
    found = re.findall(r"^   ```(\w+)\n(.*?)^   ```$", section, flags=re.DOTALL | re.MULTILINE)
    return [(kind, re.sub("^   ", "", text, flags=re.MULTILINE)) for kind, text in found]


def insert(path: Path, before: str, line: str) -> None:
    """Put a line before the first place where a text stands."""
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, line + before, 1), encoding="utf-8")


@pytest.mark.slow
def test_the_steps_to_a_net_lead_to_a_net(tmp_path: Path) -> None:
    for name in ("zoo", "datamodules", "recipes", "tests"):
        left_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (_, net), (_, export), (_, recipe), (_, own_test), (_, tries) = blocks()

    (tmp_path / "zoo/nets/linear.py").write_text(net)
    door = tmp_path / "zoo/nets/__init__.py"
    insert(door, "\n__all__ = [\n", export)
    insert(door, '    "ResNet",\n', '    "LinearNet",\n')
    (tmp_path / "recipes/linear.yaml").write_text(recipe)
    (tmp_path / "tests/nets/test_linear.py").write_text(own_test)

    folder = str(tmp_path)
    environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
    environment["ZOO_CACHE"] = str(tmp_path / "cache")
    outputs = []
    for line in tries.splitlines():
        program, *arguments = line.split()
        assert program == "python"
        if "--config" in arguments:  # the whole training, on fewer batches
            arguments += ["--wandb", "off", "--trainer.max_epochs", "1"]
        command = [sys.executable, *arguments]
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        outputs.append(ended.stdout)
    tests, listed, trained = outputs
    passed = re.search(r"(\d+) passed", tests)
    assert passed is not None
    assert int(passed[1]) >= 7  # the contract's clauses, the recipe's smoke run, its own test
    assert "failed" not in tests
    assert "A linear classifier of images that are shrunk first." in listed
    assert "Pixels a side of the shrunken image" in " ".join(listed.split())
    assert "LinearNet, 650 parameters" in trained
