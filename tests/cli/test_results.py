"""``zoo results``: rows of what runs have measured, and the tables made of them."""

import csv
import json
from pathlib import Path

import pytest

from zoo.catalog.contents import recipe_names, recipes_folder
from zoo.cli.results import COLUMNS, read_results, table_of, with_tables

RESULTS = recipes_folder() / "results.csv"
README = recipes_folder() / "README.md"


def test_the_tables_of_the_recipes_are_what_was_measured() -> None:
    """If this fails: ``zoo results --to recipes/results.csv`` makes the tables anew."""
    text, rows = README.read_text(encoding="utf-8"), read_results(RESULTS)
    assert with_tables(text, rows) == text
    assert text.count("<!-- results: ") == text.count("<!-- end of results -->")
    assert {f"<!-- results: {row['table']} -->" in text for row in rows} == {True}


def test_every_row_can_be_measured_again() -> None:
    names = recipe_names()
    for row in read_results(RESULTS):
        assert row["recipe"] in names
        assert row["command"].startswith(f"zoo fit --config {row['recipe']}")
        assert row["metric"]
        assert row["seed"]
        float(row["value"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run, as ``fit`` leaves it."""
    folder = tmp_path / "runs" / "inception" / "1"
    folder.mkdir(parents=True)
    names = ("python", "torch", "lightning", "torchvision", "numpy")
    summary = {
        "test": {"loss": 0.25, "acc": 0.98765},
        "checkpoint": "best.ckpt",
        "val/acc": 0.97,
        "fit_seconds": 12.5,
        "seed": 3,
        "versions": dict.fromkeys(names, "1.2"),
        "commit": "abc",
        "command": "zoo fit --config recipes/cifar10/inception.yaml --seed_everything 3",
        "device": "CPU",
        "threads": 2,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "recipe.yaml").write_text("data: {class_path: datamodules.CIFAR10}\n")
    return folder


def test_a_run_is_shown_as_rows(run, zoo) -> None:
    shown = zoo(f"results {run}")
    assert shown.code == 0
    (row,) = csv.DictReader(shown.out.splitlines())
    assert tuple(row) == COLUMNS
    assert row == {
        "table": "cifar10",
        "recipe": "cifar10/inception",
        "command": "zoo fit --config recipes/cifar10/inception.yaml --seed_everything 3",
        "data": "CIFAR10",
        "seed": "3",
        "metric": "acc",  # what the epoch was chosen by
        "value": "0.9877",
        "published": "",
        "seconds": "12.5",
        "hardware": "CPU",
        "threads": "2",
        "versions": "python 1.2, torch 1.2, lightning 1.2, torchvision 1.2",
        "commit": "abc",
        "data_mark": "",
        "note": "",
    }


def test_a_run_of_fit_has_all_that_a_row_needs(checkpoint, zoo) -> None:
    shown = zoo(f"results {checkpoint.parent.parent} --metrics acc,loss --table mine")
    rows = list(csv.DictReader(shown.out.splitlines()))
    assert [row["metric"] for row in rows] == ["acc", "loss"]
    empty = {name for row in rows for name, value in row.items() if not value}
    assert empty - {"commit"} == {"published", "note"}  # no clone, no commit


def test_rows_are_added_once_and_the_table_follows(run, tmp_path, zoo) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("Before.\n\n<!-- results: mine -->\nold\n<!-- end of results -->\n\nAfter.\n")
    for _ in range(2):
        assert zoo(f"results {run} --to r.csv --table mine --note alone").code == 0
    assert len(read_results(tmp_path / "r.csv")) == 1
    text = readme.read_text()
    assert text.startswith("Before.\n\n<!-- results: mine -->\n| command | data | seed |")
    assert text.endswith(
        "| accuracy 0.9877 | 12.5 s | alone |\n<!-- end of results -->\n\nAfter.\n"
    )


def test_seeds_of_a_command_stand_side_by_side() -> None:
    row = dict.fromkeys(COLUMNS, "") | {"command": "zoo fit", "metric": "f1", "published": "0.7"}
    rows = [row | {"seed": str(k), "value": f"0.{k}", "seconds": "2"} for k in (1, 2)]
    rows.append(rows[0] | {"metric": "acc", "published": ""})
    assert table_of(rows) == (
        "| command | seed | test | published | time |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| `zoo fit` | 1, 2 | macro F1 0.1, 0.2; accuracy 0.1 | macro F1 0.7 | 2 s |\n"
    )
    assert table_of([]) == ""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("nowhere", "'nowhere' has no summary.json; name the folder of a finished run"),
        ("RUN --metrics acc,auroc", "has no auroc; there are loss, acc"),
        ("RUN --to r.csv", "README.md has no place for the table 'cifar10'; give --table one of"),
        ("RUN --to r.yaml --table mine", "'r.yaml' has other columns; give a file of"),
        ("", "results needs folders of runs, or --to FILE; see `zoo results --help`"),
        ("--fast", "option --fast is not known; see `zoo results --help`"),
    ],
)
def test_what_cannot_be_used_is_refused(options, sentence, run, tmp_path, zoo) -> None:
    text = "<!-- results: mine -->\n<!-- end of results -->\n"
    (tmp_path / "README.md").write_text(text)
    ended = zoo(f"results {options.replace('RUN', str(run))}")
    assert ended.code == 2
    assert sentence in ended.err
    assert not (tmp_path / "r.csv").exists()
    assert (tmp_path / "README.md").read_text() == text
