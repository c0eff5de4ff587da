"""A comparison of runs as text, Markdown, csv, HTML and JSON."""

from __future__ import annotations

import base64
import csv
import html
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from datamodules.core.files import nearby
from zoo.catalog.options import as_yaml
from zoo.report.tables import columns_of, in_columns, markdown
from zoo.studies.compare_beside import Comparison
from zoo.studies.compare_runs import Figure, Run
from zoo.studies.tables import cell
from zoo.version import __version__

#: Letters of a value that a table shows, but for HTML's and csv's.
_LONGEST = 48
_DIGITS = 4
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
    "td,th{border-bottom:1px solid #ddd;padding:.25rem .75rem;text-align:left;"
    "vertical-align:top;font-variant-numeric:tabular-nums}"
    "th{background:#f5f5f5;white-space:nowrap}img{max-width:100%}"
)


def plain_text(compared: Comparison, width: int | None = None) -> str:
    """Return a comparison as a terminal shows it.

    Args:
        compared: The runs.
        width: Columns of the terminal; by default those of this one.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    legend = [line.rstrip() for line in in_columns(_legend(compared))]
    parts = ["\n".join([f"{compared.headline}:", *legend])]
    parts += ["\n".join(line.rstrip() for line in block) for block in _blocks(compared, width)]
    parts += [f"note: {note}" for note in compared.notes]
    return "\n\n".join(parts) + "\n"


def markdown_text(compared: Comparison, picture: Path | None = None) -> str:
    """Return a comparison in Markdown.

    Args:
        compared: The runs.
        picture: Of their curves, to be shown in it.
    """
    header, *rows = _grid(compared, _LONGEST)
    parts = [
        f"{compared.headline}:\n",
        markdown(["", "run", "state"], _legend(compared)),
        markdown(header, rows),
        *(f"{note}\n" for note in compared.notes),
        *([f"![curves]({picture.as_posix()})\n"] if picture else []),
    ]
    return "\n".join(parts)


def html_page(compared: Comparison, x: str) -> str:
    """Return a comparison as a page on its own, the picture of the curves in it.

    Args:
        compared: The runs.
        x: What the curves are drawn against.
    """
    from zoo.studies.compare_picture import draw_curves
    from zoo.studies.drawing import save_picture

    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        path = Path(folder, "curves.png")
        save_picture(lambda: draw_curves(compared, x), path)
        picture = base64.b64encode(path.read_bytes()).decode()
    parts = [
        f"<h1>{html.escape(compared.headline)}</h1>",
        _html_table([["", "run", "state"], *_legend(compared)]),
        _html_table(_grid(compared, None)),
        *(f"<p>{html.escape(note)}</p>" for note in compared.notes),
        f'<img alt="curves" src="data:image/png;base64,{picture}">',
        f"<p>zoo {html.escape(__version__)}</p>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{html.escape(compared.headline)}</title>\n<style>{_STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )


def _html_table(rows: list[list[str]]) -> str:
    lines = []
    for number, row in enumerate(rows):
        cells = (
            f"<{kind}>{html.escape(text)}</{kind}>"
            for place, text in enumerate(row)
            for kind in ["th" if number == 0 or place == 0 else "td"]
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def csv_text(compared: Comparison) -> str:
    """Return a comparison as csv: a row for each run, all digits, ends of intervals beside."""
    rows = []
    for run in compared.runs:
        row: dict[str, Any] = {"run": nearby(run.folder), "state": run.state}
        row |= {name: _given(run, name) for name in compared.options}
        row |= {name: run.validation.get(name) for name in _validation_names(compared)}
        row["chosen_epoch"] = run.epoch
        for name in _test_names(compared):
            value, low, high = run.test.get(name.removeprefix("test/")) or (None, None, None)
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        row |= {"seconds": run.seconds, "parameters": run.parameters}
        row |= {name: run.made_with.get(name) for name in _made_with_names(compared)}
        rows.append(row)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def document(compared: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON has it."""
    return {
        "sorted_by": compared.sort,
        "options": compared.options,
        "notes": compared.notes,
        "runs": [
            {
                "folder": str(run.folder),
                "finished": run.finished,
                "state": run.state,
                "options": {k: run.options[k] for k in compared.options if k in run.options},
                "monitor": run.monitor,
                "chosen_epoch": run.epoch,
                "validation": run.validation,
                "test": {name: figure._asdict() for name, figure in run.test.items()},
                "seconds": run.seconds,
                "parameters": run.parameters,
                "made_with": {name: run.made_with.get(name) for name in _made_with_names(compared)},
            }
            for run in compared.runs
        ],
    }


def _legend(compared: Comparison) -> list[list[str]]:
    return [
        [str(number), _one_line(nearby(run.folder)), _one_line(run.state)]
        for number, run in enumerate(compared.runs, start=1)
    ]


def _facts(compared: Comparison, run: Run) -> dict[str, str]:
    """Return all that is told of a run, in words; what is sorted by comes behind the options."""
    figures = {}
    for name in _validation_names(compared):
        value = run.validation.get(name)
        place = f" (epoch {run.epoch})" if run.epoch else "" if run.finished else " (last)"
        figures[name] = "" if value is None else cell(value, _DIGITS) + place
    for name in _test_names(compared):
        figure = run.test.get(name.removeprefix("test/"))
        figures[name] = "" if figure is None else _with_interval(figure)
    figures["time"] = "" if run.seconds is None else f"{cell(run.seconds, _DIGITS)} s"
    figures["parameters"] = "" if run.parameters is None else f"{run.parameters:,}"
    first = {name: figures[name] for name in figures if name == compared.sort}
    made_with = {
        name: _one_line(run.made_with.get(name, "")) for name in _made_with_names(compared)
    }
    return {name: _given(run, name) for name in compared.options} | first | figures | made_with


def _given(run: Run, name: str) -> str:
    return _one_line(as_yaml(run.options[name])) if name in run.options else ""


def _with_interval(figure: Figure) -> str:
    value = cell(figure.value, _DIGITS)
    if figure.low is None or figure.high is None:
        return value
    return f"{value} [{cell(figure.low, _DIGITS)}, {cell(figure.high, _DIGITS)}]"


def _validation_names(compared: Comparison) -> list[str]:
    names = [*compared.monitors, *([compared.sort] if compared.sort else [])]
    known = dict.fromkeys(name for run in compared.runs for name in run.validation)
    return [name for name in dict.fromkeys(names) if name in known]


def _test_names(compared: Comparison) -> list[str]:
    return list(dict.fromkeys(f"test/{name}" for run in compared.runs for name in run.test))


def _made_with_names(compared: Comparison) -> list[str]:
    """Return what differs beside the recipes: machine, versions, commit, samples."""
    names = dict.fromkeys(name for run in compared.runs for name in run.made_with)
    finished = [run for run in compared.runs if run.made_with]
    return [name for name in names if len({run.made_with.get(name) for run in finished}) > 1]


def _grid(compared: Comparison, longest: int | None) -> list[list[str]]:
    """Return the table of all facts: its longer side goes down, runs have their numbers."""
    facts = [_facts(compared, run) for run in compared.runs]
    names = list(facts[0])
    rows = [["", *names]]
    for number, of_run in enumerate(facts, start=1):
        rows.append([str(number), *(_cut(of_run[name], longest) for name in names)])
    return [list(column) for column in zip(*rows, strict=True)] if len(names) > len(facts) else rows


def _blocks(compared: Comparison, width: int) -> list[list[str]]:
    """Return the table's lines, in blocks as wide as a terminal where it is wider."""
    grid = _grid(compared, _LONGEST)
    columns = [list(column) for column in zip(*grid, strict=True)]
    first, *rest = columns
    blocks = []
    while rest:
        block = [first, rest.pop(0)]
        taken = sum(max(map(columns_of, column)) + 2 for column in block) - 2
        while rest and (taken := taken + max(map(columns_of, rest[0])) + 2) <= width:
            block.append(rest.pop(0))
        blocks.append(in_columns([list(row) for row in zip(*block, strict=True)]))
    return blocks


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _cut(text: str, longest: int | None) -> str:
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"
