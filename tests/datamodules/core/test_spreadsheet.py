"""Spreadsheets, read as csv files are: texts, tables, labels of images."""

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from PIL import Image

from datamodules.core.errors import UserError
from datamodules.core.spreadsheet import sheet_rows
from datamodules.images.image_folder import ImageFolder
from datamodules.tables.inputs import TableInputs
from datamodules.tables.table import CSVTable
from datamodules.text.classification import TextClassification
from datamodules.text.inputs import TextInputs


def sheet(
    path: Path, rows: list[list[Any]], *, more: dict[str, list[list[Any]]] | None = None
) -> Path:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    for name, others in (more or {}).items():
        own = book.create_sheet(name)
        for row in others:
            own.append(row)
    book.save(path)
    return path


TEXTS = [["review", "stars"], [], *([f"영화 {n}, 좋다", n % 2] for n in range(20))]
TABLE = [["age", "city", "price"], *([n, "ab"[n % 2], n / 4 + 0.5] for n in range(40))]


def test_texts(tmp_path: Path) -> None:
    path = sheet(tmp_path / "t.xlsx", TEXTS)
    data = TextClassification(str(path), tokenizer="char")
    data.setup()
    described = data.describe()
    assert described.facts[0].text == "xlsx, sheet 'Sheet'; texts in 'review', labels in 'stars'"
    assert data.class_names == ["0", "1"]
    rows = np.arange(20)
    assert data.texts(rows) == [f"영화 {n}, 좋다" for n in range(20)]
    inputs = TextInputs([str(path)], **data.inputs_spec()["init_args"])
    assert inputs.names[0] == f"{path}:3"  # below the header and a blank row
    folder = tmp_path / "of splits"
    folder.mkdir()
    for split in ("train", "test"):
        rows = [[f"{split} {row[0]}", row[1]] for row in TEXTS[2:]]
        sheet(folder / f"{split}.xlsx", [TEXTS[0], *rows])
    splits = TextClassification(str(folder), tokenizer="char")
    splits.setup("test")
    assert len(splits.split("test")) == 20


def test_a_table_is_as_its_csv_file(tmp_path: Path) -> None:
    path = sheet(tmp_path / "t.xlsx", TABLE, more={"notes": [["read me"]]})
    (tmp_path / "t.csv").write_text("\n".join(",".join(map(str, row)) for row in TABLE))
    data, other = (CSVTable(str(tmp_path / name), target="price") for name in ("t.xlsx", "t.csv"))
    for each in (data, other):
        each.setup()
    assert data.describe().facts[0].text == "xlsx, sheet 'Sheet', the first of 2"
    assert data.means == other.means
    assert data.categories == other.categories
    for split in ("train", "val", "test"):
        ours, theirs = data.split(split), other.split(split)
        assert ours.rows.tolist() == theirs.rows.tolist()
        assert np.array_equal(ours.features, theirs.features)
    inputs = TableInputs([str(path)], **data.inputs_spec()["init_args"])
    assert inputs.names[:2] == [f"{path}:2", f"{path}:3"]


def test_labels_of_images(tmp_path: Path) -> None:
    for n in range(8):
        Image.new("L", (8, 8), 30 * n).save(tmp_path / f"{n}.png")
    rows = [["file", "kind"], *([f"{n}.png", "ab"[n % 2]] for n in range(8))]
    sheet(tmp_path / "labels.xlsx", rows)
    data = ImageFolder(str(tmp_path), image_size=8)
    assert data.class_names == ["a", "b"]


BAD = {
    "a missing number": (
        [*TABLE, ["", "a", 1]],
        r"column 'age' of '.*t\.xlsx' has 1 missing value, the first in row 42; fill or remove",
    ),
    "more values than columns": (
        [*TABLE, [1, "a", 1, "note"]],
        r"'.*t\.xlsx' has 1 row whose number of values is not the header's 3, the first in row 42 "
        r"with 4; mend them",
    ),
    "nothing": ([], r"'.*t\.xlsx' is empty; give a file with a header and rows"),
    "a header alone": ([["a", "price"]], r"'.*t\.xlsx' has a header but no rows; add some"),
    "dates": (
        [["day", "price"], *([np.datetime64(f"2020-01-{n + 1:02}").item(), n] for n in range(20))],
        r"column 'day' of .* has dates or times, 20 of 20 values, the first being '2020-01-01",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_sheets_that_will_not_do(tmp_path: Path, fault: str) -> None:
    rows, message = BAD[fault]
    path = sheet(tmp_path / "t.xlsx", rows)
    with pytest.raises(UserError, match=message) as caught:
        CSVTable(str(path), target="price")
    assert "\n" not in str(caught.value)


def test_no_spreadsheet_at_all(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"PK\3\4")
    message = r"'.*t\.xlsx' cannot be read as a spreadsheet \(.*\); save it again, or as csv"
    with pytest.raises(UserError, match=message):
        TextClassification(str(tmp_path / "t.xlsx"))
    with pytest.raises(UserError, match=message):
        CSVTable(str(tmp_path / "t.xlsx"), target="price")


def test_a_packed_spreadsheet(tmp_path: Path) -> None:
    sheet(tmp_path / "t.xlsx", TEXTS).rename(tmp_path / "t.xlsx.gz")
    with pytest.raises(UserError, match=r"t\.xlsx\.gz' is packed; unpack it first and give that$"):
        TextClassification(str(tmp_path / "t.xlsx.gz"))


def test_without_openpyxl_or_of_another_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sheet(tmp_path / "t.xlsx", TEXTS)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    message = r"t\.xlsx' is a spreadsheet; save it as csv and give that, or pip install .*\[excel\]"
    with pytest.raises(UserError, match=message):
        TextClassification(str(path))
    with pytest.raises(UserError, match=message):
        CSVTable(str(path), target="stars")
    (tmp_path / "t.ods").write_bytes(b"PK\3\4")
    with pytest.raises(UserError, match=r"t\.ods' is a spreadsheet; save it as csv and give that$"):
        TextClassification(str(tmp_path / "t.ods"))


def test_a_sheet_whose_size_is_written_wrongly_is_read_whole(tmp_path: Path) -> None:
    """Some programs write a size of one cell, which is all that openpyxl would read."""
    path = sheet(tmp_path / "t.xlsx", TEXTS)
    wrong = tmp_path / "wrong.xlsx"
    with zipfile.ZipFile(path) as book, zipfile.ZipFile(wrong, "w") as other:
        for name in book.namelist():
            content = book.read(name)
            if name.endswith("sheet1.xml"):
                assert b'<dimension ref="A1:B22"' in content
                content = content.replace(b'<dimension ref="A1:B22"', b'<dimension ref="A1"')
            other.writestr(name, content)
    assert list(sheet_rows(wrong)) == list(sheet_rows(path))
    assert len(list(sheet_rows(path))) == 21
