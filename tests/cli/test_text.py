"""Texts from a file of one's own: trained, tested, and predicted from a checkpoint alone."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
model:
  class_path: TextClassifier
  init_args:
    net:
      class_path: RNNClassifier
      init_args: {cell: gru, embedding_dim: 16, hidden_size: 8, pooling: attention}
    lr: 0.02
data:
  class_path: TextClassification
  init_args: {path: reviews.csv, vocab_size: 300, batch_size: 32, val_fraction: 0.2}
trainer: {max_epochs: 8, accelerator: cpu, enable_progress_bar: false}
"""
GOOD = ["정말 재미있는 영화", "a warm and funny film", "최고의 배우와 음악"]
BAD = ["지루하고 긴 영화", "a dull and tedious film", "돈이 아까운 이야기"]


@pytest.fixture
def trained(zoo: Callable[[str], Any]) -> Path:
    classes = (("좋음", GOOD), ("나쁨", BAD))
    rows = [(f"{t} {k}", name) for k in range(60) for name, texts in classes for t in texts]
    with Path("reviews.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    Path("text.yaml").write_text(RECIPE)
    ended = zoo("fit --config text.yaml --wandb off")
    assert ended.code == 0, ended.err
    assert "Glyph" not in ended.err
    (run,) = Path("runs/text").iterdir()
    return run


@pytest.mark.usefixtures("drawing")
def test_learns_and_leaves_pictures_and_mistakes(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["data"]["repeated"] == {"duplicates": 0, "conflicts": 0}
    assert summary["data"]["lengths"]["cut_share"] == 0
    assert summary["flops_per_sample"] > 2 * 100 * summary["data"]["lengths"]["median"]
    test = summary["test"]
    assert test["acc"] > 0.9
    names = {path.name for path in trained.iterdir()}
    assert {"attention.png", "confusion.png", "reliability.png", "curves.png"} < names
    if test["acc"] < 1:
        with (trained / "wrong_texts.csv").open(encoding="utf-8") as file:
            first = next(csv.DictReader(file))
        assert first["label"] != first["prediction"]


def test_predicts_raw_texts_from_the_checkpoint_alone(
    trained: Path, zoo: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("elsewhere").mkdir()
    (trained / "checkpoints" / "best.ckpt").rename("elsewhere/model.ckpt")
    Path("reviews.csv").unlink()
    monkeypatch.chdir("elsewhere")
    Path("new.csv").write_text("id,text\n1,지루하고 긴 영화였다\n", encoding="utf-8")
    Path("one.txt").write_text(GOOD[0], encoding="utf-8")
    # The words of a raw text are one argument, which the shell would keep together.
    from zoo.__main__ import main

    arguments = ["predict", "--ckpt_path", "model.ckpt", "--wandb", "off"]
    assert main([*arguments, "--inputs", GOOD[1], "new.csv", "one.txt"]) == 0
    (path,) = Path("runs/predict").glob("*/predictions.csv")
    with path.open(encoding="utf-8") as file:
        found = {row["input"]: row["prediction"] for row in csv.DictReader(file)}
    assert found == {GOOD[1]: "좋음", "new.csv:2": "나쁨", "one.txt": "좋음"}


def test_several_labels_a_text_from_a_column_a_class(zoo: Callable[[str], Any]) -> None:
    rows = [
        (number, f"{'loud ' * loud}{'new ' * new}thing {number}", loud, new)
        for number in range(60)
        for loud, new in [(number % 2, int(number % 3 == 0))]
    ]
    with Path("tags.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "comment_text", "loud", "new"), *rows])
    Path("text.yaml").write_text(RECIPE)
    own = "--data.path tags.csv --data.tokenizer word --trainer.max_epochs 2 --wandb off"
    ended = zoo(f"fit --config text.yaml {own}")
    assert ended.code == 0, ended.err
    (run,) = Path("runs/text").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["data"]["labels"] == {"by_text": 50 / 60, "separator": None}
    assert {"acc", "f1", "auroc"} <= set(summary["test"])
    assert (run / "labels.png").is_file()
    with (run / "predictions.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            _, text, loud, new = rows[int(row["input"])]
            assert row["text"] == text
            assert row["truth"] == "; ".join(["loud"] * loud + ["new"] * new)
    checkpoint = run / "checkpoints" / "best.ckpt"
    assert zoo(f"predict --ckpt_path {checkpoint} --inputs loud --wandb off").code == 0
    (path,) = Path("runs/predict").glob("*/predictions.csv")
    with path.open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    likely = [name for name in ("loud", "new") if float(row[f"p({name})"]) > 0.5]
    assert row["prediction"] == "; ".join(likely)
