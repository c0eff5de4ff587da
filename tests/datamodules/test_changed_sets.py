"""A set that changes after a checkpoint was made: what was trained on is never tested."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from datamodules import (
    CSVTable,
    ImageFolder,
    Instructions,
    SegmentationFolder,
    TextClassification,
)

#: Builds a data module of some samples' numbers; says which number each of its samples has.
Kind = tuple[Callable[..., object], Callable[[object, str], list[int]]]
COUNT = 60


def save(path: Path, number: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (8, 8, 3) if mode == "RGB" else (8, 8)
    pixels = np.random.default_rng(number).integers(0, 2, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def images(root: Path, **options) -> Kind:
    def build(numbers, **resolved):
        for number in range(COUNT + 9):
            path = root / "abc"[number % 3] / f"{number:02}.png"
            path.unlink(missing_ok=True)
            if number in numbers:
                save(path, number)
            elif options.get("skip_broken"):
                path.write_bytes(b"no image")
        return ImageFolder(**{"root": str(root), "image_size": 8, **options, **resolved})

    return build, lambda data, s: [int(Path(data.names[r]).stem) for r in data.split(s).rows]


def broken_images(root: Path) -> Kind:
    return images(root, skip_broken=True)


def grouped_images(root: Path) -> Kind:
    table = root.parent / "patients.csv"
    rows = [f"{number:02}.png,P{number * 7 % 20}" for number in range(COUNT + 9)]
    table.write_text("\n".join(["file,patient", *rows]))
    return images(root, groups=str(table))


def masks(root: Path) -> Kind:
    def build(numbers, **resolved):
        for number in range(COUNT + 9):
            for folder, mode in (("images", "RGB"), ("masks", "L")):
                path = root / folder / f"{number:02}.png"
                save(path, number, mode) if number in numbers else path.unlink(missing_ok=True)
        return SegmentationFolder(**{"root": str(root), "image_size": 8, **resolved})

    return build, lambda data, s: [int(Path(data.names[r]).stem) for r in data._rows[s]]


def table(root: Path) -> Kind:
    def build(numbers, **resolved):
        values = np.random.default_rng(0).normal(size=(COUNT + 9, 3))
        rows = [f"{a},{b},{c},{n}" for n, (a, b, c) in enumerate(values) if n in numbers]
        root.with_suffix(".csv").write_text("\n".join(["a,b,c,y", *rows]))
        return CSVTable(**{"path": str(root.with_suffix(".csv")), "target": "y", **resolved})

    return build, lambda data, s: [round(float(row.target)) for row in _rows(data, s)]


def _rows(data, split: str) -> list:
    return [data.split(split)[i] for i in range(len(data.split(split)))]


def texts(root: Path) -> Kind:
    def build(numbers, **resolved):
        rows = [f"the text of number {number},{number % 2}" for number in numbers]
        root.with_suffix(".csv").write_text("\n".join(["text,label", *rows]))
        options = {"path": str(root.with_suffix(".csv")), "tokenizer": "word", "min_frequency": 1}
        return TextClassification(**{**options, **resolved})

    return build, lambda data, s: [
        int(text.split()[-1]) for text in data.texts(data._rows[s].tolist())
    ]


def chats(root: Path) -> Kind:
    tokenizer = Tokenizer(models.BPE({b: n for n, b in enumerate([*_ALPHABET, "<|end|>"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()

    def build(numbers, **resolved):
        rows = [{"instruction": "Which number?", "output": f"It is {n}"} for n in numbers]
        root.with_suffix(".json").write_text(json.dumps(rows))
        options = {"path": str(root.with_suffix(".json")), "tokenizer": tokenizer.to_str()}
        given = {**options, "chat_template": "plain", "end_token": "<|end|>", **resolved}
        return Instructions(**given)

    def numbers(data, split: str) -> list[int]:
        tokens = data._store.tokens
        found = []
        for row in data._rows[split]:
            start, stop = tokens.offsets[row : row + 2].tolist()
            text = data.decode(tokens.tokens[start:stop].tolist())
            found.append(int(text.replace("<|end|>", "").split()[-1]))
        return found

    return build, numbers


_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.mark.filterwarnings("ignore:skip_broken")
@pytest.mark.parametrize(
    "kind", [images, broken_images, grouped_images, masks, table, texts, chats]
)
def test_what_was_trained_on_is_never_tested(tmp_path, kind: Callable[[Path], Kind]) -> None:
    build, numbers = kind(tmp_path / "set")

    def splits(data) -> dict[str, set[int]]:
        data.prepare_data()
        data.setup()
        return {split: set(numbers(data, split)) for split in ("train", "val", "test")}

    def told(caught) -> list[str]:
        return [str(w.message) for w in caught if "have changed since" in str(w.message)]

    data = build(range(COUNT))
    before = splits(data)
    assert sum(map(len, before.values())) == COUNT
    assert 4 <= len(before["test"]) <= 12
    spec = json.loads(json.dumps(data.resolved()))["init_args"]
    # As it was, in another object: the same, and nothing is said.
    with warnings.catch_warnings(record=True) as caught:
        assert splits(build(range(COUNT), **spec)) == before
    assert not told(caught)
    changed = [n for n in range(COUNT + 9) if n not in (3, 30, 31)]  # three less, nine more
    with pytest.warns(UserWarning, match="have changed since the checkpoint was made") as caught:
        after = splits(build(changed, **spec))
    [sentence] = told(caught)
    assert f"{len(after['train'])} to train on (then {len(before['train'])})" in sentence
    assert sum(map(len, after.values())) == len(changed)
    for split, own in after.items():
        assert own & set(range(COUNT)) == before[split] - {3, 30, 31}
    # Another fraction is what the user wants: drawn anew, and said.
    with pytest.warns(UserWarning, match=r"val split was by .*0\.1.* now is by .*0\.3.*; it may"):
        anew = splits(build(changed, **{**spec, "val_fraction": 0.3}))
    assert len(anew["val"]) > 1.5 * len(before["val"])
