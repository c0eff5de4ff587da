"""A run's folder: made for one run, and gone where nothing began in it."""

import json
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.report.summary import write_report
from zoo.run.folder import new_run


def test_a_folder_in_which_nothing_began_is_gone_with_those_around_it(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "runs", "mine")
    folder.path.mkdir(parents=True)
    (folder.path / "mlflow.db").touch()  # MLflow makes it before the folder is opened
    folder.open()
    folder.write_recipe("a: 1")
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_before_the_folder_is_opened_leaves_nothing(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "runs", "mine")
    folder.path.mkdir(parents=True)
    (folder.path / "mlflow.db").touch()
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_has_written_stays(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "runs", "mine")
    folder.open()
    (folder.path / "metrics.csv").touch()
    folder.discard()
    assert (folder.path / "metrics.csv").is_file()


def test_a_folder_of_another_run_is_not_taken(tmp_path: Path) -> None:
    folder = new_run(tmp_path, "mine")
    folder.path.mkdir(parents=True)
    (folder.path / "recipe.yaml").write_text("a: 1")
    with pytest.raises(UserError, match=r"cannot be written .File exists"):
        folder.open()


def test_the_commit_is_that_of_the_run_s_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.run.folder._commit", lambda: "before")
    folder = new_run(tmp_path, "mlp")
    folder.open()
    monkeypatch.setattr("zoo.run.folder._commit", lambda: "after")
    write_report(folder, {"test": {}, "seconds": 1, "checkpoint": ""}, None, 0)
    folder.close()
    assert json.loads((folder.path / "summary.json").read_text())["commit"] == "before"
