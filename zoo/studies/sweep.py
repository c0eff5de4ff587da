"""``zoo sweep``: a study's table and picture, by many runs of a recipe or by its own script."""

from __future__ import annotations

import argparse
from pathlib import Path

from datamodules.core.files import nearby
from zoo.cli.config import Layer, read_yaml, value_of
from zoo.cli.request import find_recipe
from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError
from zoo.studies.script import run_script, with_flags
from zoo.studies.tables import read_table, text_table

#: Where runs are kept, unless the command says so.
_ROOT = "trainer.default_root_dir"


def sweep(argv: list[str]) -> int:
    """Run ``zoo sweep``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If something is the user's to put right.
    """
    options, flags = _parser().parse_known_args(argv)
    names = [*options.study, *options.config]
    if len(names) != 1:
        raise UserError(
            f"sweep takes one study, not {len(names)}; give --config NAME, `zoo list studies` "
            "shows those at hand"
        )
    path = find_recipe(names[0])
    content = read_yaml(path, "study", "base: and vary:, or script:")
    root, flags = _root_of(flags)
    folder = root / path.stem
    if "script" not in content:
        raise UserError(f"study {str(path)!r} has no script; give one")
    run_script(path, with_flags(content, flags), folder, options.trust)
    _show(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = VerbParser(
        prog="zoo sweep",
        description="Runs a study: the script beside its file.",
        allow_abbrev=False,
    )
    parser.add_argument("study", nargs="*", metavar="STUDY", help="A file, or a packaged study.")
    parser.add_argument("--config", action="append", default=[], help="The same.")
    parser.add_argument(
        "--trust", action="append", default=[], help="A script that may be run, or a package."
    )
    return parser


def _root_of(flags: list[str]) -> tuple[Path, list[str]]:
    """Return where runs are kept, and the flags that do not say so."""
    defaults: Layer = {"trainer": {"default_root_dir": "runs"}}
    root = Path(str(value_of(_ROOT, [defaults], flags)))
    rest, skips = [], False
    for flag in flags:
        name, equals, _ = flag.partition("=")
        if name == f"--{_ROOT}":
            skips = not equals
        elif skips:
            skips = False
        else:
            rest.append(flag)
    return root, rest


def _show(folder: Path) -> None:
    """Print what a study left."""
    table = folder / "table.csv"
    if table.is_file():
        print(text_table(read_table(table)))
    pictures = ", ".join(sorted(path.name for path in folder.glob("*.png")))
    print(f"study in {nearby(folder)}" + (f": {pictures}" if pictures else ""), flush=True)
