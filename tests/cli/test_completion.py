"""What the shell is told at Tab."""

import io
import sys
from pathlib import Path

import pytest

from zoo.catalog.contents import KINDS

finders = pytest.importorskip("argcomplete.finders")


class Finder(finders.CompletionFinder):
    def _init_debug_stream(self) -> None:
        """Leave file descriptor 9 to pytest."""


@pytest.fixture
def proposed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from zoo.cli.completion import parser_of

    monkeypatch.chdir(tmp_path)

    def run(line: str) -> list[str]:
        monkeypatch.setenv("_ARGCOMPLETE", "1")
        monkeypatch.setenv("_ARGCOMPLETE_IFS", "\n")
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        stream = io.StringIO()
        with pytest.raises(SystemExit):
            Finder()(parser_of(line), False, exit_method=sys.exit, output_stream=stream)
        return [each.strip() for each in stream.getvalue().split("\n") if each.strip()]

    return run


def test_verbs(proposed) -> None:
    assert proposed("zoo pr") == ["predict"]
    assert {"fit", "check", "list", "help", "export", "results"} <= set(proposed("zoo "))


def test_recipes_and_files(proposed) -> None:
    Path("mine.yaml").touch()
    Path("notes.txt").touch()
    assert proposed("zoo fit incep") == ["inception", "inception_v3"]
    assert proposed("zoo fit --config m") == ["medical", "medmnist/resnet18", "mlp", "mine.yaml"]
    assert "notes.txt" not in proposed("zoo fit ")


def test_options_of_what_the_recipe_names(proposed) -> None:
    assert proposed("zoo fit inception --model.net.la") == ["--model.net.layout"]
    assert proposed("zoo fit --config unet --model.net.la") == []
    assert proposed("zoo fit inception --model.net MLP --model.net.wi") == ["--model.net.widths"]
    assert proposed("zoo fit --trainer.max_e") == ["--trainer.max_epochs"]


def test_values(proposed) -> None:
    assert proposed("zoo fit inception --model.net.layout ") == ["paper", "torchvision", "cifar"]
    assert proposed("zoo fit inception --model.optimizer a") == ["adamw", "adam"]
    assert proposed("zoo fit --data CIF") == ["CIFAR10", "CIFAR100"]
    assert proposed("zoo test --ckpt_path la") == ["last"]


def test_what_can_be_listed(proposed) -> None:
    assert set(proposed("zoo list ")) >= {*KINDS, "GoogLeNet", "muon"}
    assert proposed("zoo help Goog") == ["GoogLeNet"]
