"""What a W&B run is filed under, read back from the files that W&B writes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb

from zoo.errors import OptionError
from zoo.run.wandb_filing import Filing, place_of, tags_of
from zoo.run.wandb_logger import RunWandb

OWN = Filing("fit", "recipe", ("Net", "Data"))
ENVIRONMENT = {
    "WANDB_PROJECT": "mine",
    "WANDB_RUN_GROUP": "theirs",
    "WANDB_TAGS": "a, b",
    "WANDB_NOTES": "said outside",
    "WANDB_JOB_TYPE": "try",
}


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return monkeypatch


def inspected(folder: Path, *words: str) -> list[dict[str, Any]]:
    """What W&B itself reads of a run that was kept offline; of several segments the last one's."""
    *_, segment = sorted(folder.glob("wandb/offline-run-*"))
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", *words, "--json"]
    result = subprocess.run([*command, segment], capture_output=True, text=True, check=True)
    text = result.stdout
    return [json.loads(text)] if words else [json.loads(line) for line in text.splitlines()]


def filed(folder: Path) -> dict[str, Any]:
    """The record of a run that was kept offline."""
    return next(record["run"] for record in inspected(folder) if record["type"] == "run")


def test_the_runs_own_stands_where_nothing_else_is_said(clean: pytest.MonkeyPatch) -> None:
    assert OWN.settings() == {
        "project": "lightning-zoo",
        "group": "recipe",
        "job_type": "fit",
        "tags": ["Net", "Data"],
        "notes": None,
    }


def test_the_environment_wins_over_the_runs_own(clean: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        clean.setenv(name, value)
    assert OWN.settings() == {
        "project": "mine",
        "group": "theirs",
        "job_type": "try",
        "tags": ["Net", "Data", "a", "b"],
        "notes": "said outside",
    }


def test_options_win_over_the_environment(clean: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        clean.setenv(name, value)
    asked = Filing("fit", "recipe", ("Net",), group="ours", tags=("c", "Net"), notes="why")
    found = asked.settings()
    assert (found["group"], found["tags"], found["notes"]) == ("ours", ["Net", "c"], "why")


@pytest.mark.parametrize("option", ["", "a,,b", ["x" * 65], [""]])
def test_tags_that_wandb_would_refuse(option: Any) -> None:
    with pytest.raises(OptionError, match=r"^option wandb_tags is .*give words of 1 to 64 letters"):
        tags_of(option)


def test_a_run_has_one_id_wherever_that_comes_from(
    clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean.setenv("WANDB_RUN_ID", "agents-choice")
    clean.setenv("WANDB_NAME", "my name")
    clean.setenv("WANDB_ENTITY", "us")
    for given in ("agents-choice", "another"):  # the second one goes on in the folder
        clean.setenv("WANDB_RUN_ID", given)
        wandb.teardown()
        logger = RunWandb(tmp_path, "folders-id", "name", "offline", filing=OWN)
        logger.start()
        logger.finish(0)
        run = filed(tmp_path)
        assert (run["run_id"], run["display_name"]) == ("agents-choice", "my name")
        assert place_of(tmp_path) == {
            "entity": "us",
            "project": "lightning-zoo",
            "id": "agents-choice",
        }
    wandb.teardown()


def test_a_broken_note_of_the_id_is_none(tmp_path: Path) -> None:
    assert place_of(tmp_path) == {}
    for text in ("{", "[]"):
        (tmp_path / "wandb.json").write_text(text)
        assert place_of(tmp_path) == {}


def test_a_training_is_filed_under_what_it_is(zoo: Any, clean: pytest.MonkeyPatch) -> None:
    clean.setenv("WANDB_NOTES", "said outside")
    net = "--model.net MLP --wandb offline"
    assert zoo(f"fit --config r.yaml {net}").code == 0
    (first,) = Path("runs/r").iterdir()
    run = filed(first)
    assert run["tags"] == ["ImageClassifier", "MLP", "Digits", "r"]
    assert (run["run_group"], run["job_type"]) == ("r", "fit")
    assert run["notes"] == "said outside"
    config = inspected(first, "--summary")[0]["config"]
    assert set(config["source"]) == {"versions", "commit", "device", "threads"}
    assert config["source"]["versions"]["torch"]
    assert config["understood"]["data"]["splits"]["train"]["size"] == 1258
    own = "--wandb_group tries --wandb_tags=one,two --wandb_notes why"
    assert zoo(f"test --ckpt_path {first}/checkpoints/best.ckpt --wandb offline {own}").code == 0
    (second,) = Path("runs/test").iterdir()
    run = filed(second)
    assert run["tags"][-2:] == ["one", "two"]
    assert (run["run_group"], run["job_type"], run["notes"]) == ("tries", "test", "why")


def test_a_tag_is_refused_before_anything_is_built(zoo: Any) -> None:
    ended = zoo(["fit", "--config", "r.yaml", "--wandb_tags", "a,,b"])
    assert ended.code == 2
    assert "option wandb_tags is 'a,,b'; give words of 1 to 64 letters" in ended.err
    assert not Path("runs").exists()
