"""Texts that may have several labels each, and columns that hold no classes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from datamodules.core.errors import UserError
from datamodules.core.labels import in_order
from datamodules.text.classification import TextClassification
from datamodules.text.inputs import TextInputs

#: Of 24 texts each third is loud, each fourth is new, and two in twelve are both.
LABELS = [
    tuple(name for name, each in (("loud", 3), ("new", 4)) if n % each == 0) or ("old",)
    for n in range(24)
]
TEXTS = [f"text number {n}" for n in range(24)]


def flags(n: int) -> list[int]:
    return [int(name in LABELS[n]) for name in ("old", "loud", "new")]


def as_csv(folder: Path, separator: str = "|") -> Path:
    rows = [f'{n},"{t}","{separator.join(LABELS[n])}"' for n, t in enumerate(TEXTS)]
    (folder / "t.csv").write_text("\n".join(["id,text,tags", *rows]))
    return folder / "t.csv"


def as_lists(folder: Path) -> Path:
    rows = [{"text": t, "labels": list(LABELS[n])} for n, t in enumerate(TEXTS)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "t.jsonl"


def as_columns(folder: Path) -> Path:
    rows = [",".join(map(str, [n, TEXTS[n], *flags(n)])) for n in range(24)]
    (folder / "t.csv").write_text("\n".join(["id,comment_text,old,loud,new", *rows]))
    return folder / "t.csv"


def as_booleans(folder: Path) -> Path:
    columns = {name: [name in own for own in LABELS] for name in ("old", "loud", "new")}
    parquet.write_table(pa.table({"text": TEXTS, **columns}), folder / "t.parquet")
    return folder / "t.parquet"


def as_fasttext(folder: Path) -> Path:
    lines = [
        " ".join([*(f"__label__{name}" for name in own), text])
        for own, text in zip(LABELS, TEXTS, strict=True)
    ]
    (folder / "t.txt").write_text("\n".join(lines))
    return folder / "t.txt"


def as_class_numbers(folder: Path) -> Path:
    """Lists of numbers, as ``datasets`` writes them with the names beside."""
    names = ["loud", "new", "old"]
    table = pa.table({"text": TEXTS, "labels": [[*map(names.index, own)] for own in LABELS]})
    feature = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}
    info = json.dumps({"info": {"features": {"labels": feature}}})
    parquet.write_table(table.replace_schema_metadata({"huggingface": info}), folder / "t.parquet")
    return folder / "t.parquet"


FORMS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a character between": (as_csv, ", parted by '|'"),
    "commas between": (lambda folder: as_csv(folder, ", "), ", parted by ','"),
    "lists in jsonl": (as_lists, ""),
    "a column a class": (as_columns, ""),
    "a column of booleans a class": (as_booleans, ""),
    "fastText's": (as_fasttext, ""),
    "lists of numbers with names": (as_class_numbers, ""),
}


@pytest.mark.parametrize("form", FORMS)
def test_several_labels_a_text(tmp_path: Path, form: str) -> None:
    write, parted = FORMS[form]
    data = TextClassification(str(write(tmp_path)), tokenizer="char", test_fraction=0.25)
    data.setup()
    assert data.label_kind == "multilabel"
    assert set(data.class_names) == {"loud", "new", "old"}
    assert data.num_classes == 3
    seen = 0
    for split in ("train", "val", "test"):
        part = data.split(split)
        batch = part.__getitems__(list(range(len(part))))
        for number, label in zip(batch.index.tolist(), batch.label.tolist(), strict=True):
            assert label == [int(name in LABELS[number]) for name in data.class_names]
            seen += 1
        counts = data.describe().splits[split].classes
        assert all((counts or {"none": 0}).values())  # stratified by the rarest
    assert seen == 24
    (fact,) = [fact for fact in data.describe().facts if fact.name == "labels"]
    assert fact.text == f"several a text, 1.08 on average{parted}"


def test_columns_are_named_in_the_table(tmp_path: Path) -> None:
    data = TextClassification(str(as_columns(tmp_path)), tokenizer="char")
    data.setup()
    assert data.class_names == ["old", "loud", "new"]  # in the order of the columns
    form = data.describe().facts[0].text
    assert form.endswith("texts in 'comment_text', labels in 'old' to 'new'")


def test_a_checkpoint_reads_several_labels_alike(tmp_path: Path) -> None:
    data = TextClassification(str(as_csv(tmp_path)), tokenizer="char")
    spec = data.resolved()["init_args"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "t.csv").write_text("text,tags\nnever seen,old|new\nseen never,old|new\n")
    found = TextClassification(**{**spec, "path": str(other / "t.csv")})
    found.setup("test")  # of two texts, where the net knows three classes
    assert found.split("test").__getitems__([0, 1]).label.tolist() == [[0, 1, 1], [0, 1, 1]]
    inputs = TextInputs(["a text"], **data.inputs_spec()["init_args"])
    assert inputs.label_kind == "multilabel"


def test_labels_that_are_not_parted(tmp_path: Path) -> None:
    rows = "\n".join(f"text {n},{'yes; no' if n % 2 else 'maybe'}" for n in range(12))
    (tmp_path / "t.csv").write_text("text,label\n" + rows)
    data = TextClassification(str(tmp_path / "t.csv"), tokenizer="char")
    assert (data.label_kind, data.class_names) == ("multiclass", ["maybe", "yes; no"])
    parted = TextClassification(str(tmp_path / "t.csv"), tokenizer="char", label_separator=";")
    assert (parted.label_kind, parted.class_names) == ("multilabel", ["maybe", "no", "yes"])


def test_splits_have_the_columns_of_the_training_split(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "text,a,b\n" + "".join(f"t{n},{n % 2},{n % 3 % 2}\n" for n in range(12))
    )
    (tmp_path / "test.csv").write_text("text,a,b,c\nnew,1,0,1\nnewer,0,1,0\n")
    data = TextClassification(str(tmp_path), tokenizer="char")
    data.setup("test")
    assert data.split("test").__getitems__([0, 1]).label.tolist() == [[1, 0], [0, 1]]
    (tmp_path / "test.csv").write_text("text,a,b\nnew,1,-1\n")
    with pytest.raises(UserError, match=r"column 'b' of .* holds '-1' in line 2, where several"):
        TextClassification(str(tmp_path), tokenizer="char")


def test_repeated_texts_with_other_labels_are_counted(tmp_path: Path) -> None:
    rows = [*(f"t{n},a|b" for n in range(6)), *(f"u{n},b" for n in range(6)), "t0,b", "t1,b|a"]
    (tmp_path / "t.csv").write_text("text,label\n" + "\n".join(rows))
    data = TextClassification(str(tmp_path / "t.csv"), tokenizer="char")
    assert (data.duplicates, data.conflicts) == (2, 1)


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "several where one is wanted": (
        "".join(f"text {n},a{'|b' * (n % 2)}\n" for n in range(9)),
        {"label_kind": "multiclass", "label_separator": "|"},
        r"option label_kind is 'multiclass'; leave it out: '.*' has several labels in a row",
    ),
    "a column that says which text it is": (
        "".join(f"text {n},c{n}\n" for n in range(20)),
        {},
        r"column 'label' of '.*' has another label for each of its 20 texts, more classes than can "
        r"be learnt; name another by label_column",
    ),
    "nearly as many classes as texts": (
        "".join(f"text {n},c{max(n, 1)}\n" for n in range(20)),
        {},
        r"column 'label' of '.*' has 19 labels for its 20 texts, more classes than can be learnt",
    ),
    "nothing between labels": (
        "a,1\nb,0\n",
        {"label_separator": ""},
        r"option label_separator is ''; give the character between two labels, or leave it out",
    ),
    "no column": (
        "a,1\nb,0\n",
        {"label_column": []},
        r"option label_column is \[\]; name a column at least, or leave it out",
    ),
    "a column that is named twice": (
        "a,1\nb,0\n",
        {"label_column": ["label", "label"]},
        r"option label_column is \['label', 'label'\]; name each column once",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_labels_that_will_not_do(tmp_path: Path, fault: str) -> None:
    rows, options, message = BAD[fault]
    (tmp_path / "t.csv").write_text(f"text,label\n{rows}")
    with pytest.raises(UserError, match=message) as caught:
        TextClassification(str(tmp_path / "t.csv"), tokenizer="char", **options)
    assert "\n" not in str(caught.value)


def test_columns_of_zeros_alone(tmp_path: Path) -> None:
    rows = "".join(f"text {n},0,0\n" for n in range(20))
    (tmp_path / "t.csv").write_text(f"text,a,b\n{rows}")
    with pytest.raises(
        UserError, match=r"no text of '.*t\.csv' has a label; choose another label_c"
    ):
        TextClassification(str(tmp_path / "t.csv"), tokenizer="char")


def test_a_list_without_a_label(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": [] if n == 5 else [n % 2]} for n in range(12)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    message = (
        r"column 'label' of '.*t\.jsonl' is empty in line 6; fill it or remove the row, or set "
    )
    with pytest.raises(UserError, match=message):
        TextClassification(str(tmp_path / "t.jsonl"), tokenizer="char")
    data = TextClassification(str(tmp_path / "t.jsonl"), tokenizer="char", label_kind="multilabel")
    data.setup()
    assert (
        sum(split.labels[split.rows].sum() for split in map(data.split, ("train", "val", "test")))
        == 11
    )


def test_a_column_given_wrong_is_named_before_one_that_is_not_given(tmp_path: Path) -> None:
    rows = "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(12))
    (tmp_path / "t.csv").write_text(f"Satz,Etiketten\n{rows}")
    path = str(tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"text_column is 'satz'; .*did you mean 'Satz'"):
        TextClassification(path, tokenizer="char", text_column="satz")
    data = TextClassification(path, tokenizer="char", text_column="Satz")
    assert data.class_names == ["a", "b"]  # the labels are the other column


def without_labels(folder: Path, name: str, last: str) -> str:
    """Write 24 texts of which each third has no label, and one has all those of ``last``."""
    words = ["", "new", "old"]
    rows = [f"text {n},{words[n % 3] if n else last}" for n in range(24)]
    (folder / name).write_text("\n".join(["text,tags", *rows]))
    return str(folder / name)


@pytest.mark.parametrize(
    ("last", "options"),
    [("new|old", {}), ("new", {"label_kind": "multilabel"})],
    ids=["guessed", "given"],
)
def test_an_empty_value_is_none_of_several_labels(
    tmp_path: Path, last: str, options: dict[str, Any]
) -> None:
    data = TextClassification(without_labels(tmp_path, "t.csv", last), tokenizer="char", **options)
    data.setup()
    assert (data.label_kind, data.class_names) == ("multilabel", ["new", "old"])
    for split in ("train", "val", "test"):
        part = data.split(split)
        batch = part.__getitems__(list(range(len(part))))
        for number, label in zip(batch.index.tolist(), batch.label.tolist(), strict=True):
            own = last if number == 0 else ["", "new", "old"][number % 3]
            assert label == [int(name in own) for name in ("new", "old")]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [({}, ", or set label_kind: multilabel"), ({"label_kind": "multiclass"}, "$")],
    ids=["guessed", "given"],
)
def test_an_empty_value_is_refused_where_a_text_has_one_label(
    tmp_path: Path, options: dict[str, Any], remedy: str
) -> None:
    words = r"column 'tags' of '.*t\.csv' is empty in line 5, and in 6 other rows; fill them or "
    with pytest.raises(UserError, match=f"{words}remove the rows{remedy}"):
        TextClassification(without_labels(tmp_path, "t.csv", "new"), **options)


def test_an_empty_value_of_the_test_split_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,tags\na,new\nb,old\nc,new\nd,old\n")
    (tmp_path / "test.csv").write_text("text,tags\ne,new\nf,\n")
    with pytest.raises(UserError, match=r"column 'tags' of '.*test\.csv' is empty in line 3; fill"):
        TextClassification(str(tmp_path), tokenizer="char")


def test_a_test_set_of_one_class_will_do_for_a_net_of_two(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(20))
    )
    spec = TextClassification(str(tmp_path / "t.csv"), tokenizer="char").resolved()["init_args"]
    (tmp_path / "new.csv").write_text("text,label\nanother,1\n")
    found = TextClassification(**{**spec, "path": str(tmp_path / "new.csv")})
    found.setup("test")
    assert found.split("test").__getitems__([0]).label.tolist() == [1]


def test_classes_that_a_net_does_not_know_are_named_beside_its_own(tmp_path: Path) -> None:
    rows = "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(20))
    (tmp_path / "t.csv").write_text(f"text,label\n{rows}")
    spec = TextClassification(str(tmp_path / "t.csv"), tokenizer="char").resolved()["init_args"]
    (tmp_path / "new.csv").write_text("text,label\nx,a\ny,c\nz,d\n")
    message = (
        r"new\.csv' has the classes 'a', 'c', 'd', but the net knows 'a', 'b'; train on texts of "
        r"'c', 'd' too, or remove them there$"
    )
    with pytest.raises(UserError, match=message):
        TextClassification(**{**spec, "path": str(tmp_path / "new.csv")})


def test_all_class_folders_without_a_text_are_named(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    for name in "ad":
        (tmp_path / name / "1.txt").write_text("a text")
    message = r"/b', '.*/c' hold no \.txt files; add some or remove them$"
    with pytest.raises(UserError, match=message):
        TextClassification(str(tmp_path), tokenizer="char")


def test_classes_are_weighed_by_how_rare_they_are(tmp_path: Path) -> None:
    data = TextClassification(str(as_csv(tmp_path)), tokenizer="char", test_fraction=0.25)
    data.setup("fit")
    train = data.split("train")
    counts = train.labels[train.rows].sum(axis=0)
    assert data.class_weights() == pytest.approx(counts.sum() / (3 * counts))


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val", "Validation"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.txt").write_text(f"{split} {name}")
    with pytest.raises(UserError, match=r"'Validation' and 'val' are both the val split's"):
        TextClassification(str(tmp_path), tokenizer="char")


def test_classes_named_somewhat_like_splits_are_classes(tmp_path: Path) -> None:
    for name in ("test-positive", "test-negative"):
        (tmp_path / name).mkdir()
        for number in range(6):
            (tmp_path / name / f"{number}.txt").write_text(f"{name} {number}")
    data = TextClassification(str(tmp_path), tokenizer="char")
    assert data.class_names == ["test-negative", "test-positive"]


def test_an_index_without_a_name_is_no_label(tmp_path: Path) -> None:
    rows = [f"{n},{text},{['ham', 'spam'][n % 2]}" for n, text in enumerate(TEXTS)]
    (tmp_path / "t.csv").write_text("\n".join([",text,kind", *rows]))  # as pandas writes
    data = TextClassification(str(tmp_path / "t.csv"), tokenizer="char")
    assert data.class_names == ["ham", "spam"]
    (tmp_path / "t.csv").write_text("\n".join([",text", *(f"{n},text {n}" for n in range(9))]))
    with pytest.raises(UserError, match=r"has one column, 'text', where a text and its label"):
        TextClassification(str(tmp_path / "t.csv"), tokenizer="char")


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (["10", "-2", "+3"], ["-2", "+3", "10"]),
        (["+-2", "+-10", "+-3"], ["+-10", "+-2", "+-3"]),
        (["", "a"], ["", "a"]),
    ],
)
def test_whole_numbers_stand_by_their_size(written: list[str], names: list[str]) -> None:
    assert in_order([*written, *written]) == names


def test_what_other_programs_leave_is_passed_over(tmp_path: Path) -> None:
    as_csv(tmp_path)
    for name in ("._t.csv", "~$t.xlsx", ".hidden.csv"):
        (tmp_path / name).write_bytes(b"\0\1")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "t.csv").write_bytes(b"\0\1")
    assert TextClassification(str(tmp_path), tokenizer="char").num_classes == 3
