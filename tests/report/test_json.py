"""``--json``: the standard output is one document, whatever else is said."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.report.json_output import document_of, output_aside, print_document

Zoo = Callable[[str], Any]


def test_test_prints_its_summary(zoo: Zoo, checkpoint: Path) -> None:
    ended = zoo(f"test --ckpt_path {checkpoint} --wandb off --json")
    assert ended.code == 0
    document = json.loads(ended.out)
    assert 0 <= document["test"]["acc"] <= 1
    assert document["checkpoint"] == str(checkpoint)
    assert (Path(document["folder"]) / "summary.json").is_file()
    assert "test acc" in ended.err


def test_predict_prints_its_rows(zoo: Zoo, checkpoint: Path) -> None:
    ended = zoo(f"predict --ckpt_path {checkpoint} --trainer.limit_predict_batches 1 --json")
    document = json.loads(ended.out)
    assert document["checkpoint"] == str(checkpoint)
    first = document["predictions"][0]
    assert set(first) == {"input", "prediction", "probability", "probabilities"}
    assert first["probability"] == max(first["probabilities"].values())
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert "written to" in ended.err


def test_check_prints_what_it_found(zoo: Zoo) -> None:
    ended = zoo("check r.yaml --json")
    document = json.loads(ended.out)
    assert document["losses"][0] > document["losses"][-1]
    assert document["problems"] == []
    assert document["data"]
    assert "nothing is wrong" in ended.err


def test_a_refusal_leaves_the_output_empty(zoo: Zoo) -> None:
    ended = zoo("test --ckpt_path nowhere.ckpt --json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("zoo: option ckpt_path is 'nowhere.ckpt'")


def test_rows_of_all_kinds(tmp_path: Path) -> None:
    def rows(text: str) -> Any:
        (tmp_path / "predictions.csv").write_text(text, encoding="utf-8")
        return document_of("predict", tmp_path, "c")["predictions"]

    assert rows("input,price\n7,2.5\n") == [{"input": "7", "price": 2.5}]
    assert rows("prompt,text\n1,2\n") == [{"prompt": "1", "text": "2"}]
    assert rows("input,mask,share(a (b))\nx,masks/x.png,0.25\n") == [
        {"input": "x", "mask": "masks/x.png", "shares": {"a (b)": 0.25}}
    ]
    assert rows("input,prediction,probability,p(0)\nx,3,0.75,0.25\n") == [
        {"input": "x", "prediction": "3", "probability": 0.75, "probabilities": {"0": 0.25}}
    ]


def test_no_number_that_json_has_not(capfd: pytest.CaptureFixture[str]) -> None:
    print_document({"a": [float("nan"), 1.5], "b": float("inf")})
    assert json.loads(capfd.readouterr().out) == {"a": [None, 1.5], "b": None}


def test_other_programs_words_go_aside(capfd: pytest.CaptureFixture[str]) -> None:
    with output_aside():
        print("said")
        os.write(1, b"by C\n")
    print("after")
    out, err = capfd.readouterr()
    assert out == "after\n"
    assert set(err.split("\n")) == {"said", "by C", ""}
