"""``zoo results``: what runs have measured, a row a figure, and the tables made of such rows."""

from __future__ import annotations

import csv
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError
from zoo.report.tables import markdown
from zoo.run.runs import summary_of

#: What is known of a figure; an empty field is not known.
COLUMNS = (
    "table",  # of README.md, where the figure is shown
    "recipe",
    "command",
    "data",  # in words: its class, or how much of what
    "seed",
    "metric",
    "value",
    "published",  # what others give for it
    "seconds",  # of training and validation
    "hardware",
    "threads",
    "versions",
    "commit",
    "data_mark",  # of the samples themselves, where the data gives one
    "note",
)

#: Figures by their names in a sentence; the others are called what they are in ``metrics.csv``.
_WORDS = {
    "acc": "accuracy",
    "auroc": "AUC",
    "balanced_acc": "balanced accuracy",
    "bits_per_byte": "bits a byte",
    "dice": "Dice",
    "f1": "macro F1",
    "mae": "mean absolute error",
    "r2": "R²",
}
_PLACE = re.compile(r"(<!-- results: (\w+) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)

Row = dict[str, str]


def results(argv: list[str]) -> int:
    """Run ``zoo results``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If a folder holds no finished run, or a file cannot be used.
    """
    parser = VerbParser(
        prog="zoo results",
        description="Shows the figures of runs as rows of a csv file, or adds them to one.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="Folders of runs.")
    parser.add_argument(
        "--to", metavar="FILE", help="A csv file to add the rows to; a README.md beside it follows."
    )
    parser.add_argument(
        "--table", help="The table of README.md to stand in; else the recipe's folder, or packaged."
    )
    parser.add_argument(
        "--metrics", help="Test figures, separated by commas; else the one that chose the epoch."
    )
    parser.add_argument("--note", default="", help="What else has to be known of the runs.")
    options = parser.parse_args(argv)
    if not options.runs and options.to is None:
        parser.error("results needs folders of runs, or --to FILE")
    metrics = options.metrics.split(",") if options.metrics else None
    rows = [row for run in options.runs for row in rows_of(Path(run), metrics)]
    for row in rows:
        folder = row["recipe"].rpartition("/")[0]
        row |= {"table": options.table or folder or "packaged", "note": options.note}
    if options.to is None:
        _writer(sys.stdout).writerows(rows)
        return 0
    path = Path(options.to)
    everything = read_results(path) if path.is_file() else []
    everything += [row for row in rows if row not in everything]
    readme = path.with_name("README.md")
    text = None
    if readme.is_file():  # before the file is written: a table without a place stops here
        text = with_tables(readme.read_text(encoding="utf-8"), everything)
    with path.open("w", newline="", encoding="utf-8") as file:
        _writer(file).writerows(everything)
    if text is not None:
        readme.write_text(text, encoding="utf-8")
    return 0


def _writer(file: Any) -> csv.DictWriter[str]:
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    return writer


def rows_of(run: Path, metrics: list[str] | None = None) -> Iterator[Row]:
    """Yield a row for each test figure of a finished run.

    Args:
        run: The run's folder.
        metrics: Which figures; else the one that chose the epoch, or all where none did.

    Raises:
        UserError: If the folder holds no such figures.
    """
    path = run / "summary.json"
    summary = summary_of(run)
    if summary is None:
        raise UserError(f"{str(run)!r} has no summary.json; name the folder of a finished run")
    figures: dict[str, float] = summary.get("test") or {}
    if metrics is None:
        monitors = [name.removeprefix("val/") for name in summary if name.startswith("val/")]
        metrics = [name for name in monitors if name in figures] or list(figures)
    if not metrics or (unknown := set(metrics) - set(figures)):
        wanted = ", ".join(sorted(unknown)) if metrics else "test figures"
        raise UserError(
            f"{str(path)!r} has no {wanted}; there are {', '.join(figures) or 'none of the test'}"
        )
    words = shlex.split(summary["command"])
    named = words[2:3] if not "".join(words[2:3]).startswith("-") else []
    if "--config" in words:
        named.append(words[words.index("--config") + 1])
    recipe = named[0] if named else run.parent.name
    data = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))["data"]["class_path"]
    packages = ("python", "torch", "lightning", "torchvision")
    row = {
        "recipe": recipe.removeprefix("recipes/").removesuffix(".yaml"),
        "command": summary["command"],
        "data": data.removeprefix("datamodules."),
        "seed": summary["seed"],
        "seconds": summary.get("fit_seconds"),
        "hardware": summary["device"],
        "threads": summary["threads"],
        "versions": ", ".join(f"{name} {summary['versions'][name]}" for name in packages),
        "commit": summary["commit"],
        "data_mark": summary.get("data_mark"),
    }
    known = {name: "" if value is None else str(value) for name, value in row.items()}
    for name in metrics:
        figure = {"metric": name, "value": f"{figures[name]:.4g}"}
        yield {column: (known | figure).get(column, "") for column in COLUMNS}


def read_results(path: Path) -> list[Row]:
    """Return the rows of a csv file that ``zoo results`` wrote.

    Raises:
        UserError: If it has other columns.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UserError(f"{str(path)!r} has other columns; give a file of `zoo results`")
        return list(reader)


def with_tables(text: str, rows: list[Row]) -> str:
    """Return a text whose tables, between ``<!-- results: NAME -->`` and its end, are the rows'.

    Raises:
        UserError: If a row's table has no place in the text.
    """
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(row["table"], []).append(row)
    places = {match[2] for match in _PLACE.finditer(text)}
    for name in tables.keys() - places:
        raise UserError(
            f"README.md has no place for the table {name!r}; give --table one of "
            f"{', '.join(sorted(places)) or 'those it has'}, or write there "
            f"<!-- results: {name} --> and <!-- end of results -->"
        )
    return _PLACE.sub(lambda m: m[1] + table_of(tables.get(m[2], [])) + m[4], text)


def table_of(rows: Iterable[Row]) -> str:
    """Return a Markdown table with a line for each command, its seeds side by side."""
    lines: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = (row["command"], row["data"], row["note"])
        lines.setdefault(key, []).append(row)
    table = [
        {
            "command": f"`{command}`",
            "data": data,
            "seed": _joined(row["seed"] for row in group),
            "test": _figures(group, "value"),
            "published": _figures(group, "published"),
            "time": _joined(f"{row['seconds']} s" for row in group if row["seconds"]),
            "note": note,
        }
        for (command, data, note), group in lines.items()
    ]
    columns = [name for name in (table or [{}])[0] if any(line[name] for line in table)]
    if not columns:
        return ""
    return markdown(columns, [[line[name] for name in columns] for line in table])


def _joined(values: Iterable[str]) -> str:
    """Return the different values, in their order."""
    return ", ".join(dict.fromkeys(filter(None, values)))


def _figures(rows: list[Row], column: str) -> str:
    """Return a command's figures: name by name, and of each name the values of all seeds."""
    values: dict[str, list[str]] = {}
    for row in rows:
        if row[column]:
            values.setdefault(row["metric"], []).append(row[column])
    if column == "published":  # one figure, however many seeds stand beside it
        values = {name: list(dict.fromkeys(each)) for name, each in values.items()}
    return "; ".join(f"{_WORDS.get(k, k)} {', '.join(each)}" for k, each in values.items())
