"""What the runs of each kind log, read back from the files that W&B writes."""

from typing import Any

import pytest
from PIL import Image

import zoo.tasks as tasks
from zoo.tasks.base import Task

#: The first is the quickest; the others run where there is time.
KINDS = {
    "table": tasks.Regressor,
    "vision": tasks.ImageClassifier,
    "segmentation": tasks.ImageSegmenter,
    "text": tasks.TextClassifier,
    "lm": tasks.LanguageModel,
}
every_kind = pytest.mark.parametrize(
    "kind", ["table", *(pytest.param(kind, marks=pytest.mark.slow) for kind in [*KINDS][1:])]
)
#: What is logged under names that the data's classes or the net's layers give.
OPEN = ("grad_norm/", "weight_norm/")


def declared(task: type[Task]) -> set[str]:
    logged = task.logged
    names = {"epoch", "trainer/global_step", "train/lr", "time/elapsed_s"}
    for stage in ("train", "val", "test", "time"):
        names |= {f"{stage}/{name}" for name in getattr(logged, stage)}
    names |= {f"train/{name}_epoch" for name in logged.train}
    names |= {f"pictures/{name}" for name in logged.pictures}
    names |= {f"charts/{name}_table" for name in logged.charts}
    return names | set(logged.tables)


@every_kind
def test_a_task_logs_what_it_says(kind: str, recorded: Any) -> None:
    of_classes = {"test/dice_background", "test/dice_cell", "test/iou_background", "test/iou_cell"}
    found = {key for key in recorded(kind).logged() if not key.startswith(OPEN)}
    assert found - of_classes == declared(KINDS[kind])


@every_kind
def test_layers_are_logged_at_log_points_alone(kind: str, recorded: Any) -> None:
    rows = recorded(kind).rows()
    steps = {
        start: [row["trainer/global_step"] for row in rows if any(k.startswith(start) for k in row)]
        for start in OPEN
    }
    losses = [row["trainer/global_step"] for row in rows if "train/loss" in row]
    assert steps == dict.fromkeys(OPEN, losses)
    values = [v for row in rows for k, v in row.items() if k.startswith("weight_norm/")]
    assert max(values) > 0


@every_kind
def test_pictures_are_there(kind: str, recorded: Any) -> None:
    run = recorded(kind)
    (segment,) = run.folder.glob("wandb/offline-run-*")
    found = {
        key.removesuffix(".filenames"): value
        for row in run.rows()
        for key, value in row.items()
        if key.endswith(".filenames") and key.startswith("pictures/")
    }
    assert set(found) == {f"pictures/{name}" for name in KINDS[kind].logged.pictures}
    for (name,) in found.values():
        with Image.open(segment / "files" / name) as picture:
            assert min(picture.size) > 100
            low, high = picture.convert("L").getextrema()
            assert high - low > 100  # something is drawn


@every_kind
def test_tables_have_their_rows(kind: str, recorded: Any) -> None:
    run = recorded(kind)
    for name in KINDS[kind].logged.tables:
        columns, rows = run.table(name)
        assert rows, name
        assert all(len(row) == len(columns) for row in rows), name


@every_kind
def test_artifacts_of_a_run(kind: str, recorded: Any) -> None:
    artifacts = {each["type"]: each for each in recorded(kind).of_type("artifact")}
    files = [entry["path"] for entry in artifacts["dataset"]["manifest"]["contents"]]
    assert files == ["data.json"]
    assert '"mark"' in artifacts["dataset"]["metadata"]
    if kind != "lm":  # which predicts no samples
        files = [entry["path"] for entry in artifacts["predictions"]["manifest"]["contents"]]
        assert files == ["predictions.csv", "predictions.table.json"]
    assert "model" not in artifacts  # unless --wandb_checkpoint asks for it


def test_the_most_wrong_numbers_come_first(recorded: Any) -> None:
    columns, rows = recorded("table").table("wrong_numbers")
    assert columns[2:] == ["prediction", "error"]
    errors = [error for *_, error in rows]
    assert errors == sorted(errors, reverse=True)
    assert all(abs(abs(guess - truth) - error) < 1e-6 for _, truth, guess, error in rows)


@pytest.mark.slow
def test_figures_of_classes_are_those_of_the_confusion(recorded: Any) -> None:
    run = recorded("vision")
    _, cells = run.table("charts/confusion_table")
    _, classes = run.table("classes")
    for name, samples, precision, recall, _, _ in classes:
        row = [count for true, _, count in cells if true == name]
        column = [count for _, guess, count in cells if guess == name]
        hits = next(count for true, guess, count in cells if true == guess == name)
        assert samples == sum(row)
        assert recall == pytest.approx(hits / sum(row))
        assert precision == (pytest.approx(hits / sum(column)) if sum(column) else None)
    _, points = run.table("charts/roc_table")
    for name in {name for name, _, _ in points}:
        curve = [(x, y) for each, x, y in points if each == name]
        assert (curve[0], curve[-1]) == ((0.0, 0.0), (1.0, 1.0))
        assert curve == sorted(curve)


@pytest.mark.slow
def test_masks_lie_over_the_worst_images(recorded: Any) -> None:
    columns, rows = recorded("segmentation").table("wrong_masks")
    assert columns == ["image", "name", "dice"]
    assert set(rows[0][0]["masks"]) == {"truth", "prediction"}
    known = [dice for *_, dice in rows if dice is not None]
    assert known == sorted(known)


@pytest.mark.slow
def test_samples_of_all_times_stand_in_one_table(recorded: Any) -> None:
    columns, rows = recorded("lm").table("samples")
    assert columns == ["step", "prompt", "text"]
    steps = [step for step, _, _ in rows]
    assert steps == sorted(steps)
    assert len(set(steps)) == 2  # two validations; the test's best epoch is one of them
