"""``zoo.load``: what ``zoo predict`` answers, from files and from what Python has."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo as package
from datamodules.core.errors import DataError, UserError
from zoo.model import ClassResult, LabelsResult, MaskResult, NumberResult, TextResult
from zoo.model.find import find_weights

FIT = (
    "--data.batch_size 4 --wandb off --trainer.max_epochs 1 --trainer.limit_train_batches 2 "
    "--trainer.limit_val_batches 1 --trainer.limit_test_batches 1 --trainer.accelerator cpu"
)


def write(name: str, rows: list[tuple[Any, ...]]) -> None:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def draw(folder: str, light: int) -> None:
    Path(folder).mkdir(parents=True)
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 2, (9, 8), dtype=np.uint8)
        Image.fromarray(pixels * light).save(f"{folder}/{number}.png")


def images() -> tuple[str, list[str]]:
    draw("images/a", 90), draw("images/b", 255)
    data = "--data ImageFolder --data.root images --data.image_size 8"
    model = "--model ImageClassifier --model.net MLP --model.tta flip"
    return f"{model} {data} --data.allow_missing_classes true", ["images"]


def labels() -> tuple[str, list[str]]:
    write(
        "t.csv",
        [("text", "label"), *((f"word{n % 5}", "a;b" if n % 2 else "b") for n in range(40))],
    )
    net = "--model TextClassifier --model.net BagOfEmbeddings"
    data = "--data TextClassification --data.path t.csv --data.label_separator ;"
    return f"{net} {data}", ["t.csv"]


def masks() -> tuple[str, list[str]]:
    draw("cells/images", 90), draw("cells/masks", 255)
    net = "--model ImageSegmenter --model.net UNet --model.net.depth 1 --model.net.width 4"
    data = "--data SegmentationFolder --data.root cells --data.image_size 8"
    return f"{net} {data}", ["cells/images"]


def table() -> tuple[str, list[str]]:
    write("t.csv", [("x", "kind", "y"), *((n, "ab"[n % 2], n * 0.5 + n % 3) for n in range(40))])
    data = "--data CSVTable --data.path t.csv --data.target y"
    return f"--model Regressor --model.net MLP {data}", ["t.csv"]


def texts() -> tuple[str, list[str]]:
    write("t.csv", [("text", "label"), *((f"word{n % 5} and {n}", n % 2) for n in range(40))])
    net = "--model TextClassifier --model.net RNNClassifier"
    return f"{net} --data TextClassification --data.path t.csv", ["t.csv"]


def prompts() -> tuple[str, list[str]]:
    Path("t.txt").write_text("".join(f"{n} is a number\n" for n in range(99)))
    net = "--model LanguageModel --model.net RNNLanguageModel --model.sample_tokens 5"
    data = "--data TextCorpus --data.path t.txt --data.tokenizer char --data.max_length 16"
    return f"{net} {data}", ["1", "2 is"]


Kind = Callable[[], tuple[str, list[str]]]
Train = Callable[[Kind], tuple[str, list[str]]]
ALL: list[Kind] = [images, labels, masks, table, texts, prompts]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """Where nets are kept that were trained once, and what each predicts."""
    return tmp_path_factory.mktemp("nets"), {}


@pytest.fixture
def train(zoo: Callable[[str], Any], trained: tuple[Path, dict[str, list[str]]]) -> Train:
    """Trains a net a little, in the working folder; gives its checkpoint, and what it predicts."""
    kept, inputs = trained

    def run(kind: Kind) -> tuple[str, list[str]]:
        name = kind.__name__
        if name not in inputs:
            options, asked = kind()
            assert zoo(f"fit {options} {FIT}").code == 0
            shutil.copytree(".", kept / name)
            inputs[name] = asked
        else:
            shutil.copytree(kept / name, ".", dirs_exist_ok=True)
        (checkpoint,) = Path("runs").glob("*/*/checkpoints/best.ckpt")
        return str(checkpoint), inputs[name]

    return run


def near(ours: Any, other: Any) -> bool:
    """Whether two results are the same but for rounding, as by another size of batches."""
    if isinstance(ours, list):
        return len(ours) == len(other) and all(map(near, ours, other))
    if isinstance(ours, NumberResult):
        return bool(ours.value == pytest.approx(other.value, rel=1e-5))
    close = pytest.approx(other.probabilities, rel=1e-5)
    return bool(ours.label == other.label and ours.probabilities == close)


def cells(result: Any) -> list[str]:
    """Return a result as a row of ``predictions.csv``."""
    if isinstance(result, ClassResult):
        numbers = [result.probability, *result.probabilities.values()]
        return [result.label, *(f"{value:.6f}" for value in numbers)]
    if isinstance(result, LabelsResult):
        return ["; ".join(result.labels), *(f"{p:.6f}" for p in result.probabilities.values())]
    if isinstance(result, MaskResult):
        return [f"{share:.6f}" for share in result.shares.values()]
    return [repr(result.value) if isinstance(result, NumberResult) else result.text]


@pytest.mark.parametrize("kind", ALL)
def test_answers_are_those_of_predict(
    zoo: Callable[[str | list[str]], Any], train: Train, kind: Kind
) -> None:
    checkpoint, inputs = train(kind)
    predict = f"predict --ckpt_path {checkpoint} --trainer.accelerator cpu --inputs".split()
    ended = zoo([*predict, *inputs])
    assert ended.code == 0
    (path,) = Path("runs").glob("predict/*/predictions.csv")
    with path.open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    model = package.load(checkpoint, device="cpu")
    found: Any = model(inputs if kind is prompts else inputs[0])
    ours = [[result.input, *cells(result)] for result in found]
    theirs = [[*row[:1], *row[2:]] for row in rows] if kind is masks else rows
    assert ours == theirs
    if kind is not prompts:
        assert all(f"{result}" in ended.out for result in found)
    if kind is masks:
        saved = [np.asarray(Image.open(path.parent / row[1])) for row in rows]
        assert all(np.array_equal(r.mask, s) for r, s in zip(found, saved, strict=True))
    task: Any = model.task
    assert task.net is model.net
    assert not model.net.training
    assert repr(model).endswith(", on cpu)")


@pytest.mark.parametrize("kind", [images, table, texts])
def test_neither_lightning_nor_its_command_line_is_imported(train: Train, kind: Kind) -> None:
    """In a process of its own, which takes the time to import torch."""
    checkpoint, inputs = train(kind)
    code = (
        f"import sys, zoo; zoo.load({checkpoint!r}, device='cpu')({inputs[0]!r}); "
        "print([name for name in ('lightning', 'jsonargparse', 'torchvision', 'torchmetrics', "
        "'transformers', 'zoo.cli', 'zoo.tasks') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1:] == ["[]"], ended.stderr


def test_images_as_python_has_them(train: Train) -> None:
    checkpoint, _ = train(images)
    model = package.load(Path(checkpoint).parents[1], device="cpu")
    path = "images/b/3.png"
    expected: Any = model(path)
    assert isinstance(expected, ClassResult)
    assert expected.label in model.class_names == ["a", "b"]
    assert expected.probability == max(expected.probabilities.values())
    assert sum(expected.probabilities.values()) == pytest.approx(1)
    grey = np.asarray(Image.open(path))
    colour = np.repeat(grey[..., None], 3, axis=2)
    same = [
        Path(path),
        Image.open(path),
        grey,
        grey[..., None],
        grey[None],
        grey / 255,
        (grey / 255).astype(np.float16),
        colour,
        Image.fromarray(colour),
        torch.from_numpy(grey.copy()),
        torch.from_numpy(colour).permute(2, 0, 1),
        torch.from_numpy(colour).permute(2, 0, 1) / 255,
        torch.from_numpy(grey / 255).bfloat16() * 0 + torch.from_numpy(grey > 0),
    ]
    for given in same:
        assert near(model(given), expected), given
    assert near(model(same), [expected] * len(same))
    assert near(model(same, batch_size=2), [expected] * len(same))
    assert near(model(np.stack([grey] * 3)[..., None]), [expected] * 3)
    several: list[Any] = [[grey], [path], grey[None, ..., None], colour[None]]
    several += [torch.from_numpy(colour).permute(2, 0, 1)[None]]
    for given in several:  # as a program gets it, however many there are
        assert near(model(given), [expected])
    Path("one").mkdir()
    Image.open(path).save("one/3.png")
    assert near(model("one"), [expected])
    assert "<table>" in expected._repr_html_()


def test_rows_as_python_has_them(train: Train) -> None:
    pandas = pytest.importorskip("pandas")
    checkpoint, _ = train(table)
    model = package.load("last", device="cpu")
    assert Path(checkpoint).resolve().parent == find_weights("last").resolve().parent
    every: Any = model("t.csv")
    row = {"x": 3, "kind": "b", "unused": None}
    third = every[3]
    for given in (row, {"x": "3", "kind": "b"}, [3, "b"], (3.0, "b"), pandas.Series(row)):
        assert near(model(given), third)
    assert near(model([row, [3, "b"]]), [third, third])
    assert near(model(pandas.read_csv("t.csv")), every)
    assert near(model(pandas.read_csv("t.csv")[3:4]), [third])
    write("one.csv", [("x", "kind"), (3, "b")])
    for given in ("one.csv", ["one.csv"], [row], [[3, "b"]], np.array([[3, "b"]])):
        assert near(model(given), [third])
    assert float(third) == third.value
    assert third.name == "y"


def test_texts_as_python_has_them(train: Train) -> None:
    checkpoint, _ = train(texts)
    model = package.load(checkpoint, device="cpu")
    one: Any = model("word1 and 7")
    assert isinstance(one, ClassResult)
    assert model({"text": "word1 and 7"}) == one
    assert model(["word1 and 7"]) == [one]
    write("one.csv", [("text",), ("word1 and 7",)])
    Path("one.txt").write_text("word1 and 7")
    assert model("one.csv") == model(["one.txt"]) == [one]
    assert model("one.txt") == one


def test_prompts_are_written_on_from(train: Train) -> None:
    checkpoint, _ = train(prompts)
    model = package.load(checkpoint, device="cpu")
    whole: Any = model("1 is")
    assert isinstance(whole, TextResult)
    assert "".join(model.stream("1 is")) == whole.text == str(whole)
    messages = [{"role": "user", "content": "1 is"}]
    assert model(messages) == whole  # which texts that are no chats are joined to


def test_of_a_long_chat_the_oldest_is_forgotten(train: Train) -> None:
    """What is read and what is written fit what the net was trained on: rows of 16 tokens."""
    checkpoint, _ = train(prompts)
    model = package.load(checkpoint, device="cpu")
    system = {"role": "system", "content": "1"}
    chat = [system]
    for number in range(30):
        chat = model.remembered(model.data, [*chat, {"role": "user", "content": f"{number}"}])
        assert (chat[0], chat[-1]["content"]) == (system, f"{number}")
        assert len(model.tokens_of(model.data, chat)) <= 16 - 5
        assert len(chat) < 12
        chat.append({"role": "assistant", "content": "is"})
    assert len(chat) > 3
    assert model.remembered(model.data, chat[:2]) == chat[:2]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a good film", "'a good film' does not exist; give image files or folders"),
        ([], "no input in an empty list"),
        (np.zeros((5,), np.uint8), r"an array \(5,\) of uint8, which is no image"),
        (np.zeros((0, 8), np.uint8), "which is no image"),
        (np.zeros((8, 8, 5), np.uint8), r"\(8, 8, 5\) of uint8, which is no image"),
        (np.zeros((8, 8), np.int64), "of int64; give uint8 from 0 to 255 or floats from 0 to 1"),
        (np.full((8, 8), 200.0), "values from 200 to 200; give uint8 from 0 to 255"),
        (np.full((8, 8), np.nan), "some of its values are NaN or infinite"),
        (torch.full((8, 8), -1.0), "values from -1 to -1"),
        ([np.zeros((8, 8), np.uint8), 3], "input 1 is an int, which is no image"),
        (None, "input 0 is None, which is no image"),
        ({"x": 1}, "input 0 is a dict, which is no image"),
    ],
)
def test_what_is_no_image(
    checkpoint: Path, given: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        package.load(checkpoint, device="cpu")(given)


def test_what_is_no_row_or_prompt(train: Train) -> None:
    checkpoint, _ = train(table)
    model = package.load(checkpoint, device="cpu")
    for given, words in (
        ({"x": 1}, "row 0 has no column 'kind'; give rows with the columns 'x', 'kind'"),
        ([1], "row 0 has 1 values, where 2 are needed"),
        ({"x": float("nan"), "kind": "a"}, "row 0 has nan in column 'x'; give a finite number"),
        ({"x": "many", "kind": "a"}, "row 0 has 'many' in column 'x'"),
        ({"x": 1, "kind": None}, "row 0 has None in column 'kind'; give a category"),
        ([], "no input in an empty list"),
        ([{"x": 1, "kind": "a"}, 3.5], "row 1 is a float, which is no row"),
    ):
        with pytest.raises(DataError, match=words):
            model(given)
    with pytest.raises(UserError, match="writes no texts"):
        model.stream("a")


def test_what_is_no_text(train: Train) -> None:
    checkpoint, _ = train(texts)
    model = package.load(checkpoint, device="cpu")
    for given, words in (
        (np.zeros((8, 8)), r"input 0 is an array \(8, 8\) of float64, which is no text"),
        ({"txt": "a"}, "input 0 has no column 'text'; give texts or files"),
        (["a", 3], "input 1 is an int, which is no text"),
        ([], "no input in an empty list"),
    ):
        with pytest.raises(DataError, match=words):
            model(given)


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for name, words in (
        ("nowhere.ckpt", "option ckpt_path is 'nowhere.ckpt'; give a file that is there"),
        ("folder", "option ckpt_path is 'folder'; it is a folder: give a file in it, or the fol"),
        ("best", "there is no run in 'runs'"),
        ("inception:best", "there is no run of 'inception' in 'runs'"),
        ("https://host/x.ckpt", "download the file"),
    ):
        with pytest.raises(UserError, match=words):
            package.load(name)


def test_checkpoints_that_say_too_little_or_something_else(
    checkpoint: Path, tmp_path: Path
) -> None:
    whole = torch.load(checkpoint, weights_only=True)
    options = whole["hyper_parameters"]

    def saved(**changed: Any) -> str:
        path = tmp_path / "changed.ckpt"
        torch.save({**whole, **changed}, path)
        return str(path)

    weights = dict(whole["state_dict"])
    last = list(weights)[-1]
    without = {name: value for name, value in weights.items() if name != last}
    longer = {**weights, last: torch.zeros(3)}
    net = {**options["net"], "init_args": {**options["net"]["init_args"], "colour": 3}}
    facts = whole["zoo"]
    inputs = {**facts["inputs"], "class_path": "os.system"}

    def with_fact(**changed: Any) -> dict[str, Any]:
        spec = facts["inputs"]
        return {**spec, "init_args": {**spec["init_args"], **changed}}

    for changed, words in (
        ({"hyper_parameters": {}}, "it does not say which task it is of"),
        ({"hyper_parameters": {**options, "net": None}}, "does not record how it was made"),
        ({"hyper_parameters": {**options, "net": net}}, "its net cannot be built .*colour"),
        ({"state_dict": without}, f"it lacks {last}"),
        ({"state_dict": longer}, rf"{last} is \(3,\) there"),
        ({"zoo": {**facts, "inputs": inputs}}, "of its inputs does not fit"),
        ({"zoo": {**facts, "layout": 1}}, "layout differs"),
        ({"zoo": []}, "its part zoo is no mapping"),
        ({"zoo": {**facts, "inputs": 3}}, "its part zoo.inputs is no mapping"),
        ({"zoo": {**facts, "precision": 3}}, "its part zoo.precision is no text"),
        ({"zoo": {**facts, "temperature": "x"}}, r"does not fit \(temperature is 'x'\)"),
        ({"zoo": {**facts, "inputs": with_fact(mean=["x"])}}, r"fit \(mean is \['x'\]\)"),
        ({"zoo": {**facts, "inputs": with_fact(class_names=["x"])}}, "names 1 classes, and its ne"),
        ({"hyper_parameters": 3}, "its part hyper_parameters is no mapping"),
        ({"hyper_parameters": {**options, "net": {"init_args": 3}}}, "record how it was made"),
    ):
        with pytest.raises(UserError, match=words):
            package.load(saved(**changed), device="cpu")
    model = package.load(saved(zoo={k: v for k, v in facts.items() if k != "inputs"}), device="cpu")
    with pytest.raises(UserError, match="does not say how inputs are prepared"):
        model(np.zeros((8, 8), np.uint8))
    with pytest.raises(UserError, match="option device is 'abacus'; give one of auto, cpu"):
        package.load(checkpoint, device="abacus")


def test_loading_leaves_torchs_generators_alone(checkpoint: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    package.load(checkpoint, device="cpu")(np.zeros((8, 8), np.uint8))
    assert torch.equal(torch.rand(1), expected)


def test_a_mask_is_a_picture(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [2, 2]], np.uint8)
    result = MaskResult(mask, {"back": 0.25, "cell": 0.25, "wall": 0.5})
    assert str(result) == "back 25.0%  cell 25.0%  wall 50.0%"
    assert result._repr_png_().startswith(b"\x89PNG")
    result.save(tmp_path / "m.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "m.png")), mask)


def test_every_result_shows_in_a_notebook() -> None:
    number = NumberResult(3.25, "price", "a<b.csv:2")._repr_html_()
    assert ("price" in number, "3.25" in number, "a&lt;b.csv:2" in number) == (True, True, True)
    text = TextResult("two\n<lines>", "prompt")._repr_html_()
    assert "two\n&lt;lines&gt;</td>" in text
    assert "prompt" in text
    several = LabelsResult(("a",), {"a": 0.75, "b": 0.25})._repr_html_()
    assert several.count("<tr>") == 2
