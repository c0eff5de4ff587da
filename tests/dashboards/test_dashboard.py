"""``zoo dashboard``: what its specification shows is logged, and what reaches the server."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from zoo.run.wandb_filing import write_place

pytest.importorskip("wandb_workspaces")

ONE_KIND = ["table"]
every_kind = pytest.mark.parametrize(
    "kind",
    [
        *ONE_KIND,
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("vision", "segmentation", "text", "lm")
        ),
    ],
)


def panels(specification: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    sections = specification["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


def shown(panel: dict[str, Any]) -> Iterator[str]:
    """What a panel shows: names of figures, pictures and tables, and patterns of names."""
    config = panel["config"]
    yield from config.get("metrics", [])
    yield from config.get("mediaKeys", [])
    if "metricRegex" in config:
        yield config["metricRegex"]
    text = json.dumps(config)
    if panel["viewType"] == "Vega2":
        yield from re.findall(r'"name": "tableKey", [^}]*"value": "([^"]+)"', text)
    if panel["viewType"] == "Weave":
        yield from re.findall(r'"type": "string", "val": "(\w+)"', text)


def place_run(recipe: str, task: str, project: str = "lightning-zoo") -> Path:
    """Leave what a run of a recipe leaves, as far as a dashboard looks at it."""
    run = Path("runs", recipe, "20261127-101500-0a1b2c")
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(f"model: {{class_path: zoo.{task}}}\n")
    write_place(run, None, project, run.name)
    return run


@every_kind
def test_all_that_is_shown_is_logged_by_a_run(
    kind: str, recorded: Any, zoo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded(kind)
    monkeypatch.chdir(run.folder.parents[2])
    target = run.folder / "view.json"
    assert zoo(["dashboard", "--kind", kind, "--to", str(target)]).code == 0
    content = json.loads(target.read_text())
    logged = run.logged()
    for section, each in panels(content["specification"]).items():
        for panel in each:
            names = [*shown(panel)]
            assert names, (section, panel)
            for name in names:
                known = any(re.fullmatch(name, key) for key in logged)
                assert known or name in logged, (section, name)
    axes = {
        panel["config"]["xAxis"]
        for each in panels(content["specification"]).values()
        for panel in each
        if panel["viewType"] == "Run History Line Plot"
    }
    assert axes == {"trainer/global_step"}


@pytest.mark.parametrize("kind", ["vision", "text", "lm"])
def test_sections_of_a_kind(kind: str, zoo: Any) -> None:
    place_run(
        "r", {"vision": "ImageClassifier", "text": "TextClassifier"}.get(kind, "LanguageModel")
    )
    assert zoo(f"dashboard --kind {kind} --to view.json").code == 0
    found = panels(json.loads(Path("view.json").read_text())["specification"])
    own = {
        "vision": ("acc", "calibration", "charts"),
        "text": ("acc", "calibration", "charts"),
        "lm": ("tables",),
    }
    assert {"loss", "speed", "pictures", "tables", "layers", *own[kind]} <= set(found)
    tables = [name for panel in found["tables"] for name in shown(panel)]
    assert {"vision": "wrong_predictions", "text": "wrong_texts", "lm": "samples"}[kind] in tables


def test_runs_are_grouped_and_filtered(zoo: Any, logged_out: Any) -> None:
    place_run("mlp", "Regressor")
    assert zoo("dashboard --kind table --recipe mlp --seed 3 --to view.json").code == 0
    content = json.loads(Path("view.json").read_text())
    assert content["name"] == "zoo table, mlp, seed 3"
    (runs,) = content["specification"]["section"]["runSets"]
    assert [each["name"] for each in runs["grouping"]] == ["group"]
    filters = {
        (each["key"]["name"], json.dumps(each["value"])) for each in runs["filters"]["filters"]
    }
    assert filters == {
        ("tags", '["Regressor"]'),
        ("tags", '["mlp"]'),
        ("jobType", '["fit", "sweep-trial"]'),
        ("seed_everything", "3"),
    }


def test_without_a_login_it_says_how_to_send_it(zoo: Any, logged_out: Any) -> None:
    place_run("regression", "Regressor", "mine")
    ended = zoo("dashboard --kind table --project mine")
    assert ended.code == 0
    assert json.loads(Path("dashboard-table.json").read_text())["project"] == "mine"
    assert "written to dashboard-table.json\n" in ended.out
    assert (
        "W&B: not sent (not logged in); `wandb login`, then "
        "`zoo dashboard --kind table --project mine` sends it"
    ) in ended.out


def test_a_second_call_writes_the_same_view(zoo: Any, server: Any) -> None:
    first = zoo("dashboard --kind vision")
    assert first.code == 0
    assert re.fullmatch(rf"W&B: {server.url}/me/lightning-zoo\?nw=\w+\n", first.out)
    assert zoo("dashboard --kind vision").out == first.out
    assert zoo("dashboard --kind vision --recipe resnet").out != first.out
    views = {view["displayName"]: view for view in server.views.values()}
    assert set(views) == {"zoo vision", "zoo vision, resnet"}
    assert len(server.views) == 2
    view = views["zoo vision"]
    assert (view["type"], view["entityName"]) == ("project-view", "me")
    assert "acc" in panels(json.loads(view["spec"]))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "W&B refuses the login (401)"),
        (403, "option --entity is 'me'; give one that this account may write to (403)"),
    ],
)
def test_a_server_that_refuses(zoo: Any, server: Any, status: int, words: str) -> None:
    server.refused = {"upsertView": status}
    ended = zoo("dashboard --kind vision")
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert server.views == {}


def test_a_key_that_the_server_does_not_know(zoo: Any, server: Any) -> None:
    server.refused = {"viewer": 401}
    ended = zoo("dashboard --kind vision")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "refuses the login (401)" in ended.err


BAD = {
    "": "option --kind is missing; give one of vision, segmentation, text, lm, table, study",
    "--kind pictures": "option --kind is 'pictures'; give one of vision, segmentation, text",
    "--kind vision --project a/b": "option --project is 'a/b'; give 1 to 128 letters without",
    "--kind vision --seed x": "option --seed is 'x'; give a whole number",
    "--kind vision": "no vision run is in the folder runs, of the project lightning-zoo; `zoo fit",
    "--kind table --recipe other": "no table run of the recipe 'other' is in the folder runs",
    "--kind table --project other": "no table run is in the folder runs, of the project other",
    "--kind study": "a study's report needs its folder: zoo dashboard runs/NAME",
    "runs/nothing": "there is no folder 'runs/nothing'; give one that `zoo sweep` left",
    "runs/mlp": "'runs/mlp' is no folder of a sweep that has come to its end: it lacks study.yaml",
    "runs/mlp --seed 3": "option --seed is '3'; leave it out: a study has its own",
    "runs/mlp --kind table": "option --kind is 'table'; give study, or leave out 'runs/mlp'",
    "--kind table --to no/view.json": "option --to is 'no/view.json'; it cannot be written",
}


@pytest.mark.parametrize("options", BAD)
def test_bad_input(options: str, zoo: Any, logged_out: Any) -> None:
    place_run("mlp", "Regressor")
    ended = zoo(["dashboard", *options.split()])
    assert ended.code == 2
    assert ended.err.startswith(f"zoo: {BAD[options]}"), ended.err
    assert ended.err.count("\n") == 1


def test_a_project_or_kind_that_the_server_does_not_have(zoo: Any, server: Any) -> None:
    ended = zoo("dashboard --kind text")
    assert ended.code == 2
    assert ended.err == (
        "zoo: no text run is in the project me/lightning-zoo; `zoo fit gru` makes one\n"
    )
    ended = zoo("dashboard --kind vision --project other")
    assert ended.code == 2
    assert ended.err.startswith("zoo: option --project is 'me/other'; give a project that has runs")


def test_the_library_is_not_installed(zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "wandb_workspaces" else find(name, *rest),
    )
    ended = zoo("dashboard --kind vision")
    assert ended.code == 2
    assert ended.err == (
        "zoo: dashboards need wandb-workspaces: pip install 'lightning-zoo[dashboards]'\n"
    )


SWEEP = """\
base: r.yaml
options: {wandb: offline, model.net: MLP}
vary: {model.lr: [0.001, 0.1]}
seeds: [0]
metric: val/acc
mode: max
"""


@pytest.mark.slow
def test_the_report_of_a_sweep(zoo: Any, server: Any, logged_out: pytest.MonkeyPatch) -> None:
    Path("tries.yaml").write_text(SWEEP)
    logged_out.setenv("WANDB_MODE", "offline")
    assert zoo("sweep tries").code == 0
    ended = zoo("dashboard runs/tries")  # the sweep's runs were kept offline, and so is this
    assert "not sent (as WANDB_MODE or `wandb offline` say)" in ended.out
    logged_out.delenv("WANDB_MODE")
    wandb.teardown()  # which has read the environment
    for _ in range(2):
        assert zoo("dashboard runs/tries").code == 0
    (report,) = server.views.values()
    assert (report["type"], report["displayName"]) == ("runs", "zoo study: tries")
    spec = report["spec"]
    for words in ("How does val/acc depend on lr?", "| lr", "base:", "model.lr", "picture"):
        assert words in spec, words
    for run in Path("runs/tries").glob("lr=*"):
        own = json.loads((run / "wandb.json").read_text())["id"]
        assert f"{server.url}/me/lightning-zoo/runs/{own}" in spec
    curves = [name for block in blocks(json.loads(spec)) for name in block]
    assert curves == ["val/acc", "train/loss"]


def blocks(spec: dict[str, Any]) -> Iterator[list[str]]:
    """What each grid of panels draws as curves."""
    for block in spec["blocks"]:
        for panel in block.get("metadata", {}).get("panelBankSectionConfig", {}).get("panels", []):
            if panel["viewType"] == "Run History Line Plot":
                yield panel["config"]["metrics"]
