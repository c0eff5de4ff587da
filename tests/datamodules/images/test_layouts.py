"""Folders of images as people have them: each layout is read, or refused with a sentence."""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import ImageFolder, ImageInputs
from datamodules.core.errors import UserError

NAMES = [f"{number:02}.png" for number in range(12)]


def picture(path: Path, number: int | None = None) -> None:
    """Write a small picture, each one another unless it has a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = [*str(path).encode()] if number is None else number
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)).save(path)


def classes(root: Path, count: int = 6, names: str = "ab") -> None:
    for name in names:
        for number in range(count):
            picture(root / name / f"{number}.png")


def table(path: Path, header: str, rows: list[str]) -> None:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def images(root: Path) -> None:
    for name in NAMES:
        picture(root / name)


# ---------------------------------------------------------------- the twelve layouts


def class_folders(root: Path) -> None:
    classes(root)


def split_folders_of_other_names(root: Path) -> None:
    for split, count in (("Training", 6), ("Dev", 2), ("TESTING", 3)):
        classes(root / split, count)


def train_and_validation_alone(root: Path) -> None:
    classes(root / "train", 8)
    classes(root / "Validation", 2)


def wrapper_folder(root: Path) -> None:
    for split in ("train", "val", "test"):
        classes(root / "archive" / "pets" / split, 3)


def what_macos_and_links_leave(root: Path) -> None:
    classes(root / "pets")
    classes(root / "__MACOSX" / "pets")
    (root / "pets" / "a" / "._0.png").write_bytes(b"no image")
    (root / "pets" / ".DS_Store").write_bytes(b"")
    (root / "pets" / "a" / "Thumbs.db").write_bytes(b"")
    (root / "pets" / "b" / "gone.png").symlink_to(root / "nowhere.png")


def nested_class_folders(root: Path) -> None:
    for name in "ab":
        for day in ("monday", "tuesday"):
            for number in range(3):
                picture(root / name / day / f"{number}.png")
    picture(root / "b" / "last.png")


def classes_named_like_splits(root: Path) -> None:
    classes(root, 6, "x")
    for number in range(6):
        picture(root / "train" / f"{number}.png")


def images_beside_a_table(root: Path) -> None:
    images(root / "images")
    rows = [f"{name},{'cat' if n % 2 else 'dog'},{n * 1.5}" for n, name in enumerate(NAMES)]
    table(root / "labels.csv", "filename,species,weight", rows)


def table_of_ids_and_splits(root: Path) -> None:
    images(root)
    splits = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    rows = [f"{Path(n).stem};{split};{i % 2}" for i, (n, split) in enumerate(zip(NAMES, splits))]  # noqa: B905
    table(root / "meta.csv", "image_id;split;target", rows)


def several_labels_a_row(root: Path) -> None:
    images(root / "scans")
    kinds = ["none", "mass", "mass|cyst", "cyst"]
    rows = [f"data/scans/{name},{kinds[n % 4]}" for n, name in enumerate(NAMES)]
    table(root / "Data_Entry.csv", "Image,Finding Labels", rows)


def a_column_for_each_class(root: Path) -> None:
    images(root)
    rows = [f"{name}\t{n % 2}\t{n % 3 // 2}\t{int(n == 0)}" for n, name in enumerate(NAMES)]
    table(root / "labels.tsv", "path\tred\tround\tlarge", rows)


def one_of_several_columns(root: Path) -> None:
    images(root / "train")
    rows = [f"train/{n},{int(i % 3 == 0)},{int(i % 3 == 1)},{int(i % 3 == 2)}"
            for i, n in enumerate(NAMES)]  # fmt: skip
    table(root / "truth.csv", "image,MEL,NV,BCC", rows)


DRAWN = "split_seed 0, {}_fraction 0.1"
FOLDERS = ("folder {}",) * 3
#: What is read: samples of train, val and test, classes, and where splits and labels come from.
LAYOUTS: dict[Callable[[Path], None], tuple[list[int], list[str], list[str], str]] = {
    class_folders: ([8, 2, 2], ["a", "b"], ["the rest", DRAWN, DRAWN], ""),
    split_folders_of_other_names: (
        [12, 4, 6],
        ["a", "b"],
        ["folder Training", "folder Dev", "folder TESTING"],
        "",
    ),
    train_and_validation_alone: (
        [14, 4, 2],
        ["a", "b"],
        ["the rest", "folder Validation", DRAWN],
        "",
    ),
    wrapper_folder: ([6, 6, 6], ["a", "b"], ["folder train", "folder val", "folder test"], ""),
    what_macos_and_links_leave: ([8, 2, 2], ["a", "b"], ["the rest", DRAWN, DRAWN], ""),
    nested_class_folders: ([9, 2, 2], ["a", "b"], ["the rest", DRAWN, DRAWN], ""),
    classes_named_like_splits: ([8, 2, 2], ["train", "x"], ["the rest", DRAWN, DRAWN], ""),
    images_beside_a_table: (
        [8, 2, 2],
        ["cat", "dog"],
        ["the rest", DRAWN, DRAWN],
        "labels.csv, column species",
    ),
    table_of_ids_and_splits: (
        [8, 2, 2],
        ["0", "1"],
        ["column split"] * 3,
        "meta.csv, column target",
    ),
    several_labels_a_row: (
        [6, 3, 3],
        ["cyst", "mass", "none"],
        ["the rest", DRAWN, DRAWN],
        "Data_Entry.csv, column Finding Labels, parted by '|'",
    ),
    a_column_for_each_class: (
        [6, 3, 3],
        ["red", "round", "large"],
        ["the rest", DRAWN, DRAWN],
        "labels.tsv, columns red to large",
    ),
    one_of_several_columns: (
        [6, 3, 3],
        ["MEL", "NV", "BCC"],
        ["the rest", DRAWN, DRAWN],
        "truth.csv, columns MEL to BCC",
    ),
}
SEVERAL = (several_labels_a_row, a_column_for_each_class)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_layout_is_read(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    root = tmp_path / "data"
    layout(root)
    data = ImageFolder(str(root), image_size=4, in_channels=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup()
    told = data.describe()
    sizes, names, origins, labels = LAYOUTS[layout]
    assert data.class_names == names
    assert [facts.size for facts in told.splits.values()] == sizes
    assert [facts.origin for facts in told.splits.values()] == [
        origin.format(split) for origin, split in zip(origins, told.splits, strict=True)
    ]
    facts = {fact.name: fact for fact in told.facts}
    assert facts["labels"].text.replace(f"{root}/", "").replace("'", "") == labels.replace("'", "")
    assert data.label_kind == ("multilabel" if layout in SEVERAL else "multiclass")
    for split, own in told.splits.items():
        if layout not in SEVERAL:
            assert min(own.classes.values()) > 0, split
        index = data.split(split).__getitems__(list(range(own.size))).index.tolist()
        assert len({data.names[number] for number in index}) == own.size
    expected = {"hidden files": 2, "folders __MACOSX": 1, "links to nothing": 1, "other files": 1}
    if layout is what_macos_and_links_leave:
        assert facts["passed_over"].values == dict(sorted(expected.items()))
        words = "1 folder __MACOSX, 2 hidden files, 1 link to nothing, 1 other file"
        assert facts["passed_over"].text == words
    # Built again from a checkpoint's arguments it is the same.
    again = ImageFolder(**data.resolved()["init_args"])
    again.setup()
    for split in told.splits:
        assert again.split(split).rows.tolist() == data.split(split).rows.tolist()


def test_labels_are_those_of_the_rows(tmp_path: Path) -> None:
    root = tmp_path / "data"
    several_labels_a_row(root)
    data = ImageFolder(str(root), image_size=4, in_channels=1)
    data.setup()
    kinds = {0: "none", 1: "mass", 2: "cyst\nmass", 3: "cyst"}
    for split in ("train", "val", "test"):
        batch = data.split(split).__getitems__(list(range(len(data.split(split)))))
        for label, index in zip(batch.label, batch.index.tolist(), strict=True):
            assert data.label_text(label) == kinds[int(Path(data.names[index]).stem) % 4]
    whole = ImageFolder(str(root), label_kind="multilabel", label_separator="%")
    assert whole.class_names == ["cyst", "mass", "mass|cyst", "none"]
    assert whole.label_kind == "multilabel"
    chosen = {"file_column": "Image", "label_column": "Finding Labels"}
    assert ImageFolder(str(root), **chosen).class_names == data.class_names
    # From a file elsewhere, of a folder that holds nothing else.
    (root / "Data_Entry.csv").rename(tmp_path / "elsewhere.csv")
    named = ImageFolder(str(root), labels=str(tmp_path / "elsewhere.csv"))
    assert named.class_names == data.class_names


def test_names_of_classes_may_hold_a_comma(tmp_path: Path) -> None:
    images(tmp_path)
    kinds = ["carcinoma, basal", "carcinoma, squamous", "naevus"]
    rows = [f'{name},"{kinds[n % 3]}"' for n, name in enumerate(NAMES)]
    table(tmp_path / "t.csv", "file,label", rows)
    assert ImageFolder(str(tmp_path)).class_names == kinds
    assert len(ImageFolder(str(tmp_path), label_separator=",").class_names) == 4


@pytest.mark.parametrize("written", ["{}.0", "{}.", "{}"])
def test_numbers_are_whole_labels_however_pandas_writes_them(tmp_path: Path, written: str) -> None:
    images(tmp_path)
    rows = [f"{name},{written.format([2, 10][n % 2])}" for n, name in enumerate(NAMES)]
    table(tmp_path / "t.csv", "file,grade", rows)
    assert ImageFolder(str(tmp_path)).class_names == ["2", "10"]


def test_a_number_and_a_name_of_each_class_are_one_label(tmp_path: Path) -> None:
    images(tmp_path)
    rows = [f"{name},{n % 3},{'xyz'[n % 3]}" for n, name in enumerate(NAMES)]
    table(tmp_path / "t.csv", "file,number,kind", rows)
    assert ImageFolder(str(tmp_path)).class_names == ["0", "1", "2"]
    assert ImageFolder(str(tmp_path), label_column="kind").class_names == ["x", "y", "z"]


def test_images_of_a_folder_that_the_table_leaves_out_are_counted(tmp_path: Path) -> None:
    images(tmp_path / "train")
    picture(tmp_path / "test" / "100.png")
    table(tmp_path / "train.csv", "id,label", [f"{n},{i % 2}" for i, n in enumerate(NAMES)])
    data = ImageFolder(str(tmp_path))
    assert len(data.names) == 12
    assert data.listing.skipped == {"images without a label": 1}  # the table is none of them
    (tmp_path / "notes.txt").write_text("read me")
    table(tmp_path / "patients.csv", "id,patient", [f"{n},{i}" for i, n in enumerate(NAMES)])
    grouped = ImageFolder(
        str(tmp_path),
        labels=str(tmp_path / "train.csv"),
        groups=str(tmp_path / "patients.csv"),
        file_column="id",
    )
    assert grouped.listing.skipped == {"images without a label": 1, "other files": 1}


# ---------------------------------------------------------------- bad input


def _refused(root: Path, words: str, **options) -> None:
    with pytest.raises(UserError, match=words) as caught:
        ImageFolder(str(root), image_size=4, in_channels=1, **options).setup()
    assert "\n" not in str(caught.value)


def test_class_folders_of_broken_files_are_all_named(tmp_path: Path) -> None:
    classes(tmp_path, 3, "abcd")
    for name in "bd":
        for number in range(3):
            (tmp_path / name / f"{number}.png").write_text("no image")
    data = ImageFolder(str(tmp_path), image_size=4, skip_broken=True)
    message = (
        r"^'.*/b', '.*/d' hold broken files alone \(6 of 6\), the first being '.*/b/0.png' cannot"
    )
    with pytest.raises(UserError, match=message):
        data.setup("fit")


def test_an_empty_separator_and_no_column_are_refused(tmp_path: Path) -> None:
    images(tmp_path)
    table(tmp_path / "t.csv", "file,label", [f"{n},{i % 2}" for i, n in enumerate(NAMES)])
    _refused(tmp_path, "label_separator is ''; give the character", label_separator="")
    _refused(tmp_path, r"label_column is \[\]; name a column at least", label_column=[])


def test_folders_that_are_refused(tmp_path: Path) -> None:
    classes(tmp_path / "one", 6, "a")
    _refused(tmp_path / "one", "one' holds one class, 'a', which leaves nothing to learn; add")
    classes(tmp_path / "twice" / "val")
    classes(tmp_path / "twice" / "Valid")
    _refused(tmp_path / "twice", "Valid' and .*val' are both the val split's by their names; merge")
    classes(tmp_path / "untrained" / "test")
    _refused(tmp_path / "untrained", "untrained' holds images for test but none to train on; add")
    for split in ("trn", "val", "test"):
        classes(tmp_path / "misnamed" / split)
    words = "misnamed' holds val and test but no train; rename 'trn' to 'train'"
    _refused(tmp_path / "misnamed", words)
    classes(tmp_path / "beside")
    classes(tmp_path / "beside" / "test")
    words = "beside' holds test but no train; put the images to train on in a folder 'train'"
    _refused(tmp_path / "beside", words)
    classes(tmp_path / "flat" / "test")
    picture(tmp_path / "flat" / "train" / "0.png")
    words = "train' holds images themselves, where test has class folders; put each class's"
    _refused(tmp_path / "flat", words)
    classes(tmp_path / "broken")
    for path in (tmp_path / "broken").rglob("*.png"):
        path.write_bytes(b"nothing")
    for skip_broken in (False, True):
        words = r"a', '.*b' hold broken files alone \(12 of 12\), the first being .*0.png"
        _refused(tmp_path / "broken", words, skip_broken=skip_broken)
    classes(tmp_path / "few" / "train", 1, "abc")
    for name in "ab":
        (tmp_path / "few" / "train" / name / "0.png").write_bytes(b"nothing")
    classes(tmp_path / "volumes")
    (tmp_path / "volumes" / "a" / "brain.nii.gz").write_bytes(b"")
    _refused(tmp_path / "volumes", "brain.nii.gz' is a NIfTI volume, .*: save its slices as PNG")
    with pytest.raises(UserError, match="is a NIfTI volume"):
        ImageInputs(
            [str(tmp_path / "volumes")], ["a"], image_size=4, in_channels=1, mean=[0.5], std=[1.0]
        )
    with zipfile.ZipFile(tmp_path / "volumes.zip", "w"):
        _refused(tmp_path / "volumes.zip", "root is .*zip'; give a folder that exists")


GOOD = [f"{name},{'xy'[n % 2]}" for n, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    ("header", "rows", "options", "words"),
    [
        ("file,kind", [*GOOD, "99.png,x"], {}, "names '99.png' in line 14, which .*data' does not"),
        ("file,kind", GOOD[:-2], {}, "has no row for '10.png' and 1 more images; add their labels"),
        ("file,kind,form", [f"{row},{n % 3}" for n, row in enumerate(GOOD)], {},
         "has 2 columns that could be the label, 'kind', 'form'; name one by label_column"),
        ("file", NAMES, {}, "has one column, 'file', where names and labels need two; add"),
        ("file,kind", [f"{name},{n}" for n, name in enumerate(NAMES)], {"label_column": "kind"},
         "'kind' of .* has another label for each of its 12 images, more classes than can"),
        ("file,kind", [*GOOD[:-1], "11.png,"], {}, "'kind' .* has 1 missing value, the first"),
        ("file,kind", [f"{name}," for name in NAMES],
         {"label_kind": "multilabel", "label_column": "kind"}, "'kind' .* has 12 missing values,"),
        ("file,kind", [f"{name},{n}" for n, name in enumerate(NAMES)], {},
         "no column that could be the label"),
        ("file,label", [*GOOD[:-1], "11.png,"], {},
         r"'label' .* has 1 missing value, the first in line 13; .*, or set label_kind: multilab"),
        ("file,label", [*GOOD[:-1], "11.png,"], {"label_kind": "multiclass"},
         r"'label' .* has 1 missing value, the first in line 13; fill or remove such rows$"),
        ("file,kind", ["other/1.png,x", "other/2.png,y"], {}, "no column that names the images of"),
        ("file,kind", [*GOOD, "00.png,y"], {}, "gives '00.png' two labels, 'x' and 'y'; keep one"),
        ("file,kind", GOOD, {"label_column": "kin"}, "label_column is 'kin'; .*mean 'kind'"),
        ("file,kind", GOOD, {"file_column": "fil"}, "file_column is 'fil'; .*mean 'file'"),
        ("file,a,b", [f"{n},0,2" for n in NAMES], {"label_column": ["a", "b"]},
         "holds '2' in line 2, where several label columns hold 0 and 1"),
        ("file,kind", [f"{n},x" for n in NAMES], {"label_column": "kind"}, "holds one class, 'x'"),
        ("file,kind", [f"{row}|z" for row in GOOD],
         {"label_kind": "multiclass", "label_separator": "|"},
         "label_kind is 'multiclass'; .* has several labels in a row"),
        ("file," + ",".join(f"c{k}" for k in range(20)),
         [f"{name}," + ",".join(str(int(k % 12 == n)) for k in range(20))
          for n, name in enumerate(NAMES)], {}, r"more classes \(20\) than images to train on"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(tmp_path, header, rows, options, words) -> None:
    images(tmp_path / "data")
    table(tmp_path / "data" / "t.csv", header, rows)
    _refused(tmp_path / "data", words, **options)


@pytest.mark.parametrize(
    ("last", "options"),
    [("new|old", {}), ("new", {"label_kind": "multilabel"})],
    ids=["guessed", "given"],
)
def test_an_empty_value_is_none_of_several_labels(
    tmp_path: Path, last: str, options: dict[str, Any]
) -> None:
    images(tmp_path / "data")
    labels = [last, *(["", "new", "old"][n % 3] for n in range(1, len(NAMES)))]
    rows = [f"{name},{label}" for name, label in zip(NAMES, labels, strict=True)]
    table(tmp_path / "data" / "t.csv", "file,label", rows)
    data = ImageFolder(str(tmp_path / "data"), image_size=4, **options)
    data.setup()
    assert (data.label_kind, data.class_names) == ("multilabel", ["new", "old"])
    of_name = dict(zip(NAMES, labels, strict=True))
    for split in ("train", "val", "test"):
        part = data.split(split)
        batch = part.__getitems__(list(range(len(part))))
        for number, label in zip(batch.index.tolist(), batch.label.tolist(), strict=True):
            own = of_name[Path(data.names[number]).name]
            assert label == [int(name in own) for name in ("new", "old")]


def test_a_name_that_two_files_have_is_refused(tmp_path: Path) -> None:
    for folder in "ab":
        images(tmp_path / folder)
    table(tmp_path / "t.csv", "file,label", GOOD)
    words = "names '00.png', but 2 files are called so; write the path instead, such as 'a/00.png'"
    _refused(tmp_path, words, labels="t.csv")
    _refused(tmp_path, "labels is 'absent.csv'; give a csv file: this does", labels="absent.csv")
