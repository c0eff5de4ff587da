"""``predictions.csv``: of inputs of one's own, some of them broken, and of a test's samples."""

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.inputs import ImageInputs
from datamodules.segmentation.inputs import MaskInputs
from zoo.errors import UserError
from zoo.metrics.intervals import Interval, Intervals
from zoo.report.predictions import write_outcomes, write_predictions
from zoo.report.summary import write_report
from zoo.run.folder import RunFolder


def draw(folder: Path, count: int, *, broken: tuple[int, ...] = ()) -> None:
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number}.png"
        if number in broken:
            path.write_bytes(b"no image")
        else:
            Image.fromarray(np.full((9, 8), 20 * number, dtype=np.uint8)).save(path)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predict_goes_on_past_broken_files(
    zoo: Callable[[str], Any], tmp_path: Path, checkpoint: Path
) -> None:
    draw(tmp_path / "images", 6, broken=(1, 4))
    inputs = "images nowhere.png images/1.png images/../images/2.png"
    ended = zoo(f"predict --ckpt_path {checkpoint} --inputs {inputs} --trainer.accelerator cpu")
    assert ended.code == 1
    (run,) = Path("runs/predict").iterdir()
    found = rows(run)
    assert [Path(row["input"]).name for row in found] == ["0.png", "2.png", "3.png", "5.png"]
    assert {"input", "prediction", "probability", "p(0)"} <= found[0].keys()
    first, *named = ended.err.splitlines()
    assert first == "zoo: 3 of 7 inputs cannot be read and are left out:"
    assert ["1.png" in named[0], "4.png" in named[1], len(named)] == [True, True, 3]
    assert named[2].startswith("  'nowhere.png' cannot be read as an image (")


def test_a_broken_file_changes_no_other_image(tmp_path: Path) -> None:
    draw(tmp_path / "images", 3, broken=(1,))
    inputs = [str(tmp_path / "images")]
    images = ImageInputs(inputs, ["a", "b"], 8, 1, [0.5], [0.5])
    (batch,) = images.predict_dataloader()
    assert batch.image[:, 0, 0, 0].tolist() == [0, 0, 40]
    assert list(images.broken) == [1]
    assert "1.png" in images.broken[1]
    whole = MaskInputs(inputs, ["a", "b"], 8, 1, [0.5], [0.5])
    assert [batch.image.shape[2:] for batch in whole.predict_dataloader()][::2] == [(9, 8)] * 2
    assert list(whole.broken) == [1]


def test_where_no_input_can_be_read_nothing_is_written(tmp_path: Path) -> None:
    data = SimpleNamespace(class_names=["a", "b"], broken={0: "'x.png' is no image; mend it"})
    batches = [{"probabilities": torch.ones(1, 2), "index": torch.tensor([0])}]
    with pytest.raises(UserError, match=r"no input can be read; 'x.png' is no image"):
        write_predictions(RunFolder(tmp_path), batches, data)
    assert not (tmp_path / "predictions.csv").exists()


def test_outcomes_of_classes(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(10)]
    data = SimpleNamespace(class_names=["cat", "dog"], names=names)
    artifacts = {
        "classes": {
            "index": torch.tensor([3, 7]),
            "label": torch.tensor([0, 1]),
            "probabilities": torch.tensor([[0.25, 0.75], [0.125, 0.875]]),
        }
    }
    write_outcomes(RunFolder(tmp_path), artifacts, data)
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "input,truth,prediction,probability,p(cat),p(dog)",
        "3.png,cat,dog,0.750000,0.250000,0.750000",
        "7.png,dog,dog,0.875000,0.125000,0.875000",
    ]
    data.texts = lambda numbers: [f"text {number} " + "x " * 99 for number in numbers]
    write_outcomes(RunFolder(tmp_path), artifacts, data)
    assert [row["text"][:7] for row in rows(tmp_path)] == ["text 3 ", "text 7 "]
    assert max(len(row["text"]) for row in rows(tmp_path)) <= 60


def test_outcomes_of_several_labels(tmp_path: Path) -> None:
    of_samples = {
        "index": torch.tensor([0, 1]),
        "label": torch.tensor([[1, 1], [0, 0]]),
        "probabilities": torch.tensor([[0.75, 0.25], [0.125, 0.875]]),
    }
    data = SimpleNamespace(class_names=["cat", "dog"])
    write_outcomes(RunFolder(tmp_path), {"classes": of_samples}, data)
    assert [list(row.values()) for row in rows(tmp_path)] == [
        ["0", "cat; dog", "cat", "0.750000", "0.250000"],
        ["1", "", "dog", "0.125000", "0.875000"],
    ]


def test_predictions_of_several_labels_have_no_one_probability(tmp_path: Path) -> None:
    data = SimpleNamespace(class_names=["a", "b"], label_kind="multilabel")
    batch = {"probabilities": torch.tensor([[0.75, 0.5625], [0.25, 0.125]])}
    write_predictions(RunFolder(tmp_path), [batch], data)
    assert rows(tmp_path) == [
        {"input": "0", "prediction": "a; b", "p(a)": "0.750000", "p(b)": "0.562500"},
        {"input": "1", "prediction": "", "p(a)": "0.250000", "p(b)": "0.125000"},
    ]


def test_outcomes_of_numbers_have_all_digits(tmp_path: Path) -> None:
    target = torch.tensor([1e9 + 1 / 3, 2.0], dtype=torch.float64)
    of_samples = {"index": torch.tensor([5, 6]), "target": target, "prediction": target + 1}
    write_outcomes(RunFolder(tmp_path), {"numbers": of_samples}, None)
    found = rows(tmp_path)
    assert [row["input"] for row in found] == ["5", "6"]
    assert [float(row["truth"]) for row in found] == target.tolist()
    assert [float(row["prediction"]) for row in found] == (target + 1).tolist()


def test_outcomes_of_masks_are_each_images_dice(tmp_path: Path) -> None:
    counts = [[[6, 1, 0], [6, 2, 0], [8, 1, 0]], [[9, 0, 0], [9, 0, 0], [9, 0, 0]]]
    of_images = {
        "index": torch.tensor([0, 1]),
        "counts": torch.tensor(counts),
        "loss": torch.tensor([0.5, 0.25]),
    }
    data = SimpleNamespace(class_names=["ground", "cell", "rim"])
    write_outcomes(RunFolder(tmp_path), {"images": of_images}, data)
    assert [list(row.values()) for row in rows(tmp_path)] == [
        ["0", "0.666667", "0.857143", "0.666667", "", "0.500000"],
        ["1", "", "1.000000", "", "", "0.250000"],  # nothing to find in it, and nothing found
    ]


def test_the_table_shows_intervals_and_their_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = {"acc": Interval(0.7, 0.95, "Wilson"), "f1": Interval(0.6, 0.9, "bootstrap")}
    found = Intervals(25, 1000, 0, of)
    report = {"test": {"acc": 0.88, "f1": 0.8, "temperature": 1.0}, "checkpoint": "", "seconds": 1}
    write_report(RunFolder(tmp_path), report, None, 0, found)
    lines = capsys.readouterr().out.splitlines()
    told = "[95%] of n = 25: Wilson's of acc, else 1,000 bootstrap resamples, seed 0"
    assert lines[:4] == [
        "test acc          0.8800  [0.7000, 0.9500]",
        "test f1           0.8000  [0.6000, 0.9000]",
        "test temperature  1.0000",
        f"intervals         {told}",
    ]
    assert '"intervals"' in (tmp_path / "summary.json").read_text()
    write_report(RunFolder(tmp_path), report, None, 0, None)
    assert "intervals         none: " in capsys.readouterr().out
