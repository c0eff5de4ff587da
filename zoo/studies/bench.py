"""``zoo bench``: what a training step costs, part by part, at one batch size or several."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from datamodules.core.errors import refuse
from datamodules.core.files import nearby
from zoo.cli.request import Request, check_early, find_recipe, take_apart
from zoo.cli.verb_help import help_of
from zoo.cli.verb_parser import VerbParser
from zoo.errors import OptionError, UserError

if TYPE_CHECKING:
    from zoo.cli.session import Session

_REPEATS = 5


def bench(argv: list[str]) -> int:
    """Run ``zoo bench``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If something is the user's to put right.
    """
    own, rest = _parser().parse_known_args(argv)
    request = take_apart(["bench", *rest])
    if request.asks_help and (text := help_of(request)) is not None:
        print(text)
        return 0
    if request.ckpt_path is not None:
        raise UserError("option --ckpt_path does not belong to bench; leave it out")
    requests = {request.name: request}
    if own.against:
        name = " ".join(own.against)
        requests[name if name != request.name else f"{name} again"] = against(request, own.against)
    sizes, repeats = sizes_of(own.batch_size), repeats_of(own.repeats)
    for word in own.against or () if sizes else ():
        if word.startswith("data.batch_size="):
            remedy = "leave it out, or --batch_size, which is of both that are timed"
            raise refuse("against", word, remedy)
    for each in requests.values():
        check_early(each)
    return request.answer(lambda: _run(requests, sizes, repeats))


def _parser() -> argparse.ArgumentParser:
    parser = VerbParser(prog="zoo bench", add_help=False, allow_abbrev=False)
    parser.add_argument("--batch_size")
    parser.add_argument("--repeats")
    parser.add_argument("--against", nargs="+")
    return parser


def sizes_of(text: str | None) -> list[int]:
    """Return the batch sizes that ``--batch_size`` names, rising; none where it is left out.

    Raises:
        OptionError: If they are no whole numbers above 0.

    >>> sizes_of("16,1,4")
    [1, 4, 16]
    """
    if text is None:
        return []
    numbers = [number.strip() for number in text.strip("[] ").split(",")]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise refuse("batch_size", text, "give whole numbers above 0, such as 1,2,4,8")
    return sorted({int(number) for number in numbers})


def repeats_of(text: str | None) -> int:
    """Return how often each batch size is timed.

    Raises:
        OptionError: If it is no whole number above 0.
    """
    if text is None:
        return _REPEATS
    if not (text.isdecimal() and int(text)):
        raise refuse("repeats", text, "give a whole number above 0")
    return int(text)


def against(request: Request, words: list[str]) -> Request:
    """Return what a request is timed against: other recipes, or its own with other options.

    The options of the line hold for both.

    Args:
        request: The request.
        words: Names of recipes, and options such as ``model.net.norm=group``.

    Raises:
        OptionError: If there is no such recipe.
    """
    names = [word for word in words if "=" not in word]
    flags = [f"--{word}" for word in words if "=" in word]
    try:
        recipes = [find_recipe(name) for name in names]
    except OptionError as error:
        raise OptionError("against", error.reason, error.near) from error
    other = replace(request, flags=[*request.flags, *flags])
    return replace(other, recipes=recipes, named=0) if recipes else other


def _run(requests: dict[str, Request], sizes: list[int], repeats: int) -> int:
    """Time the recipes; torch is imported here, once nothing is wrong with their options' names."""
    from zoo.cli.verbs import run

    first = next(iter(requests.values()))

    def work(request: Request, session: Session) -> int:
        from zoo.run.folder import new_run
        from zoo.studies.bench_report import document, line_of, save, told
        from zoo.studies.bench_run import Contender, Measured, measure

        contenders = [Contender(name, each) for name, each in requests.items()]
        results: list[Measured] = []
        folder = None
        for found in measure(contenders, sizes, repeats):
            results += found
            if not request.quiet:
                print("\n".join(map(line_of, found)), flush=True)
            if any(each.windows for each in results):
                folder = folder or new_run(contenders[0].root, "bench", first.name).path
                save(results, folder)
        place = f"\nbench in {nearby(folder)}" if folder else ""
        print(f"\n{told(results)}{place}", flush=True)
        request.document = {"folder": folder and str(folder), **document(results)}
        return 0

    return run(first, work)
