"""Texts in the layouts that people have, each small: read rightly, or refused in a sentence."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from datamodules.core.errors import UserError
from datamodules.tables.inputs import TableInputs
from datamodules.tables.table import CSVTable
from datamodules.text.classification import TextClassification
from datamodules.text.inputs import TextInputs

#: 20 texts, 12 of them good; a few hold commas and semicolons.
ROWS = [
    (f"영화 {n}, 정말; 좋다" if n % 5 < 3 else f"영화 {n} 별로", "good" if n % 5 < 3 else "bad")
    for n in range(20)
]
PLAIN = [(text.replace(",", "").replace(";", ""), label) for text, label in ROWS]


def csv_of(rows: list[tuple[str, str]], delimiter: str, header: str) -> str:
    lines = [header, *(f'"{text}"{delimiter}{label}' for text, label in rows)]
    return "\n".join(lines) + "\n"


def put(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def as_imdb(folder: Path) -> Path:
    for split in ("train", "test"):
        for number, (text, label) in enumerate(ROWS):
            name = {"good": "pos", "bad": "neg"}[label]
            put(folder / "aclImdb" / split / name / f"{number}_7.txt", f"{split} {text}")
        put(folder / "aclImdb" / split / "labeledBow.feat", "9 0:9\n")
    put(folder / "aclImdb" / "train" / "unsup" / "0_0.txt", "no label")
    put(folder / "aclImdb" / "README", "read me")
    return folder


def as_cp949_folder(folder: Path) -> Path:
    for number, (text, label) in enumerate(ROWS):
        put(folder / label / f"{number}.txt", text, "cp949")
    put(folder / "good" / "short.txt", "뷁", "cp949")  # which nobody would know alone
    return folder


def as_fasttext(folder: Path) -> Path:
    for name, rows in (("train", ROWS), ("test", [(f"새 {t}", label) for t, label in ROWS])):
        put(folder / f"{name}.txt", "".join(f"__label__{label} {text}\n" for text, label in rows))
    return folder


def as_floats(folder: Path) -> Path:
    rows = [(text, str(float(label == "good"))) for text, label in ROWS]
    return put(folder / "t.csv", csv_of(rows, ",", "review,sentiment"))


def as_lists(folder: Path) -> Path:
    rows = [{"sentence": text, "labels": [label]} for text, label in ROWS]
    return put(folder / "t.jsonl", "\n".join(map(json.dumps, rows)))


def as_booleans(folder: Path) -> Path:
    table = pa.table({"id": range(20), "text": [t for t, _ in ROWS], "y_true": [
        label == "good" for _, label in ROWS]})  # fmt: skip
    parquet.write_table(table, folder / "t.parquet")
    return folder


LAYOUTS: dict[str, tuple[Callable[[Path], Path], dict[str, int], str]] = {
    "a csv file from Excel in Korean, cp949": (
        lambda f: put(f / "t.csv", csv_of(ROWS, ",", "리뷰,감정"), "cp949"),
        {"bad": 8, "good": 12},
        "csv in cp949, commas between values; texts in '리뷰', labels in '감정'",
    ),
    "a csv file from Excel in German, semicolons and a byte order mark": (
        lambda f: put(f / "t.csv", csv_of(ROWS, ";", "text;label"), "utf-8-sig"),
        {"bad": 8, "good": 12},
        "csv in utf-8 with a byte order mark, semicolons between values; texts in 'text', "
        "labels in 'label'",
    ),
    "Excel's Unicode text, UTF-16 with tabulators": (
        lambda f: put(f / "t.txt", csv_of(ROWS, "\t", "text\tlabel"), "utf-16"),
        {"bad": 8, "good": 12},
        "csv in utf-16, tabulators between values; texts in 'text', labels in 'label'",
    ),
    "a csv file in latin-1": (
        lambda f: put(
            f / "t.csv",
            csv_of([(f"très bien {n}", f"é{n % 2}") for n in range(20)], ",", "text,label"),
            "latin-1",
        ),
        {"é0": 10, "é1": 10},
        "csv in cp1252 (latin-1), commas between values; texts in 'text', labels in 'label'",
    ),
    "a csv file packed by gzip": (
        lambda f: put(f / "t.csv.gz", gzip.compress(csv_of(ROWS, ",", "text,label").encode())),
        {"bad": 8, "good": 12},
        "csv in utf-8, packed by gzip, commas between values; texts in 'text', labels in 'label'",
    ),
    "labels that pandas made floats": (
        as_floats,
        {"0": 8, "1": 12},
        "csv in utf-8, commas between values; texts in 'review', labels in 'sentiment'",
    ),
    "fastText's lines, train and test": (
        as_fasttext,
        {"bad": 16, "good": 24},
        "fastText in utf-8; texts in 'text', labels in 'label'",
    ),
    "a list of objects on one line": (
        lambda f: put(f / "t.json", json.dumps([{"utterance": t, "intent": y} for t, y in ROWS])),
        {"bad": 8, "good": 12},
        "json in utf-8; texts in 'utterance', labels in 'intent'",
    ),
    "an object a line, labels in lists": (
        as_lists,
        {"bad": 8, "good": 12},
        "json in utf-8; texts in 'sentence', labels in 'labels'",
    ),
    "parquet with an index and booleans": (
        lambda f: as_booleans(f),
        {"False": 8, "True": 12},
        "parquet; texts in 'text', labels in 'y_true'",
    ),
    "folders of classes, as aclImdb": (
        as_imdb,
        {"neg": 16, "pos": 24},
        "train a folder a class, a file a text, in utf-8, without 'unsup'; test a folder a class, "
        "a file a text, in utf-8",
    ),
    "folders of classes in cp949": (
        as_cp949_folder,
        {"bad": 8, "good": 13},
        "a folder a class, a file a text, in cp949",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_twelve_layouts(tmp_path: Path, layout: str) -> None:
    make, counts, form = LAYOUTS[layout]
    options = {"label_column": "y_true"} if "booleans" in layout else {}
    data = TextClassification(str(make(tmp_path)), tokenizer="char", **options)
    data.setup()
    described = data.describe()
    total: dict[str, int] = {}
    for split in described.splits.values():
        for name, count in (split.classes or {}).items():
            total[name] = total.get(name, 0) + count
    assert total == counts
    assert described.facts[0].text == form
    everything = np.concatenate([data.split(split).rows for split in ("train", "val", "test")])
    assert not any("\N{REPLACEMENT CHARACTER}" in text for text in data.texts(everything))


def test_what_was_found_is_what_prediction_reads(tmp_path: Path) -> None:
    data = TextClassification(str(put(tmp_path / "t.csv", csv_of(ROWS, ";", "리뷰;감정"), "cp949")))
    spec = data.inputs_spec()["init_args"]
    path = put(tmp_path / "new.csv", "id,리뷰\n1,좋다\n2,별로\n")
    assert TextInputs([str(path)], **spec).names == [f"{path}:2", f"{path}:3"]


WRAPPED = "It was a film of the kind that one\nforgets before the lights are on,\nand so I have\n"
TEXT_FILES = {
    "a line each": (
        "좋다\n별로\n정말 좋은 영화였다 또 보고 싶다\n그저 그랬다\n재미있다\n안 본다\n",
        6,
    ),
    "paragraphs": ("A film.\n\nIt was good.\n", 1),
    "wrapped lines": (WRAPPED + WRAPPED, 1),
    "one line": ("a film\n", 1),
    "two lines": ("a film\nanother film\n", 2),
    "fastText": ("__label__good a film\n__label__bad another\n", 2),
}


@pytest.mark.parametrize("name", TEXT_FILES)
def test_a_text_file_is_one_text_or_one_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, count = TEXT_FILES[name]
    spec = TextClassification(str(as_floats(tmp_path)), tokenizer="char").inputs_spec()
    path = put(tmp_path / "t.txt", content, "cp949")
    spec["init_args"]["text_column"] = "text"
    inputs = TextInputs([str(path)], **spec["init_args"])
    assert len(inputs.names) == count
    told = capsys.readouterr().out
    if name == "a line each":
        assert told.endswith("t.txt': its 6 lines are a text each; text_unit: file takes it "
                             "otherwise\n")  # fmt: skip
        assert inputs.names[5] == f"{path}:6"
        one = TextInputs([str(path)], **spec["init_args"], text_unit="file")
        assert one.names == [str(path)]
    elif name == "wrapped lines":
        assert "t.txt': one text; text_unit: line takes it otherwise" in told
        lines = TextInputs([str(path)], **spec["init_args"], text_unit="line")
        assert len(lines.names) == 6


BAD = {
    "an encoding that no guess fits": (
        lambda f: put(f / "t.csv", "text,label\nПривет,1\nмир,0\n", "cp1251"),
        r"'.*t\.csv' is not text in UTF-8: byte 11 .*, nor in UTF-16, cp949 or latin-1; save it as",
    ),
    "an empty text column": (
        lambda f: put(f / "t.csv", "text,label\n,1\n  ,0\n,1\n"),
        r"column 'text' of '.*t\.csv' is empty in all 3 rows; choose another text_column",
    ),
    "one column": (
        lambda f: put(f / "t.csv", "text\ngood\nbad\n"),
        r"'.*t\.csv' has one column, 'text', where a text and its label are two; add the other, or",
    ),
    "two columns that could be the label": (
        lambda f: put(f / "t.csv", "text,label,category\na,1,x\nb,0,y\n"),
        r"label_column is null; say which column of .* it is, as 'label' and 'category' could be",
    ),
    "columns that no name tells": (
        lambda f: put(f / "t.csv", "text,fine,coarse\na,1,x\nb,0,y\n"),
        r"label_column is null; say which column of .* it is: 'fine', 'coarse'; where that is a",
    ),
    "more classes than samples": (
        lambda f: put(f / "t.csv", "text,label\n" + "".join(f"a{n},c{n % 5}\n" for n in range(10))),
        r"^'.*t\.csv' has more classes \(12\) than texts to train on \(8\); check what its labels",
    ),
    "a spreadsheet": (
        lambda f: put(f / "t.xls", b"PK\3\4"),
        r"'.*t\.xls' is a spreadsheet; save it as csv and give that",
    ),
    "a packed folder": (
        lambda f: put(f / "t.zip", b"PK\3\4"),
        r"'.*t\.zip' is packed; unpack it first and give that",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_texts_that_will_not_do(tmp_path: Path, fault: str) -> None:
    make, message = BAD[fault]
    options = {"class_names": [f"c{n}" for n in range(12)]} if "more classes" in fault else {}
    with pytest.raises(UserError, match=message) as caught:
        TextClassification(str(make(tmp_path)), tokenizer="char", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949", "latin-1"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_are_read_as_texts_are(tmp_path: Path, encoding: str, delimiter: str) -> None:
    town = "Köln" if encoding == "latin-1" else "서울"
    rows = [("town", "size", "price"), *((town, f"{n}", f"{2 * n}.5") for n in range(20))]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    path = put(tmp_path / "t.csv", gzip.compress(text.encode(encoding)))
    data = CSVTable(str(path), target="price")
    assert data.feature_names == ["size", f"town={town}"]
    data.setup()
    assert data.describe().facts[0].text.startswith(f"csv in {encoding[:3].replace('lat', 'cp1')}")
    spec = data.inputs_spec()["init_args"]
    new = put(tmp_path / "new.csv", f"size;town\n3;{town}\n")
    assert TableInputs([str(new)], **spec).names == [f"{new}:2"]


def test_a_table_in_an_encoding_that_is_named(tmp_path: Path) -> None:
    text = "town,price\n" + "".join(f"Москва,{n}\n" for n in range(20))
    path = put(tmp_path / "t.csv", text, "cp1251")
    with pytest.raises(UserError, match=r"t\.csv' is not text in UTF-8: byte 11"):
        CSVTable(str(path), target="price")
    data = CSVTable(str(path), target="price", encoding="cp1251")
    assert data.feature_names == ["town=Москва"]
    with pytest.raises(UserError, match=r"t\.csv' is not text in ascii: byte 11"):
        CSVTable(str(path), target="price", encoding="ascii")
