"""``zoo compare``: runs beside each other."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from zoo.catalog.options import choices_of
from zoo.studies.compare_beside import LESS_IS_BETTER, beside
from zoo.studies.compare_forms import plain_text
from zoo.studies.compare_picture import draw_curves
from zoo.studies.compare_runs import flattened, read_run

MLP = {"class_path": "zoo.MLP", "init_args": {"widths": [8], "norm": "batch", "dropout": 0.0}}
CLASSIFIER = {"class_path": "zoo.ImageClassifier", "init_args": {"net": MLP, "lr": 0.1}}
DIGITS = {"class_path": "datamodules.Digits", "init_args": {"batch_size": 64}}
REGRESSOR = {"class_path": "zoo.Regressor", "init_args": {"net": MLP, "lr": 0.1}}


def recipe(model: dict[str, Any] = CLASSIFIER, **options: Any) -> dict[str, Any]:
    """A recipe whose task has some options besides."""
    model = {**model, "init_args": {**model["init_args"], **options}}
    return {"seed_everything": 0, "model": model, "data": DIGITS}


def net(**options: Any) -> dict[str, Any]:
    return {**MLP, "init_args": {**MLP["init_args"], **options}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the folder of a run, as ``fit`` leaves it."""
    monkeypatch.chdir(tmp_path)
    made: list[Path] = []

    def make(
        acc: float | None = 0.5,
        content: dict[str, Any] | None = None,
        folder: str = "runs/mlp",
        by: str = "acc",
        **summary: Any,
    ) -> Path:
        number = len(made)
        path = Path(folder, f"20261127-10150{number}-0a1b2c")
        path.mkdir(parents=True)
        made.append(path)
        (path / "recipe.yaml").write_text(yaml.safe_dump(content or recipe()))
        epochs = (0.25, 0.375, 0.5)
        lines = ["epoch,step,train/loss,val/loss,val/acc,train/loss_epoch,time/elapsed_s"]
        for epoch, value in enumerate(epochs):
            lines.append(f"{epoch},{4 * epoch + 2},{2 - value},,,,{epoch}")
            lines.append(f"{epoch},{4 * epoch + 4},,{1 - value},{value},{1.5 - value},{epoch + 1}")
        (path / "metrics.csv").write_text("\n".join(lines) + "\n")
        if acc is not None:
            about = {
                "test": {"loss": 1 - acc, by: acc - 0.125},
                "intervals": {"figures": {by: {"low": acc - 0.25, "high": acc}}},
                f"val/{by}": acc,
                "chosen": {"by": f"val/{by}", "value": acc, "epoch": 2, "step": 8},
                "fit_seconds": 10.5 + number,
                "parameters": 1000 * (number + 1),
                "device": "CPU",
            }
            (path / "summary.json").write_text(json.dumps(about | summary))
        return path

    return make


def table(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(out.splitlines()))


def test_only_what_differs_is_shown(run, zoo) -> None:
    run(0.5, recipe(net=net(norm="layer")))
    run(0.75, recipe(net=net(norm="group", widths=[8, 4]), lr=0.2))
    rows = table(zoo("compare runs --to csv").out)
    assert [row["model.net.norm"] for row in rows] == ["group", "layer"]  # the best first
    assert [row["model.net.widths"] for row in rows] == ["[8, 4]", "[8]"]
    assert [row["model.lr"] for row in rows] == ["0.2", "0.1"]
    assert not {"data.batch_size", "model", "model.net", "seed_everything"} & rows[0].keys()


def test_lists_and_nets_in_nets_are_flattened() -> None:
    inner = {"class_path": "zoo.MLP", "init_args": {"widths": [1, 2]}}
    callbacks = [{"class_path": "a.B", "init_args": {"patience": 3}}, {"class_path": "a.C"}]
    content = {
        "model": {"class_path": "zoo.X", "init_args": {"net": {"init_args": {"body": inner}}}},
        "trainer": {"callbacks": callbacks, "devices": [0], "plugins": []},
    }
    options, classes = flattened(content)
    assert options == {
        "model": "zoo.X",
        "model.net.body": "MLP",
        "model.net.body.widths": [1, 2],
        "trainer.callbacks[0]": "a.B",
        "trainer.callbacks[0].patience": 3,
        "trainer.callbacks[1]": "a.C",
        "trainer.devices": [0],
        "trainer.plugins": [],
    }
    assert classes["model.net.body"] == "zoo.MLP"


def test_options_of_one_class_alone_show_where_they_are_set(run, zoo) -> None:
    run(0.5, recipe(lr=0.1, label_smoothing=0.25, focal_gamma=2.0))
    run(0.5, recipe(REGRESSOR), by="r2")
    shown = table(zoo("compare runs --to csv").out)[0]
    assert shown["model"] == "ImageClassifier"
    assert shown["model.label_smoothing"] == "0.25"
    assert "model.focal_gamma" not in shown  # at its default: the class says it already


def test_a_table_has_figures_with_intervals_time_and_parameters(run, zoo) -> None:
    run(0.5)
    run(0.75, recipe(lr=0.2))
    ended = zoo("compare runs")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "2 runs by val/acc, the highest first:"
    assert lines[1].split() == ["1", "runs/mlp/20261127-101501-0a1b2c", "finished"]
    facts = {line.split("  ")[0]: line.split("  ", 1)[1].split("  ") for line in lines[5:]}
    told = {name: [part.strip() for part in parts if part] for name, parts in facts.items()}
    assert told == {
        "model.lr": ["0.2", "0.1"],
        "val/acc": ["0.75 (epoch 2)", "0.5 (epoch 2)"],
        "test/loss": ["0.25", "0.5"],
        "test/acc": ["0.625 [0.5, 0.75]", "0.375 [0.25, 0.5]"],
        "time": ["11.5 s", "10.5 s"],
        "parameters": ["2,000", "1,000"],
    }
    (first, second) = table(zoo("compare runs --to csv").out)
    assert first["test/acc_low"] == "0.5"
    assert (second["chosen_epoch"], second["seconds"]) == ("2", "10.5")


@pytest.mark.parametrize(
    ("sort", "headline", "order"),
    [
        ("", "by val/acc, the highest first", [1, 2, 0]),
        ("--sort acc", "by val/acc, the highest first", [1, 2, 0]),
        ("--sort test/acc", "by test/acc, the highest first", [1, 2, 0]),
        ("--sort loss", "by val/loss, the lowest first", [0, 1, 2]),  # alike: as they were named
        ("--sort test/loss", "by test/loss, the lowest first", [1, 2, 0]),
        ("--sort time", "by time, the lowest first", [0, 1, 2]),
        ("--sort parameters", "by parameters, the lowest first", [0, 1, 2]),
    ],
)
def test_the_direction_is_the_figures(sort, headline, order, run, zoo) -> None:
    folders = [str(run(acc)) for acc in (0.25, 0.75, 0.5)]
    assert headline in zoo(f"compare runs {sort}").out.splitlines()[0]
    found = [row["run"] for row in table(zoo(f"compare runs --to csv {sort}").out)]
    assert found == [folders[number] for number in order]


def test_a_recipe_that_says_which_way_is_better_is_followed(run, zoo) -> None:
    content = recipe() | {"checkpoint": {"monitor": "train/odd", "mode": "min"}}
    for value in (0.5, 0.25):
        run(value, content, chosen={"by": "train/odd", "value": value, "epoch": 2, "step": 8})
    out = zoo("compare runs").out
    assert "by train/odd, the lowest first" in out
    assert "train/odd   0.25 (epoch 2)" in out


def test_every_known_figure_has_its_direction() -> None:
    more = {"acc", "balanced_acc", "f1", "top5", "auroc", "dice", "dice_of_images", "iou", "r2"}
    more |= {"pearson", "reward_accuracy", "reward_margin"}
    neither = {"temperature"}
    figures = set(choices_of("zoo.metrics.names", "FigureName"))
    assert figures == (LESS_IS_BETTER - {"time", "parameters"}) | more | neither


def test_an_unfinished_run_is_listed_with_its_last_figures(run, zoo) -> None:
    run(0.25)
    unfinished = run(None, recipe(lr=0.2))
    os.utime(unfinished / "metrics.csv", (0, 3600))
    out = zoo("compare runs").out
    state = "unfinished: epoch 3, step 12, train/loss 1.5, val/acc 0.5"
    assert f"1  {unfinished}  {state}, written last 1970-01-01 01:00 UTC" in out
    assert "0.5 (last)" in out
    first = table(zoo("compare runs --to csv").out)[0]
    assert (first["val/acc"], first["test/acc"], first["parameters"]) == ("0.5", "", "")
    assert first["seconds"] == "3.0"


def test_a_line_that_was_cut_short_is_left_out(run, zoo) -> None:
    path = run(None) / "metrics.csv"
    text = path.read_text()
    path.write_text(text + "3,16,0.1,0.1,0.9")
    assert "step 12, train/loss 1.5, val/acc 0.5" in zoo("compare runs").out
    path.write_text(text.replace("0.375,", "x.375,"))
    assert "step 12, train/loss 1.5, val/acc 0.5" in zoo("compare runs").out


def test_a_run_that_has_only_begun_does_not_stop_the_others(run, zoo) -> None:
    run(0.5)
    begun = run(None)
    (begun / "metrics.csv").unlink()
    ended = zoo(["compare", "runs/mlp/*"])
    assert ended.code == 0
    assert "unfinished, nothing logged yet" in ended.out
    assert "note: the runs have no figure in common" in ended.out
    assert "note: 1 without val/acc stands last" in ended.out


def test_runs_chosen_by_different_figures_stand_side_by_side(run, zoo) -> None:
    first = run(0.5)
    second = run(0.75, recipe(REGRESSOR), "elsewhere/regression", by="r2")
    ended = zoo(f"compare {first} {second}")
    assert ended.code == 0
    assert ended.out.startswith("2 runs, in the order in which they were named:\n1  runs/mlp")
    assert "chosen by different figures (val/acc, val/r2); --sort NAME sorts them" in ended.out
    assert "1 without val/r2 stands last" in zoo(f"compare {first} {second} --sort r2").out


def test_folders_patterns_and_the_newest_are_found_once(run, zoo, tmp_path) -> None:
    names = [str(run(0.5, folder=f"runs/{place}")) for place in ("mlp", "mlp", "resnet", "test")]

    def found(command: str) -> list[str]:
        out = zoo(["compare", *command.split(), "--to", "csv"]).out
        return sorted(row["run"] for row in table(out))

    assert found("runs") == names[:3]  # not the tests of a checkpoint
    assert found("runs/mlp") == names[:2]
    assert found(f"{names[3]} runs/test/*") == names[3:]
    assert found(f"runs/m* {names[0]} {tmp_path / names[0]}") == names[:2]
    assert found("--last 2") == names[1:3]
    Path("runs/mlp/picture.png").touch()
    assert found(f"runs/mlp/picture.png {names[0]} {names[1]}") == names[:2]
    assert found("runs/mlp --last 1") == [names[1]]


def test_machines_and_samples_are_told_where_they_differ(run, zoo) -> None:
    run(0.5, device="CPU", data_mark="aa", versions={"torch": "2.15.0", "python": "3.11"})
    run(0.25, device="H100", data_mark="aa", versions={"torch": "2.14.0", "python": "3.11"})
    first = table(zoo("compare runs --to csv").out)[0]
    assert (first["device"], first["torch"]) == ("CPU", "2.15.0")
    assert not {"data_mark", "python"} & first.keys()


def test_where_a_run_lies_is_no_difference(run, zoo) -> None:
    run(0.5, recipe() | {"trainer": {"default_root_dir": "runs"}, "wandb": "auto"})
    run(0.25, recipe() | {"trainer": {"default_root_dir": "/elsewhere"}, "wandb": "off"})
    assert not [name for name in table(zoo("compare runs --to csv").out)[0] if "." in name]


def test_many_runs_go_down_and_few_go_across(run) -> None:
    runs = [read_run(run(0.5, recipe(lr=0.1 * n))) for n in range(1, 10)]
    lines = plain_text(beside(runs), width=500).splitlines()
    assert [line.split()[0] for line in lines[-9:]] == [str(n) for n in range(1, 10)]
    few = plain_text(beside(runs[:2]), width=500).splitlines()
    assert few[-1].split() == ["parameters", "1,000", "2,000"]


def test_a_table_that_is_too_wide_comes_in_blocks(run) -> None:
    runs = [read_run(run(0.5, recipe(lr=0.1 * n))) for n in range(1, 4)]
    text = plain_text(beside(runs), width=60)
    assert text.count("parameters ") == 2
    assert max(map(len, text.split("\n\n")[1].splitlines())) <= 60


def test_markdown_is_a_table_that_shows_the_picture(run, zoo) -> None:
    run(0.5, recipe(optimizer="a|b"))
    run(0.75)
    out = zoo("compare runs --to md --picture curves.png").out
    assert "| model.optimizer | | a\\|b |" in out
    assert "![curves](curves.png)" in out
    assert Path("curves.png").is_file()
    Path("a").mkdir()
    written = zoo("compare runs --to a/report.md --picture curves.png").out
    assert written == f"comparison in {Path('a/report.md')} and curves.png\n"
    assert "![curves](../curves.png)" in Path("a/report.md").read_text(encoding="utf-8")


def test_a_page_holds_its_picture_and_the_users_texts_as_they_are(run, zoo) -> None:
    run(0.5, recipe(optimizer="<script>alert(1)</script>"))
    run(0.75, folder="runs/a&b")
    ended = zoo("compare runs --to html")
    assert ended.out == "comparison in compare.html\n"
    page = Path("compare.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "runs/a&amp;b" in page
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page


@pytest.mark.usefixtures("drawing")
def test_the_picture_is_drawn_in_the_users_letters(run, zoo) -> None:
    run(0.5, recipe(optimizer="$x_1$"))
    run(None, recipe(optimizer="y"))
    assert zoo("compare runs --picture curves.png --x epoch").code == 0
    with Image.open("curves.png") as image:
        assert image.width > 1000


@pytest.mark.parametrize(
    ("x", "places"), [("step", (4, 8, 12)), ("epoch", (1, 2, 3)), ("time", (1, 2, 3))]
)
def test_curves_of_all_runs_share_a_panel(x, places, run) -> None:
    compared = beside([read_run(run(0.5)), read_run(run(None, recipe(lr=0.2)))])
    figure = draw_curves(compared, x)
    assert [axes.get_title() for axes in figure.axes] == ["val/acc", "val/loss", "train/loss"]
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
    assert [tuple(line.get_xdata()) for line in curves] == [places, places]
    assert [tuple(line.get_ydata()) for line in curves] == [(0.25, 0.375, 0.5)] * 2
    chosen = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert [tuple(line.get_xdata()) for line in chosen] == [places[1:2]]  # of the finished one
    assert labels_of(figure) == ["1 lr=0.1", "2 lr=0.2"]


def labels_of(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_runs_of_different_recipes_are_called_by_them(run) -> None:
    paths = [run(0.75), run(0.5, recipe(lr=0.2), "runs/resnet")]
    figure = draw_curves(beside([read_run(path) for path in paths]))
    assert labels_of(figure) == ["1 mlp lr=0.1", "2 resnet lr=0.2"]


def test_of_very_many_runs_the_best_are_named(run) -> None:
    path = run(0.5)
    figure = draw_curves(beside([read_run(path)] * 40))
    assert len(figure.axes[0].lines) == 40 * 2 + 1  # and what stands for the others' names
    assert labels_of(figure)[-2:] == ["30", "and 10 more"]


def test_training_losses_of_runs_too_short_for_log_points_are_those_of_epochs(run) -> None:
    path = run(0.5)
    text = (path / "metrics.csv").read_text().splitlines()
    (path / "metrics.csv").write_text("\n".join([text[0], *text[2::2]]) + "\n")
    figure = draw_curves(beside([read_run(path)]))
    assert tuple(figure.axes[-1].lines[0].get_ydata()) == (1.25, 1.125, 1.0)


def test_json_has_all_in_one_document(run, zoo) -> None:
    run(0.5, recipe(lr=0.2))
    run(0.75, test={"acc": float("nan")})
    document = json.loads(zoo("compare runs --json").out)
    assert document["sorted_by"] == "val/acc"
    assert document["options"] == ["model.lr"]
    first, second = document["runs"]
    assert first["options"] == {"model.lr": 0.1}
    assert first["test"]["acc"]["value"] is None
    assert second["test"]["acc"] == {"value": 0.375, "low": 0.25, "high": 0.5}
    assert second["validation"] == {"val/acc": 0.5, "val/loss": 0.625}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("", "compare needs folders of runs, or --last N for the newest in runs; see `zoo compare"),
        ("nowhere", "there is no folder 'nowhere'; name folders that `zoo fit` has left"),
        ("none*", "'none*' matches nothing; give a pattern of folders of runs"),
        ("*.txt", "'*.txt' matches no run; give a pattern of folders of runs"),
        ("notes.txt", "'notes.txt' is a file; name a folder instead: a run's"),
        ("RUN/summary.json", "summary.json' is a file; name a folder instead: its run's, 'runs/"),
        ("empty", "'empty' holds no run, as it has no recipe.yaml; name folders that"),
        ("begun", "the run 'begun' has no metrics yet, neither metrics.csv nor summary.json"),
        ("broken", "'broken/summary.json' cannot be read as JSON"),
        ("RUN --sort ac", "option sort is 'ac'; did you mean 'acc'?"),
        ("RUN --sort qqq", "option sort is 'qqq'; there are 'val/"),
        ("RUN --last 0", "option last is '0'; give how many of the newest runs, 1 or more"),
        ("RUN --last few", "option last is 'few'; give how many of the newest runs, 1 or more"),
        ("RUN --to pdf", "option to is 'pdf'; give md, csv or html, or a file whose name ends so"),
        ("RUN --to md --json", "option to is 'md'; give a file beside --json, such as compare.md"),
        ("RUN --to no/where.csv", "'no/where.csv' cannot be written: No such file or directory"),
        ("RUN --picture no/a.png", "'no/a.png' cannot be written: No such file or directory"),
        ("RUN --picture a.txt", "option picture is 'a.txt'; give a file whose name ends in .png"),
        ("RUN --x day", "option x is 'day'; give one of step, epoch, time"),
        ("RUN --fast", "option --fast is not known; see `zoo compare --help`"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, sentence, run, refused) -> None:
    path = run(0.5)
    Path("notes.txt").write_text("x")
    Path("empty").mkdir()
    for name in ("begun", "broken"):
        Path(name).mkdir()
        (Path(name) / "recipe.yaml").write_text(yaml.safe_dump(recipe()))
    Path("broken/summary.json").write_text('{"test": ')
    refused(["compare", *options.replace("RUN", str(path)).split()], sentence)


@pytest.mark.parametrize(
    "odd",
    [
        {"chosen": "best"},
        {"chosen": {"by": "val/acc", "value": "good"}},
        {"chosen": {"by": 3}},
        {"test": [0.5]},
        {"test": {"acc": "good"}},
        {"intervals": {"figures": {"acc": 3}}},
        {"validate": {"acc": [0.5]}},
        {"versions": 3},
        {"parameters": "many"},
        {"fit_seconds": "long"},
    ],
)
def test_a_summary_that_is_another_programs_is_refused(odd, run, refused) -> None:
    refused(["compare", str(run(0.5, **odd))], "summary.json' is no summary of a run")


def test_a_figure_that_is_no_number_stands_last(run, zoo) -> None:
    run(0.5, validate={"acc": None}, chosen=None)
    run(0.25)
    ended = zoo("compare --last 2 --sort acc")
    assert "1 without val/acc stands last" in ended.out
    assert [row["val/acc"] for row in table(zoo("compare runs --sort acc --to csv").out)] == [
        "0.25",
        "nan",
    ]


def test_no_torch_is_imported_without_a_picture(run) -> None:
    run(0.5)
    code = (
        "import sys; from zoo.__main__ import main; code = main(['compare', 'runs']); "
        "sys.exit(code or 'torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_a_run_of_fit_can_be_compared(checkpoint, zoo) -> None:
    ended = zoo(f"compare {checkpoint.parent.parent} --to csv")
    (row,) = table(ended.out)
    assert row["state"] == "finished"
    assert 0 <= float(row["val/acc"]) <= 1
    assert float(row["test/acc_low"]) <= float(row["test/acc"]) <= float(row["test/acc_high"])
    assert float(row["seconds"]) > 0
    assert int(row["parameters"]) > 0


def test_what_cannot_be_sorted_by_is_told_with_whole_names_alone(run, refused) -> None:
    run()
    assert "''" not in refused("compare runs --sort unheard_of", "val/acc")
