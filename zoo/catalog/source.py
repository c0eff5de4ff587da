"""Python source, read without running it: what a name stands for, a class's bases, a docstring.

Help and suggestions need signatures of classes whose import takes seconds, as it brings torch.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign
#: Import chains that are longer than this go in a circle.
_LONGEST_CHAIN = 12


class Found(NamedTuple):
    """A definition.

    Args:
        module: The module in which it stands.
        node: The statement.
    """

    module: str
    node: Definition


@cache
def file_of(module: str) -> Path | None:
    """Return a module's file; None where there is none."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)  # a top-level name: nothing is imported
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        is_source = spec.origin is not None and spec.has_location and spec.origin.endswith(".py")
        return Path(str(spec.origin)) if is_source and not rest else None
    path = Path(spec.submodule_search_locations[0], *rest)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path if path.is_file() else None


@cache
def statements(module: str) -> tuple[ast.stmt, ...]:
    """Return a module's statements, those under ``if`` and ``try`` included."""
    path = file_of(module)
    if path is None:
        return ()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if "torch" not in sys.modules:  # what it leaves is to be collected when the process ends
        gc.freeze()  # to look trees through for garbage, time and again, is half of the work
    return tuple(_flat(tree.body))


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _flat(node.body)
            yield from _flat(node.orelse)
        else:
            yield node


@cache
def find(path: str) -> Found | None:
    """Return where a dotted path, such as ``zoo.GoogLeNet``, is defined."""
    module, _, name = path.rpartition(".")
    return look_up(module, name) if module else None


def look_up(module: str, name: str, depth: int = 0) -> Found | None:
    """Return where a name in a module is defined, wherever that is imported from."""
    if depth > _LONGEST_CHAIN:
        return None
    stars = []
    for node in statements(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return Found(module, node)
        if name in _assigned(node):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            return Found(module, node)
        if isinstance(node, ast.ImportFrom):
            source = _imported(module, node)
            for alias in node.names:
                if alias.name == "*":
                    stars.append(source)
                elif (alias.asname or alias.name) == name:
                    return look_up(source, alias.name, depth + 1)
    return next(filter(None, (look_up(star, name, depth + 1) for star in stars)), None)


def _assigned(node: ast.stmt) -> set[str]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _imported(module: str, node: ast.ImportFrom) -> str:
    """Return the module of a ``from`` import as an absolute name."""
    if not node.level:
        return node.module or ""
    path = file_of(module)
    parts = module.split(".")
    up = node.level - (path is not None and path.name == "__init__.py")
    return ".".join([*parts[: len(parts) - up], *filter(None, [node.module])])


def resolve(module: str, expression: ast.expr) -> Found | None:
    """Return what an expression in a module names, such as a base class."""
    if isinstance(expression, ast.Subscript):  # Generic[...]
        return resolve(module, expression.value)
    if isinstance(expression, ast.Name):
        return look_up(module, expression.id)
    if isinstance(expression, ast.Attribute):
        return find(f"{_written_out(module, ast.unparse(expression.value))}.{expression.attr}")
    return None


def _written_out(module: str, prefix: str) -> str:
    """Return ``lightning`` for an ``L`` that was imported as such."""
    first, dot, rest = prefix.partition(".")
    for node in statements(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname == first:
                    return alias.name + dot + rest
    return prefix


def ancestry(found: Found) -> list[Found]:
    """Return a class and its bases in the order in which ``super()`` goes through them."""
    assert isinstance(found.node, ast.ClassDef)
    bases = [resolve(found.module, base) for base in found.node.bases]
    known = [base for base in bases if base is not None and isinstance(base.node, ast.ClassDef)]
    rows = [row for row in [*map(ancestry, known), known] if row]
    order = [found]
    while rows:  # C3, as Python does it
        tails = [each.node for row in rows for each in row[1:]]
        head = next((row[0] for row in rows if row[0].node not in tails), rows[0][0])
        order.append(head)
        rows = [rest for row in rows if (rest := [e for e in row if e.node is not head.node])]
    return order


def docstring(node: ast.ClassDef | ast.FunctionDef) -> str:
    """Return a docstring as plain text."""
    return plain(ast.get_docstring(node) or "")


def plain(text: str) -> str:
    """Return a text without the marks of reStructuredText."""
    text = re.sub(r":\w+:`[~!]?([^`<]*?)(?: <[^`]*>)?`", r"\1", text)
    return text.replace("``", "")


def note_below(module: str, name: str) -> str:
    """Return the text that stands below an assignment as its docstring."""
    body = statements(module)
    for node, after in pairwise(body):
        if name in _assigned(node) and isinstance(after, ast.Expr):
            value = after.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return plain(inspect.cleandoc(value.value))
    return ""


def named_lines(text: str, section: str) -> dict[str, str]:
    """Return the names of a docstring's section, ``Args`` say, with what it says of each."""
    lines = iter(text.split("\n"))
    for line in lines:
        if line.strip() == f"{section}:":
            indent = len(line) - len(line.lstrip())
            break
    found: dict[str, list[str]] = {}
    first: int | None = None
    words: list[str] = []
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if not line.strip():
            continue
        if depth <= indent:
            break
        first = depth if first is None else first
        name = re.match(r"\s*\*{0,2}([\w.\- /]+?)(?: \([^)]*\))?: ?(.*)", line)
        if depth == first and name:
            words = found.setdefault(name[1], [])
            words.append(name[2])
        else:
            words.append(line.strip())
    return {name: " ".join(filter(None, words)) for name, words in found.items()}
