"""A training starts from the weights of another: all that fit, and what does not is told."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from zoo.run.checkpoint import read_checkpoint
from zoo.run.weights_file import write_weights

SMALL = (
    "--wandb off --trainer.max_epochs 1 --trainer.limit_train_batches 1 "
    "--trainer.limit_val_batches 1 --trainer.limit_test_batches 1 --trainer.accelerator cpu"
)
#: A learning rate at which no weight moves.
STILL = f"{SMALL} --model.lr 0"

Zoo = Callable[..., Any]


def draw(folder: str, classes: int, side: int, mode: str) -> str:
    """Write images of so many classes; return the options that name them."""
    for label in range(classes):
        for number in range(8):
            path = Path(folder, f"kind{label}", f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (side, side, 3) if mode == "RGB" else (side, side)
            pixels = np.random.default_rng(9 * label + number).integers(0, 255, shape, np.uint8)
            Image.fromarray(pixels).save(path)
    channels = 3 if mode == "RGB" else 1
    options = f"--data.image_size {side} --data.channels {channels} --data.batch_size 4"
    return f"--data ImageFolder --data.root {folder} {options}"


def run_of(name: str) -> Path:
    (path,) = Path("runs", name).glob("*/checkpoints/last.ckpt")
    return path.parents[1]


def start(zoo: Zoo, options: str, checkpoint: Path | str, name: str = "unnamed") -> dict[str, Any]:
    """Train with a learning rate of 0; return what the summary says of the start."""
    ended = zoo(f"fit --model ImageClassifier {options} --init_from {checkpoint} {STILL}")
    assert ended.code == 0
    found: dict[str, Any] = json.loads((run_of(name) / "summary.json").read_text())["init_from"]
    return found | {"out": ended.out}


def same(name: str, checkpoint: Path) -> dict[str, bool]:
    """Which of a run's weights are those of the checkpoint it started from."""
    theirs = read_checkpoint(checkpoint)["state_dict"]
    ours = read_checkpoint(run_of(name) / "checkpoints" / "last.ckpt")["state_dict"]
    return {
        key.removeprefix("net."): torch.equal(value, theirs[key])
        for key, value in ours.items()
        if key in theirs and not key.endswith(("mean", "var", "tracked"))
    }


def test_another_number_of_classes(zoo: Zoo, checkpoint: Path) -> None:
    data = draw("few", classes=3, side=8, mode="L")
    found = start(zoo, f"--model.net GoogLeNet {data}", checkpoint)
    (why,) = found["afresh"]
    assert why == "the last layer, whose outputs mean something else (10 classes there, 3 here)"
    assert found["afresh"][why] == ["fc.weight", "fc.bias"]
    assert found["tensors"] == found["of_tensors"] - 2
    told = same("unnamed", checkpoint)
    assert {name for name, equal in told.items() if not equal} == {"fc.weight", "fc.bias"}
    said = " ".join(found["out"].split())
    assert "weights of " in said
    assert "afresh fc.weight, fc.bias: the last layer" in said


def test_as_many_classes_of_other_names_start_a_new_head(zoo: Zoo, checkpoint: Path) -> None:
    data = draw("many", classes=10, side=8, mode="L")
    found = start(zoo, f"--model.net GoogLeNet {data}", checkpoint)
    assert list(found["afresh"].values()) == [["fc.weight", "fc.bias"]]
    assert not same("unnamed", checkpoint)["fc.weight"]


def test_the_same_classes_keep_the_head(zoo: Zoo, checkpoint: Path) -> None:
    found = start(zoo, "--model.net GoogLeNet --data Digits", checkpoint)
    assert found["afresh"] == {}
    assert found["values"] == found["of_values"]
    assert all(same("unnamed", checkpoint).values())


def test_another_image_size_and_colours(zoo: Zoo, checkpoint: Path) -> None:
    data = draw("colour", classes=3, side=12, mode="RGB")
    found = start(zoo, f"--model.net GoogLeNet {data}", checkpoint)
    first = [names for why, names in found["afresh"].items() if "1, 3, 3) there" in why]
    assert len(first) == 1
    assert len(first[0]) == 1
    assert sum(len(names) for names in found["afresh"].values()) == 3


def test_another_norm_leaves_its_averages(zoo: Zoo, checkpoint: Path) -> None:
    found = start(zoo, "--model.net GoogLeNet --model.net.norm group --data Digits", checkpoint)
    assert found["unused"]
    assert all("running" in name or "batches" in name for name in found["unused"])
    assert "left     " in found["out"]


def test_an_unrelated_net_is_refused(refuse: Callable[..., str], checkpoint: Path) -> None:
    said = refuse(
        f"fit --model ImageClassifier --model.net MLP --data Digits --init_from {checkpoint}",
        "option init_from is ",
        "none of its ",
        "fits MLP by name and shape",
        "give a checkpoint of a like net",
    )
    assert str(checkpoint) in said


def test_what_is_no_checkpoint(refuse: Callable[..., str], checkpoint: Path) -> None:
    Path("empty.ckpt").write_bytes(b"")
    refuse("fit r.yaml --init_from empty.ckpt", "option init_from is 'empty.ckpt'; it is damaged")
    refuse("fit r.yaml --init_from none.ckpt", "option init_from is 'none.ckpt'; give a file")
    refuse("fit r.yaml --init_from https://x/y.ckpt", "option init_from", "download the file")
    refuse(f"test --ckpt_path {checkpoint} --init_from {checkpoint}", "belongs to fit, not to test")
    refuse(
        f"fit r.yaml --ckpt_path {checkpoint} --init_from {checkpoint}",
        "option init_from is ",
        "leave it out, or ckpt_path",
    )


def test_a_run_is_found_by_its_recipe(zoo: Zoo) -> None:
    assert zoo(f"fit r.yaml {SMALL}").code == 0
    first = run_of("r").rename("runs/r/first-20200101-000000-000000")
    ended = zoo(f"fit r.yaml {STILL} --init_from r:best")
    assert ended.code == 0
    assert "weights  of runs/r/first-20200101-000000-000000/checkpoints/best.ckpt: " in ended.out
    (second,) = (path for path in Path("runs/r").iterdir() if path.name != first.name)
    recipe = yaml.safe_load((second / "recipe.yaml").read_text())
    assert recipe["init_from"] == f"{first}/checkpoints/best.ckpt"
    Path("runs").rename("kept")
    root = "--trainer.default_root_dir kept"
    assert zoo(f"check r.yaml --init_from r:best {root}").code == 0


def test_a_weights_file_named_in_a_recipe(zoo: Zoo, checkpoint: Path) -> None:
    write_weights(read_checkpoint(checkpoint), "w.safetensors")
    recipe = Path("r.yaml").read_text()
    Path("mine.yaml").write_text(recipe + "init_from: w.safetensors\n")
    ended = zoo(f"fit mine.yaml {STILL}")
    assert ended.code == 0
    assert "weights  of w.safetensors: " in ended.out
    assert all(same("mine", checkpoint).values())
    run = run_of("mine")
    assert yaml.safe_load((run / "recipe.yaml").read_text())["init_from"] == "w.safetensors"
    more = "--trainer.max_epochs 2 --wandb off"
    ended = zoo(f"fit mine.yaml {more} --ckpt_path {run}/checkpoints/last.ckpt")
    assert ended.code == 0  # it goes on with its own weights
    assert "weights  of" not in ended.out


def test_check_says_what_would_be_taken(zoo: Zoo, checkpoint: Path) -> None:
    ended = zoo(f"check r.yaml --init_from {checkpoint}")
    assert ended.code == 0
    assert f"weights  of {checkpoint}: " in ended.out.replace("\n         ", " ")


def texts(name: str, words: list[str]) -> str:
    with Path(name).open("w", newline="") as file:
        rows = [(f"{word} film number {n}", n % 2) for n, word in enumerate(words * 20)]
        csv.writer(file).writerows([("text", "label"), *rows])
    return f"--data TextClassification --data.path {name} --data.tokenizer word"


def test_vectors_of_words_go_by_the_word(zoo: Zoo) -> None:
    net = "--model TextClassifier --model.net BagOfEmbeddings"
    assert zoo(f"fit {net} {texts('a.csv', ['good', 'bad', 'dull'])} {SMALL}").code == 0
    first = run_of("unnamed").rename("first")
    state = read_checkpoint(first / "checkpoints" / "last.ckpt")["state_dict"]
    size = next(each.shape[1] for key, each in state.items() if "embedding" in key)
    Path("words.vec").write_text("bad" + " 9" * size + "\n")  # what was learnt comes before it
    net += " --model.vectors words.vec"
    assert zoo(f"fit {net} {texts('b.csv', ['bad', 'fresh'])} {STILL} --init_from "
               f"{first}/checkpoints/last.ckpt").code == 0  # fmt: skip
    found = json.loads((run_of("unnamed") / "summary.json").read_text())["init_from"]
    ((name, what),) = found["partly"].items()
    then, now = (
        read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (first, run_of("unnamed"))
    )
    vocabularies = [
        json.loads(each["zoo"]["inputs"]["init_args"]["tokenizer"])["model"]["vocab"]
        for each in (then, now)
    ]
    both = vocabularies[0].keys() & vocabularies[1].keys()
    assert {"bad", "film"} < both
    assert what.startswith(f"the rows of {len(both)} of {len(vocabularies[1])} tokens")
    theirs, ours = (each["state_dict"][f"net.{name}"] for each in (then, now))
    for word in both:
        assert torch.equal(ours[vocabularies[1][word]], theirs[vocabularies[0][word]]), word
    assert not any(torch.equal(ours[vocabularies[1]["fresh"]], row) for row in theirs)


def test_a_net_in_python(checkpoint: Path) -> None:
    from datamodules import Digits
    from zoo.nets import GoogLeNet
    from zoo.tasks import ImageClassifier
    from zoo.tasks.init_from import take_weights

    task, saved = ImageClassifier(GoogLeNet(1, 10)), read_checkpoint(checkpoint)
    found = take_weights(task, saved, "mine.ckpt", Digits())
    assert found.tensors == found.of_tensors
    assert torch.equal(task.net.fc.weight, saved["state_dict"]["net.fc.weight"])
    with pytest.raises(ValueError, match="none of its 0 tensors fits GoogLeNet"):
        take_weights(task, {"state_dict": {}}, "mine.ckpt", Digits())


def test_vectors_of_a_vocabulary_that_is_filled_up_go_by_the_word_too() -> None:
    from tokenizers import Tokenizer, models
    from torch import nn

    from zoo.tasks.init_from import _token_rows

    def tokenizer(*words: str) -> str:
        text: str = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, "?")).to_str()
        return text

    before, after = tokenizer("?", "bad", "film"), tokenizer("?", "film", "fresh", "bad")
    net = nn.ModuleDict(
        {"tokens": nn.Embedding(8, 2), "positions": nn.Embedding(8, 2), "far": nn.Embedding(999, 2)}
    )
    rows = _token_rows(net, set(), "net.", before, after)
    assert list(rows) == ["net.tokens.weight"]
    ours, theirs = rows["net.tokens.weight"]
    assert (ours.tolist(), theirs.tolist()) == ([0, 1, 3], [0, 2, 1])
