"""How the house is built: rooms, files, the arrows between them, circles, and lines of code.

A room is what stands directly in a package: a folder with all that is in it, or a file. An arrow is
an import from one room, or file, in another; imports inside functions and those for type checkers
alone count like all others. A circle is a set of which each member reaches all others by arrows.
Floors are the files of the longest chain of imports. Lines of code are lines with at least one
token, docstrings and comments apart.

    python tests/benchmarks/rooms.py            # this checkout
    python tests/benchmarks/rooms.py FOLDER     # another one
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("zoo", "datamodules")


class Import(NamedTuple):
    """One file imports another; both are paths relative to the checkout."""

    source: str
    target: str
    line: int


def files_of(root: Path, packages: Iterable[str] = PACKAGES) -> list[str]:
    """Return the Python files of some packages."""
    found = (path for package in packages for path in (root / package).rglob("*.py"))
    return sorted(path.relative_to(root).as_posix() for path in found)


def folder_of(file: str) -> str:
    """Return the dotted name of the folder that a file lies in."""
    return file.rpartition("/")[0].replace("/", ".")


def room_of(file: str) -> str:
    """Return the dotted name of a file's room: ``zoo.nets``, or ``zoo.errors`` of a lone file."""
    return ".".join(file.removesuffix(".py").split("/")[:2])


def imports_of(root: Path, file: str) -> list[Import]:
    """Return what one file imports of the packages, wherever in the file that stands."""
    found: list[Import] = []
    for node in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise SyntaxError(f"{file}:{node.lineno}: a relative import; name the package")
            # A name that is imported may be a file of the folder, or stand in its __init__.
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name if _file(root, name) else str(node.module) for name in deeper]
        else:
            continue
        targets = {target for name in modules if (target := _file(root, name))}
        found += [Import(file, target, node.lineno) for target in sorted(targets)]
    return found


def _file(root: Path, module: str) -> str | None:
    """Return the file of a module, or None where it is none of the packages'."""
    path = module.replace(".", "/")
    if path.split("/")[0] not in PACKAGES:
        return None
    places = (f"{path}.py", f"{path}/__init__.py")
    return next((place for place in places if (root / place).is_file()), None)


def all_imports(root: Path) -> list[Import]:
    """Return every import of one file of the packages in another."""
    return [each for file in files_of(root) for each in imports_of(root, file)]


def circles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the sets of nodes that reach each other (Tarjan's strongly connected components)."""
    graph: dict[str, set[str]] = {}
    for source, target in arrows:
        graph.setdefault(source, set()).add(target)
        graph.setdefault(target, set())
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            place = stack.index(node)
            members = sorted(stack[place:])
            del stack[place:]
            if len(members) > 1 or node in graph[node]:
                found.append(members)

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return sorted(found)


def floors(arrows: Iterable[tuple[str, str]]) -> int:
    """Return how many nodes the longest chain of arrows has; a circle counts as one."""
    arrows = set(arrows)
    home = {member: ring[0] for ring in circles(arrows) for member in ring}
    graph: dict[str, set[str]] = {}
    for source, target in ((home.get(a, a), home.get(b, b)) for a, b in arrows):
        if source != target:
            graph.setdefault(source, set()).add(target)
    height: dict[str, int] = {}

    def measure(node: str) -> int:
        if node not in height:
            height[node] = 1 + max((measure(target) for target in graph.get(node, ())), default=0)
        return height[node]

    return max((measure(node) for node in graph), default=0)


def code_lines(text: str) -> int:
    """Count the lines that hold code: no docstring, no comment, no blank line."""
    passed = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    passed |= {tokenize.COMMENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in passed:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        alone = node.value if isinstance(node, ast.Expr) else None
        if isinstance(alone, ast.Constant) and isinstance(alone.value, str):  # a docstring
            lines.difference_update(range(alone.lineno, int(alone.end_lineno or 0) + 1))
    return len(lines)


def lines_by_folder(root: Path, packages: Iterable[str] = PACKAGES) -> Counter[str]:
    """Return the lines of code of each folder."""
    counts: Counter[str] = Counter()
    for file in files_of(root, packages):
        counts[folder_of(file)] += code_lines((root / file).read_text(encoding="utf-8"))
    return counts


def main(root: Path) -> None:
    """Print the counts of one checkout."""
    files = files_of(root)
    arrows = {(each.source, each.target) for each in all_imports(root)}
    between = {(room_of(a), room_of(b)) for a, b in arrows if room_of(a) != room_of(b)}
    for package in PACKAGES:
        mine = [file for file in files if file.startswith(f"{package}/")]
        inside = {pair for pair in arrows if set(pair) <= set(mine)}
        counts = {
            "rooms": len({room_of(file) for file in mine}),
            "arrows between its rooms": len({p for p in between if p[0].startswith(package)}),
            "files": len(mine),
            "files in the fullest folder": max(Counter(map(folder_of, mine)).values()),
            "imports between its files": len(inside),
            "floors": floors(inside),
        }
        print(package)
        for name, count in counts.items():
            print(f"  {name:<32}{count:>6}")
    for name, pairs in (("files", arrows), ("rooms", between)):
        print(f"{f'circles between {name}':<34}{len(circles(pairs)):>6}")
        for ring in circles(pairs):
            print(f"  {' '.join(ring)}")
    print(f"\n{'lines of code':<26}{'files':>6}{'lines':>8}")
    for packages in ([PACKAGES[0]], [PACKAGES[1]], ["tests"]):
        held = Counter(map(folder_of, files_of(root, packages)))
        lines = lines_by_folder(root, packages)
        if packages != ["tests"]:
            for folder in lines:
                print(f"{folder:<26}{held[folder]:>6}{lines[folder]:>8,}")
        print(f"{f'all of {packages[0]}':<26}{held.total():>6}{lines.total():>8,}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2])
