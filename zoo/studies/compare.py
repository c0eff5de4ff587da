"""``zoo compare``: what differs in the recipes of runs, and what came of it."""

from __future__ import annotations

import os
from pathlib import Path

from datamodules.core.errors import one_of, refuse
from datamodules.core.files import nearby
from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError
from zoo.report.json_output import print_document
from zoo.studies import compare_forms as forms
from zoo.studies.compare_beside import Comparison, beside
from zoo.studies.compare_runs import find_runs, read_run

#: What a comparison may be written as.
FORMS = ("md", "csv", "html")
#: What curves may be drawn against.
AXES = ("step", "epoch", "time")
#: What pictures may be.
_PICTURES = (".png", ".svg", ".pdf")


def compare(argv: list[str]) -> int:
    """Run ``zoo compare``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If something that is named is no run, or an option has no such value.
    """
    parser = VerbParser(
        prog="zoo compare",
        description="Shows runs beside each other: which options of their recipes differ, their "
        "figures, time and parameters. An option that only some classes have is shown where it is "
        "not at its default. Figures of validation are those of the chosen epoch, of an "
        "unfinished run the last.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="Folders of runs, folders that hold some, or patterns; runs where --last is given.",
    )
    parser.add_argument("--last", metavar="N", help="Only the newest N of them.")
    parser.add_argument(
        "--sort",
        metavar="NAME",
        help="A figure (acc, val/acc, test/acc), time or parameters; else what chose the epochs.",
    )
    parser.add_argument(
        "--to",
        metavar="FORM",
        help="md or csv, which are printed, html, which goes to compare.html, or a file's name "
        "that ends so.",
    )
    parser.add_argument(
        "--picture", metavar="FILE", help="Draws the curves of the monitored figures and losses."
    )
    parser.add_argument(
        "--x", default="step", metavar="AXIS", help="What they are drawn against: step, epoch, time"
    )
    parser.add_argument("--json", action="store_true", help="Prints one JSON document instead.")
    options = parser.parse_args(argv)
    if not options.runs and options.last is None:
        parser.error("compare needs folders of runs, or --last N for the newest in runs")
    one_of("x", options.x, AXES)
    form, target = _form(options.to, as_json=options.json)
    picture = _picture(options.picture)
    runs = find_runs(options.runs, _count(options.last), Path("runs"))
    compared = beside([read_run(run) for run in runs], options.sort)
    if picture is not None:
        _draw(compared, options.x, picture)
    if options.json:
        print_document(forms.document(compared))
    if form == "html":
        text = forms.html_page(compared, options.x)
    elif form == "csv":
        text = forms.csv_text(compared)
    elif form == "md":
        beside_text = target.parent if target is not None else Path()
        link = None if picture is None else Path(os.path.relpath(picture, beside_text))
        text = forms.markdown_text(compared, link)
    else:
        text = forms.plain_text(compared)
    if target is not None:
        _write(target, text)
        written = [target] if picture is None else [target, picture]
        if not options.json:
            print(f"comparison in {' and '.join(map(nearby, written))}")
    elif not options.json:
        print(text, end="")
    return 0


def _count(last: str | None) -> int | None:
    if last is None:
        return None
    if not last.isdecimal() or int(last) < 1:
        raise refuse("last", last, "give how many of the newest runs, 1 or more")
    return int(last)


def _form(to: str | None, *, as_json: bool) -> tuple[str | None, Path | None]:
    """Return the form that was asked for, and the file that it goes to."""
    if to is None:
        return None, None
    path = Path(to)
    form = path.suffix.lstrip(".") if path.suffix else to
    if form not in FORMS:
        raise refuse("to", to, "give md, csv or html, or a file whose name ends so")
    if path.suffix:
        return form, path
    if form == "html":
        return form, Path("compare.html")
    if as_json:
        raise refuse("to", to, f"give a file beside --json, such as compare.{form}")
    return form, None


def _picture(name: str | None) -> Path | None:
    if name is None:
        return None
    if Path(name).suffix not in _PICTURES:
        raise refuse("picture", name, f"give a file whose name ends in {', '.join(_PICTURES)}")
    return Path(name)


def _draw(compared: Comparison, x: str, path: Path) -> None:
    from zoo.studies.compare_picture import draw_curves
    from zoo.studies.drawing import save_picture

    try:
        save_picture(lambda: draw_curves(compared, x), path)
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be written: {error.strerror}") from error
