"""Every recipe parses, builds, and runs through the smoke overlay on tiny data in real formats."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml
from PIL import Image

from zoo.__main__ import main
from zoo.catalog.contents import FILES, STUDIES, entries, recipe_names, recipes_folder

FOLDER = Path(__file__).parents[1] / "recipes"
CONTENT: dict[str, dict[str, Any]] = {
    path.relative_to(FOLDER).with_suffix("").as_posix(): yaml.safe_load(path.read_text())
    for path in sorted(FOLDER.rglob("*.y*ml"))
    if path.parent.name != STUDIES  # which have tests of their own
}
# A recipe names a task and data; an overlay, given besides, neither.
RECIPES = [name for name, content in CONTENT.items() if "model" in content]
# The first recipe of each task, one that runs anywhere if there is one.
ONE_OF_A_TASK = {
    CONTENT[name]["model"]["class_path"]: name
    for name in sorted(RECIPES, key=lambda name: ("/" in name, name), reverse=True)
}
# The benchmarks' recipes of a task that another one stands for.
LONG = {name for name in RECIPES if "/" in name} - set(ONE_OF_A_TASK.values())


def test_all_are_found() -> None:
    assert recipe_names() == sorted(CONTENT)
    assert recipes_folder().resolve() == FOLDER.resolve()
    assert len(RECIPES) >= 43
    assert all("data" in CONTENT[name] for name in RECIPES)
    overlays = CONTENT.keys() - RECIPES
    assert overlays >= {"smoke", "trainer/cpu", "trainer/ddp", "trainer/gpu"}
    about = {entry.name: entry.about for kind in FILES for entry in entries(kind)}
    assert {entry.name for entry in entries("overlays")} == overlays
    for name in overlays:
        assert not {"model", "data"} & CONTENT[name].keys()
        assert about[name].startswith("Overlay: ")
    assert not [name for name in RECIPES if about[name].startswith("Overlay")]


def test_each_has_a_line_about_itself() -> None:
    assert all(entry.about.endswith(".") for kind in FILES for entry in entries(kind))


@pytest.mark.parametrize("name", sorted(LONG))
def test_parses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["fit", "--config", name, "--print_config"])
    resolved = yaml.safe_load(capsys.readouterr().out)
    for part in ("model", "data"):
        assert resolved[part]["class_path"].endswith(CONTENT[name][part]["class_path"])
        assert CONTENT[name][part]["init_args"].keys() <= resolved[part]["init_args"].keys()


def write_cifar(root: Path, classes: int) -> None:
    """CIFAR's original pickle layout with a few random images."""
    generator = np.random.default_rng(0)
    folder = root / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir(parents=True)

    def write(name: str, count: int) -> None:
        labels = [int(k) for k in generator.permutation(np.arange(count) % classes)]
        content = {
            b"data": generator.integers(0, 256, (count, 3072), dtype=np.uint8),
            (b"labels" if classes == 10 else b"fine_labels"): labels,
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))

    if classes == 10:
        for number in range(1, 6):
            write(f"data_batch_{number}", 120)
        write("test_batch", 60)
        meta = {b"label_names": [f"class {k}".encode() for k in range(10)]}
        (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    else:
        write("train", 600)
        write("test", 100)
        meta = {b"fine_label_names": [f"class {k}".encode() for k in range(100)]}
        (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))


def write_clothes(root: Path) -> None:
    """Fashion-MNIST's files, unpacked, with a few random images."""
    root.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels = np.random.default_rng(0).integers(0, 256, (200, 28, 28), dtype=np.uint8)
        labels = (np.arange(200) % 10).astype(np.uint8)
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (root / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())


def write_texts(root: Path, data_set: str) -> None:
    """A few short texts in the layout of a set's own files."""
    words = {0: "a dull and tedious film", 1: "a warm and funny film"}
    rows = [(f"{words[k % 2]} number {k}", k % 2) for k in range(200)]
    root.mkdir(parents=True)
    if data_set == "SST2":
        for name in ("train", "dev", "test"):
            lines = [f"{text} {name}\t{label}\n" for text, label in rows]
            (root / f"{name}.tsv").write_text("".join(lines))
    elif data_set == "NSMC":
        for name in ("train", "test"):
            lines = [f"{k}\t{text} {name} 영화\t{y}\n" for k, (text, y) in enumerate(rows)]
            (root / f"ratings_{name}.txt").write_text("id\tdocument\tlabel\n" + "".join(lines))
    elif data_set == "KoreanIntents":
        for name in ("train_val", "test"):
            lines = [f"{k % 7}\t{text} {name} 할래\n" for k, (text, _) in enumerate(rows)]
            (root / f"fci_{name}.txt").write_text("".join(lines), encoding="utf-8")
    elif data_set == "AGNews":
        for name in ("train", "test"):
            columns = {"text": [f"{text} {name}" for text, _ in rows]}
            columns["label"] = [k % 4 for k in range(200)]
            pyarrow.parquet.write_table(pyarrow.table(columns), root / f"{name}.parquet")
    else:  # IMDB: a folder for each split and class, a file for each review
        for name in ("train", "test"):
            for k, (text, label) in enumerate(rows):
                path = root / name / ("neg", "pos")[label] / f"{k}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{text} {name}")


def write_encoder(folder: Path, name: str) -> None:
    """A tiny random encoder of the same family, with a tokenizer, as it would lie on the hub."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoModel, BertConfig, DistilBertConfig

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = ["a", "dull", "and", "tedious", "film", "warm", "funny", "number", "영화"]
    tokens = {token: number for number, token in enumerate([*marks, *words])}
    tokenizer = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    sizes = {"vocab_size": len(tokens), "num_hidden_layers": 2, "num_attention_heads": 2}
    if "distilbert" in name:
        config = DistilBertConfig(**sizes, dim=8, hidden_dim=12)
    else:
        config = BertConfig(**sizes, hidden_size=8, intermediate_size=12)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_medical(root: Path, data_set: str) -> None:
    """Random images, with labels or with masks, under the keys of the real files."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 40), ("val", 12), ("test", 12)):
        if data_set == "MedMNIST":
            arrays[f"{split}_images"] = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None]
        else:
            shape = (count, 32, 32)
            arrays[f"{split}_images"] = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
            arrays[f"{split}_masks"] = generator.integers(0, 2, shape, dtype=np.uint8)
    root.mkdir(parents=True)
    np.savez(root / "breastmnist.npz", **arrays)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tokenised texts are kept, for the recipes that share them."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in RECIPES],
)
def test_runs_through_the_smoke_overlay(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    tiny_llama: Path,
    request: pytest.FixtureRequest,
) -> None:
    in_full = name in ONE_OF_A_TASK.values()  # to draw and to run again takes longer than all else
    if in_full:
        request.getfixturevalue("drawing")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(cache))
    arguments = ["fit", "--config", name, "--config", "smoke", "--config", "trainer/cpu"]
    arguments += ["--wandb", "off", "--data.batch_size", "4"]
    for part in ("train", "val", "test"):
        arguments += [f"--trainer.limit_{part}_batches", "1"]
    recipe = CONTENT[name]
    data_set = recipe["data"]["class_path"]
    if recipe["model"]["init_args"].get("compile"):
        arguments += ["--model.compile", "false"]  # it takes minutes on a CPU, and a compiler
    if data_set.startswith("CIFAR"):
        write_cifar(tmp_path / "data", int(data_set.removeprefix("CIFAR")))
        arguments += ["--data.root", str(tmp_path / "data"), "--data.verify", "false"]
        arguments += ["--data.val_size", "100"]
    elif data_set == "FashionMNIST":
        write_clothes(tmp_path / "data")
        arguments += ["--data.root", str(tmp_path / "data"), "--data.val_size", "100"]
    elif data_set in ("SST2", "NSMC", "AGNews", "IMDB", "KoreanIntents"):
        write_texts(tmp_path / "data", data_set)
        arguments += ["--data.root", str(tmp_path / "data")]
        net = recipe["model"]["init_args"]["net"]
        if net["class_path"] == "PretrainedEncoder":
            assert recipe["data"]["init_args"]["tokenizer"] == net["init_args"]["name"]
            folder = str(tmp_path / "encoder")
            write_encoder(Path(folder), net["init_args"]["name"])
            arguments += ["--model.net.name", folder, "--data.tokenizer", folder]
        else:
            arguments += ["--data.vocab_size", "300"]
    elif data_set == "MovieReviews":  # the shorter ones
        arguments += ["--data.part", "rotten_tomatoes"]
    elif data_set == "MedMNIST":
        write_medical(tmp_path / "data", data_set)
        arguments += ["--data.root", str(tmp_path / "data"), "--data.verify", "false"]
    elif data_set in ("Instructions", "Preferences"):
        rows: list[dict[str, str]] = [
            {"prompt": f"What is {k} + 1?", "completion": f"It is {k + 1}."} for k in range(80)
        ]
        if data_set == "Preferences":
            rows = [{**r, "chosen": r.pop("completion"), "rejected": "No idea."} for r in rows]
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        net = recipe["model"]["init_args"]["net"]["init_args"]
        assert recipe["data"]["init_args"]["tokenizer"] == net["model"]
        arguments += ["--data.path", str(tmp_path / "rows.json"), "--model.sample_tokens", "5"]
        arguments += ["--model.net.model", str(tiny_llama), "--data.tokenizer", str(tiny_llama)]
        arguments += ["--data.max_length", "64", "--trainer.precision", "32-true"]
    elif data_set == "TextCorpus":
        text = "\n".join(f"Tale number {k}, of a film. ROMEO: so be it." for k in range(900))
        (tmp_path / "text.txt").write_text(text)
        arguments += ["--data.path", str(tmp_path / "text.txt"), "--model.sample_tokens", "5"]
        if recipe["data"]["init_args"].get("tokenizer") != "char":
            arguments += ["--data.vocab_size", "300"]
    elif data_set == "SegmentationNpz":
        write_medical(tmp_path / "data", data_set)
        arguments += ["--data.path", str(tmp_path / "data" / "breastmnist.npz")]
    assert main(arguments) == 0
    (run,) = tmp_path.glob("runs/*/*")
    expected = {"recipe.yaml", "metrics.csv", "summary.json", "checkpoints", "curves.png"}
    assert expected < {path.name for path in run.iterdir()}
    if in_full:
        for picture in run.glob("*.png"):
            with Image.open(picture) as image:
                assert len(np.unique(np.asarray(image))) > 10  # something is drawn
        # The resolved recipe runs again as it stands.
        again = ["fit", "--config", str(run / "recipe.yaml"), "--trainer.limit_train_batches", "1"]
        assert main([*again, "--trainer.limit_test_batches", "1"]) == 0
