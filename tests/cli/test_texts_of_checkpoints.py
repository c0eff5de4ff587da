"""Texts that a checkpoint or a recipe holds come back as they were."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml

from zoo.cli.config import dump_yaml, read_layer
from zoo.cli.parser import LayerAction, ZooParser
from zoo.run.trust import trust

Zoo = Callable[[str], Any]

RECIPE = """
model:
  class_path: TextClassifier
  init_args: {net: {class_path: BagOfEmbeddings, init_args: {embedding_dim: 4}}}
data:
  class_path: TextClassification
  init_args: {path: texts.csv, tokenizer: char, batch_size: 16}
trainer:
  {max_epochs: 1, limit_train_batches: 1, accelerator: cpu, devices: 1, enable_progress_bar: false}
"""

#: What YAML reads otherwise, or not at all, where it stands without quotes or as JSON writes it.
TEXTS = [
    "🎉 party",
    "a # b",
    "&a",
    "~",
    "[a]",
    "{a: b}",
    '"q"',
    "'q'",
    " lead",
    "1e3",
    "01",
    "yes",
    "a: b",
    "2020-01-01",
    "0x10",
    "12:30:00",
    "\ufeffbom",
    "x\x85y",
    "x\u2028y",
    "\x7f\ufffe",
    "tab\t",
    "a\nb",
    "!!python/name:os.system",
    "<<",
    "=",
    "é",
]


class Texts(L.LightningDataModule):
    """Takes texts in all ways that our classes take them."""

    def __init__(
        self,
        one: str = "",
        some: str | None = None,
        names: list[str] | None = None,
        mapping: dict[str, list[str]] | None = None,
        either: str | list[str] | None = None,
    ) -> None:
        super().__init__()
        self.given = [one, some, names, mapping, either]


@pytest.fixture
def parser(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> ZooParser:
    """A parser of layers that may name the class above; ``zoo`` puts its settings back."""
    monkeypatch.setitem(sys.modules, "taker", sys.modules[__name__])
    monkeypatch.setattr(Texts, "__module__", "taker")
    trust(["taker"])
    parser = ZooParser()
    parser.add_argument("--config", action=LayerAction)
    parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True)
    return parser


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_parsed_and_written_as_it_is(parser: ZooParser, text: str) -> None:
    names = ["one", "some", "names", "mapping", "either"]
    given = [text, text, [text], {text: [text]}, text]
    spec = {"class_path": "taker.Texts", "init_args": dict(zip(names, given, strict=True))}
    config = parser.parse_args(["--config", json.dumps({"data": spec})])
    assert parser.instantiate_classes(config).data.given == given
    recipe = json.loads(parser.dump(config, format="json"))
    assert recipe["data"] == spec
    Path("again.yaml").write_text(dump_yaml(recipe), encoding="utf-8")
    assert read_layer(Path("again.yaml"))["data"] == spec


def test_a_word_of_the_command_line_may_be_yaml(parser: ZooParser) -> None:
    layer = json.dumps({"data": {"class_path": "taker.Texts", "init_args": {"one": "[b]"}}})
    config = parser.parse_args(["--config", layer, "--data.names", "[a, '🎉']"])
    assert parser.instantiate_classes(config).data.given[:3] == ["[b]", None, ["a", "🎉"]]


def test_emoji_in_classes_and_vocabulary(zoo: Zoo) -> None:
    rows = [
        f"{'😀🎉' if n % 2 else '𝄞é'} {n},{'🎉 party' if n % 2 else '&a # b'}" for n in range(60)
    ]
    Path("texts.csv").write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    Path("t.yaml").write_text(RECIPE, encoding="utf-8")
    fit = "fit --config t.yaml --wandb off"
    assert zoo(fit).code == 0
    (run,) = Path("runs/t").iterdir()
    best = run / "checkpoints" / "best.ckpt"
    assert zoo(f"test --ckpt_path {best} --wandb off").code == 0
    ended = zoo(f"predict --ckpt_path {best} --inputs 😀")
    assert ended.code == 0
    assert "🎉 party" in ended.out or "&a # b" in ended.out
    assert zoo(f"{fit} --ckpt_path last --trainer.max_epochs 2").code == 0
    again = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    assert again["trainer"]["max_epochs"] == 2
