"""What a sweep leaves of its trials: rows, tables, a picture, and a run of its own in W&B."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from zoo.cli.config import dump_yaml, read_layer, value_of
from zoo.cli.request import find_recipe
from zoo.report.pictures import costs_a_line
from zoo.run.wandb_filing import Filing
from zoo.run.wandb_logger import RunWandb
from zoo.run.wandb_login import WandbMode
from zoo.studies.drawing import heat_map, lines, save_picture
from zoo.studies.ledger import Ledger
from zoo.studies.spec import COMMAND, Range, Spec, words_of
from zoo.studies.tables import Rows, Value, header_of, over_seeds, write_table

_STATES = {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed", TrialState.RUNNING: "running"}
PICTURE = "picture.png"


def rows_of(ledger: Ledger) -> list[dict[str, Value]]:
    """Return a row for each trial that has begun."""
    spec, rows = ledger.spec, []
    for trial in ledger.trials():
        if trial.state == TrialState.WAITING:
            continue
        row: dict[str, Value] = {label: trial.params.get(label) for label in spec.labels}
        row["seed"] = trial.params.get("seed", spec.seeds[0])
        row[spec.metric] = trial.user_attrs.get("figures", {}).get(spec.metric)
        row |= trial.user_attrs.get("figures", {})
        row |= {name: trial.user_attrs.get(name) for name in ("steps", "seconds", "run")}
        if trial.state in _STATES:
            row["state"] = _STATES[trial.state]
        if trial.state == TrialState.FAIL:
            row["error"] = trial.user_attrs.get("error")
        rows.append(row)
    return rows


def means_of(spec: Spec, rows: Rows) -> list[dict[str, Value]]:
    """Return a row for each combination of values: mean and standard deviation over seeds.

    Of a search, whose values differ in each trial, its trials with the best first.
    """
    if spec.is_search:
        return sorted((dict(row) for row in rows), key=lambda row: _place(spec, row))
    aside = ("steps", "run", "state", "error")
    runs = [{name: value for name, value in row.items() if name not in aside} for row in rows]
    summary = over_seeds(runs, spec.labels)
    for line in summary:
        own = [row for row in rows if all(row[label] == line[label] for label in spec.labels)]
        if failed := sum(row.get("state") == "failed" for row in own):
            line["failed"] = failed
    return summary


def _place(spec: Spec, row: dict[str, Value]) -> tuple[bool, float]:
    """Return where a trial of a search stands: those that were not ended early by their figure."""
    figure = row.get(spec.metric)
    if not isinstance(figure, int | float):
        return True, float("inf")
    return row.get("state") is not None, -figure if spec.content["mode"] == "max" else figure


def write(ledger: Ledger, folder: Path) -> list[dict[str, Value]]:
    """Write tables and picture, if there is a run yet; return the rows of the table."""
    spec, rows = ledger.spec, rows_of(ledger)
    if not rows:
        return []
    summary = means_of(spec, rows)
    write_table(folder, summary, trials=() if spec.is_search else rows)
    done = [row for row in rows if row.get("state") is None]
    with costs_a_line(PICTURE):
        _draw(spec, done, folder / PICTURE)
    return summary


def write_spec(spec: Spec, folder: Path) -> None:
    """Write ``study.yaml``: what was swept, under the flags, in a form that can be swept again."""
    content = {**spec.content, "base": list(spec.base)}
    kept = {name: value for name, value in content.items() if value is not None}
    text = f"{COMMAND} {words_of(spec)}".rstrip() + f"\n{dump_yaml(kept)}"
    (folder / "study.yaml").write_text(text, encoding="utf-8")


def _draw(spec: Spec, rows: Rows, path: Path) -> None:
    first, *others = spec.varied
    title, group = spec.name.replace("_", " "), None
    drawn = [dict(row) for row in rows]
    if spec.content["picture"] == "heat_map" and others:
        y = others[0].label
        save_picture(lambda: heat_map(drawn, first.label, y, spec.metric, title=title), path)
        return
    named = [each for each in others if not isinstance(each.values, Range)]
    if named:
        group = ", ".join(each.label for each in named)
        for row in drawn:
            row[group] = ", ".join(str(row[each.label]) for each in named)
    is_range = isinstance(first.values, Range)
    log = first.values.kind == "log_uniform" if isinstance(first.values, Range) else None
    save_picture(
        lambda: lines(
            drawn, first.label, spec.metric, group, title=title, log_x=log, points=is_range
        ),
        path,
    )


def log_to_wandb(ledger: Ledger, folder: Path, rows: Rows) -> None:
    """Log the finished table and the picture to a run of the study's own, in its group."""
    spec = ledger.spec
    layers = [*map(read_layer, map(find_recipe, spec.base)), spec.content["options"]]
    asked: WandbMode = value_of("wandb", layers, list(spec.flags)) or "auto"
    if asked == "off":
        return
    own = ledger.study.user_attrs.get("wandb")
    if own is None:
        own = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        ledger.study.set_user_attr("wandb", own)
    filing = Filing(job_type="study", own_group=spec.name, own_tags=(spec.name,))
    logger = RunWandb(folder, own, f"{spec.name}-summary", asked, filing=filing)
    logger.start()
    header = header_of(rows)
    logger.log_hyperparams({"study": spec.content | {"base": list(spec.base)}})
    logger.log_rows("table", header, [[row.get(name) for name in header] for row in rows], 0)
    if (folder / PICTURE).is_file():
        logger.log_image("picture", [str(folder / PICTURE)], step=0)
    logger.finish(0)


def best_of(ledger: Ledger) -> FrozenTrial | None:
    """Return the trial with the best figure; None where none has one."""
    spec = ledger.spec
    ended = [trial for trial in ledger.trials() if trial.state == TrialState.COMPLETE]
    better = max if spec.content["mode"] == "max" else min
    return better(ended, key=lambda trial: float(trial.value or 0.0)) if ended else None
