"""Tables: csv files, the diabetes data, and rows to predict on."""

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from datamodules import CSVTable, Diabetes, TableInputs
from datamodules.core.errors import DataError, OptionError, UserError
from datamodules.core.randomness import permutation
from datamodules.tables import table
from datamodules.tables.prepared import TableBatch

CITIES = np.array(["Oslo", "Rome", "Bern, Köln", 'the "Hague"'])


def columns(count: int = 60) -> dict[str, np.ndarray]:
    """Numbers of different scales, two columns of texts, a constant one and a target."""
    rng = np.random.default_rng(1)
    return {
        "age": rng.integers(18, 90, count),
        "city": rng.choice(CITIES, count),
        "income": rng.lognormal(10, 1, count),
        "flat": np.full(count, 0.1),
        "grade": rng.choice(["a", "b"], count),
        "price": rng.normal(200, 50, count),
    }


def write(path: Path, table: dict[str, np.ndarray], delimiter: str = ",") -> str:
    def cell(value) -> str:
        text = str(value)
        quoted = delimiter in text or '"' in text or "\n" in text
        return '"' + text.replace('"', '""') + '"' if quoted else text

    rows = [table.keys(), *zip(*table.values(), strict=True)]
    path.write_text("".join(delimiter.join(map(cell, row)) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture
def csv_path(tmp_path: Path) -> str:
    return write(tmp_path / "flats.csv", columns())


def rows(data, stage: str) -> np.ndarray:
    return data.split(stage).rows


def features(data) -> np.ndarray:
    """All rows as the net gets them, in the file's order."""
    data.setup()
    return data.split("train").features


# ------------------------------------------------------------------ what a table is


def test_facts_are_right_as_soon_as_it_is_built(csv_path) -> None:
    data = CSVTable(csv_path, target="price")
    assert data.feature_names[:3] == ["age", "income", "flat"]
    assert sorted(data.feature_names[3:]) == sorted(
        [*(f"city={name}" for name in CITIES), "grade=a", "grade=b"]
    )
    assert (data.in_channels, data.input_shape, data.num_classes) == (9, (9,), 1)
    assert (data.image_size, data.label_kind, data.target_name) == (None, "continuous", "price")
    target = columns()["price"]
    data.setup("fit")
    train = target[rows(data, "train")]
    assert data.target_mean == pytest.approx(train.mean(), rel=1e-12)
    assert data.target_std == pytest.approx(train.std(), rel=1e-12)


def test_splits(csv_path) -> None:
    def splits(**kwargs) -> list[list[int]]:
        data = CSVTable(csv_path, target="price", **kwargs)
        data.setup()
        return [rows(data, stage).tolist() for stage in ("train", "val", "test")]

    train, val, test = splits()
    assert (len(train), len(val), len(test)) == (42, 6, 12)
    assert sorted(train + val + test) == list(range(60))
    assert splits(seed=5) == [train, val, test]
    assert splits(split_seed=1)[2] != test
    assert len(splits(val_fraction=0.001)[1]) == 1


def test_encoded_as_scikit_learn_does(csv_path) -> None:
    table = columns()
    data = CSVTable(csv_path, target="price")
    encoded = features(data)
    train = rows(data, "train")
    numbers = np.stack([table[name] for name in ("age", "income", "flat")], axis=1)
    texts = np.stack([table[name] for name in ("city", "grade")], axis=1)
    expected = np.concatenate(
        [
            StandardScaler().fit(numbers[train]).transform(numbers),
            OneHotEncoder(handle_unknown="ignore", sparse_output=False)
            .fit(texts[train])
            .transform(texts),
        ],
        axis=1,
    )
    np.testing.assert_allclose(encoded, expected, rtol=1e-6, atol=1e-6)
    assert encoded.dtype == np.float32
    assert np.all(encoded[:, 2] == 0)  # the constant column


@pytest.fixture
def by_number(monkeypatch) -> None:
    """Rows are split by their numbers, so that one that is changed stays in its split."""
    monkeypatch.setattr(table, "row_keys", lambda columns: np.arange(len(columns["price"])))


def test_nothing_is_learnt_from_validation_and_test_rows(csv_path, tmp_path, by_number) -> None:
    data = CSVTable(csv_path, target="price")
    encoded = features(data)
    changed = columns()
    changed["city"] = changed["city"].astype(object)
    for row in [*rows(data, "val"), *rows(data, "test")]:
        changed["age"][row] += 1000
        changed["flat"][row] = 7
        changed["city"][row] = "Atlantis"
        changed["price"][row] = -1e6
    other = CSVTable(
        write(tmp_path / "other.csv", changed), target="price", partition=data.partition
    )
    theirs = features(other)
    keep = ("means", "stds", "categories", "target_mean", "target_std", "feature_names")
    assert {name: getattr(other, name) for name in keep} == {
        name: getattr(data, name) for name in keep
    }
    train, test = rows(data, "train"), rows(data, "test")
    assert np.array_equal(theirs[train], encoded[train])
    assert np.all(theirs[test, 2] == 0)  # constant in training: no net has learnt to read it
    assert np.all(theirs[test, 3:7] == 0)  # a city that training did not see
    assert np.all(theirs[test, 0] > encoded[test, 0] + 10)


def test_a_category_of_test_rows_alone_gives_zeros(tmp_path, by_number) -> None:
    cells = columns()
    data = CSVTable(write(tmp_path / "a.csv", cells), target="price")
    data.setup()
    cells["city"] = cells["city"].astype(object)
    cells["city"][rows(data, "test")[0]] = "Atlantis"
    data = CSVTable(write(tmp_path / "b.csv", cells), target="price")
    assert "city=Atlantis" not in data.feature_names
    assert features(data)[rows(data, "test")[0], 3:7].tolist() == [0, 0, 0, 0]
    assert np.all(features(data)[rows(data, "train"), 3:7].sum(axis=1) == 1)


def test_columns_of_choice(tmp_path) -> None:
    table = {**columns(), "zip": np.arange(60) % 3 + 10}
    path = write(tmp_path / "t.tsv", table, delimiter="\t")
    data = CSVTable(path, target="price", ignore=["city", "grade"], delimiter="\t")
    assert data.feature_names == ["age", "income", "flat", "zip"]
    data = CSVTable(
        path, target="price", ignore=["age", "flat"], categorical=["zip", "city", "grade"],
        delimiter="\t",
    )  # fmt: skip
    assert data.means.keys() == {"income"}
    assert data.categories["zip"] == ["10", "11", "12"]


def test_forms_of_numbers_and_files(tmp_path) -> None:
    path = tmp_path / "forms.csv"
    texts = ["1", "+2", "-3.5", " 4 ", "5.", ".5", "1e3", "-2.5E-1", '"6"', "007"]
    body = "".join(f"{text},{number},x\r\n" for number, text in enumerate(texts))
    path.write_bytes(('\ufeff\r\n a ,y,"b\nc"\r\n\r\n' + body).encode())
    data = CSVTable(str(path), target="y", ignore=["b\nc"])
    numbers = np.array([1, 2, -3.5, 4, 5, 0.5, 1000, -0.25, 6, 7])
    got = features(data)[:, 0] * data.stds["a"] + data.means["a"]
    np.testing.assert_allclose(got, numbers, rtol=1e-5, atol=1e-4)


# ------------------------------------------------------------------ batches


def test_a_batch(csv_path) -> None:
    data = CSVTable(csv_path, target="price", batch_size=16)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, TableBatch)
    assert batch.features.shape == (16, 9)
    assert (batch.features.dtype, batch.target.dtype) == (torch.float32, torch.float64)
    assert batch.index.dtype == torch.int64
    target = torch.from_numpy(columns()["price"])
    assert torch.equal(batch.target, target[batch.index])
    assert np.array_equal(batch.features.numpy(), features(data)[batch.index.numpy()])
    one = data.split("val")[2]
    assert torch.equal(one.features, data.split("val").__getitems__([2]).features[0])
    assert one.index.shape == ()


@pytest.mark.parametrize("workers", [0, 2])
def test_order_is_a_function_of_seed_and_epoch(csv_path, workers) -> None:
    data = CSVTable(csv_path, target="price", batch_size=16, seed=3, num_workers=workers)
    data.setup("fit")
    order = permutation(42, 3, 0).numpy()
    got = [batch.index.numpy() for batch in data.train_dataloader()]
    assert [len(index) for index in got] == [16, 16, 10]
    assert np.array_equal(np.concatenate(got), rows(data, "train")[order])
    assert data.smallest_train_batch == 10


def test_shards_of_evaluation_are_complete(csv_path) -> None:
    data = CSVTable(csv_path, target="price", test_fraction=0.22, batch_size=8)
    data.setup("test")
    shards = []
    for rank in range(2):
        data._shard = lambda rank=rank: (rank, 2)
        shards.append([i for batch in data.test_dataloader() for i in batch.index.tolist()])
    assert [len(shard) for shard in shards] == [7, 6]
    assert sorted(shards[0] + shards[1]) == rows(data, "test").tolist()


def test_resumed_run_is_the_uninterrupted_one(csv_path, trainer, tmp_path) -> None:
    import lightning.pytorch as pl

    class Line(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(9, 1)
            self.seen: list[list[int]] = []

        def training_step(self, batch: TableBatch, batch_idx: int) -> torch.Tensor:
            self.seen.append(batch.index.tolist())
            if len(self.seen) == 5 and not path.exists():
                self.trainer.save_checkpoint(path)
            return (self.net(batch.features)[:, 0] - batch.target / 100).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    path = tmp_path / "run.ckpt"

    def run(ckpt_path=None) -> Line:
        torch.manual_seed(0)
        model = Line()
        data = CSVTable(csv_path, target="price", batch_size=16)
        trainer(max_epochs=3, limit_val_batches=0).fit(
            model, datamodule=data, ckpt_path=ckpt_path, weights_only=ckpt_path and False
        )
        return model

    whole = run()
    assert len(whole.seen) == 9
    assert len({tuple(index) for index in whole.seen}) == 9
    resumed = run(path)
    assert resumed.seen == whole.seen[4:]
    assert torch.equal(resumed.net.weight, whole.net.weight)


# ------------------------------------------------------------------ built again, and predicted on


def test_resolved_rebuilds_it_with_the_same_statistics(csv_path, tmp_path) -> None:
    data = CSVTable(csv_path, target="price", ignore=["flat"], split_seed=2)
    spec = json.loads(json.dumps(data.resolved()))
    assert spec == data.resolved()
    assert spec["class_path"] == "datamodules.CSVTable"
    again = CSVTable(**spec["init_args"])
    assert again.resolved() == spec
    assert again.feature_names == data.feature_names
    assert np.array_equal(features(again), features(data))
    # Another file under the same name: what the net was trained with stays.
    cells = columns(80)
    cells["age"] *= 2
    write(Path(csv_path), cells)
    with pytest.warns(UserWarning, match=r"flats.csv' has other rows than those that the net was"):
        moved = CSVTable(**spec["init_args"]).resolved()
    moved["init_args"]["partition"] = spec["init_args"]["partition"]
    assert moved == spec
    for option, value in (("target", "age"), ("categorical", ["age"]), ("ignore", ["age"])):
        with pytest.raises(OptionError, match=f"{option} is .*than 'age', an input by means"):
            CSVTable(**{**spec["init_args"], option: value})


def test_inputs_are_prepared_as_the_table_was(csv_path, tmp_path, trainer) -> None:
    data = CSVTable(csv_path, target="price", delimiter=",", batch_size=16)
    spec = json.loads(json.dumps(data.inputs_spec()))
    assert spec == data.inputs_spec()
    assert spec["class_path"] == "datamodules.TableInputs"
    table = columns()
    del table["price"]
    table = {"more": np.array(["?"] * 60), **dict(reversed(table.items()))}
    table["city"] = table["city"].astype(object)
    table["city"][3] = "Atlantis"
    table["more"] = table["more"].astype(object)
    table["more"][1] = "two\nlines"
    new = write(tmp_path / "new.csv", table)
    inputs = TableInputs(inputs=[new, csv_path], **spec["init_args"])
    for fact in ("feature_names", "in_channels", "input_shape", "image_size", "num_classes",
                 "label_kind", "target_name", "target_mean", "target_std"):  # fmt: skip
        assert getattr(inputs, fact) == getattr(data, fact), fact
    assert inputs.names[:3] == [f"{new}:2", f"{new}:3", f"{new}:5"]
    assert inputs.names[60] == f"{csv_path}:2"
    assert len(inputs.names) == 120
    batches = list(inputs.predict_dataloader())
    assert [len(batch.index) for batch in batches] == [16] * 7 + [8]
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(120))
    assert all(batch.target.isnan().all() for batch in batches)
    got = torch.cat([batch.features for batch in batches]).numpy()
    expected = features(data)
    assert np.array_equal(got[60:], expected)
    expected[3, 3:7] = 0
    assert np.array_equal(got[:60], expected)
    assert TableInputs(**inputs.resolved()["init_args"]).resolved() == inputs.resolved()


def test_inputs_that_will_not_do(csv_path, tmp_path) -> None:
    spec = CSVTable(csv_path, target="price").inputs_spec()["init_args"]

    def refused(words: str, *paths: str) -> None:
        with pytest.raises(UserError, match=words):
            TableInputs(inputs=list(paths), **spec)

    refused(r"option inputs is \[\]; give csv files")
    refused("inputs is '.*absent.csv'; .*does not exist", csv_path, str(tmp_path / "absent.csv"))
    refused("inputs is '.*'; .*this is a folder", str(tmp_path))
    table = columns()
    table["ages"] = table.pop("age")
    table.pop("grade")
    path = write(tmp_path / "new.csv", table)
    refused(r"'.*new.csv' lacks the column 'age' and 1 more .*; did you mean 'ages'\?", path)
    table = {**columns(), "age": np.array(["?", *["3"] * 59])}
    path = write(tmp_path / "new.csv", table)
    refused(r"column 'age' of '.*new.csv' has 1 text .* '\?' in line 2", path)


def test_rows_whose_columns_will_not_do_are_refused_together(csv_path, tmp_path) -> None:
    spec = CSVTable(csv_path, target="price").inputs_spec()["init_args"]
    table = {
        **columns(),
        "age": np.array(["?", *["3"] * 59]),
        "city": np.array(["", *["Rome"] * 59]),
    }
    message = (
        r"2 columns of '.*' cannot be used: 'age' has 1 text among its numbers, the first being "
        r"'\?' in line 2; 'city' has 1 missing value, the first in line 2; mend them$"
    )
    with pytest.raises(UserError, match=message):
        TableInputs(inputs=[write(tmp_path / "new.csv", table)], **spec)


def test_one_column_may_be_named_without_a_list(csv_path) -> None:
    alone = CSVTable(csv_path, target="price", ignore="city", categorical="grade")
    listed = CSVTable(csv_path, target="price", ignore=["city"], categorical=["grade"])
    assert (
        alone.feature_names
        == listed.feature_names
        == ["age", "income", "flat", "grade=a", "grade=b"]
    )
    assert alone.resolved() == listed.resolved()


def test_diabetes() -> None:
    source = load_diabetes(scaled=False)
    data = Diabetes()
    assert (data.in_channels, data.image_size, data.num_classes) == (10, None, 1)
    assert data.feature_names == source.feature_names
    assert data.target_name == "progression"
    data.setup()
    parts = {stage: data.split(stage) for stage in ("train", "val", "test")}
    assert {stage: len(part) for stage, part in parts.items()} == {
        "train": 310, "val": 44, "test": 88
    }  # fmt: skip
    scaler = StandardScaler().fit(source.data[parts["train"].rows])
    for part in parts.values():
        batch = part.__getitems__(list(range(len(part))))
        expected = scaler.transform(source.data[part.rows])
        np.testing.assert_allclose(batch.features.numpy(), expected, rtol=1e-5, atol=1e-5)
        assert np.array_equal(batch.target.numpy(), source.target[part.rows])
        assert np.array_equal(batch.index.numpy(), part.rows)
    train = source.target[parts["train"].rows]
    assert data.target_mean == pytest.approx(train.mean())
    assert data.target_std == pytest.approx(train.std())
    assert Diabetes(**data.resolved()["init_args"]).resolved() == data.resolved()


def test_rows_of_diabetes_from_a_file(tmp_path) -> None:
    source = load_diabetes(scaled=False)
    table = dict(zip(source.feature_names, source.data.T, strict=True))
    path = write(tmp_path / "patients.csv", table)
    data = Diabetes()
    inputs = TableInputs(inputs=[path], **data.inputs_spec()["init_args"])
    got = next(iter(inputs.predict_dataloader())).features.numpy()
    np.testing.assert_array_equal(got, features(data)[:128])


# ------------------------------------------------------------------ texts that are no categories

TWENTY = range(20)
WRITTEN = {
    "decimal commas": ([f"{n},5" for n in TWENTY], "numbers with a comma, 20 of 20 .*'0,5' in l"),
    "thousands": ([f"{n + 1},234,567.5" for n in TWENTY], "numbers with a comma.*'1,234,567.5'"),
    "some commas": (
        [*map(str, range(8)), *(f"1,{n}" for n in range(8)), *"abcd"],
        "numbers with a comma, 8 of 20 values, the first being '1,0' in line 10; write a decimal "
        "point and no separators of thousands, or list the column in categorical or in ignore",
    ),
    "dates": (
        [f"2024-01-{n + 1:02}" for n in TWENTY],
        "dates or times, 20 of 20 values, the first being '2024-01-01' in line 2; turn them into",
    ),
    "moments": ([f"2024-01-{n + 1:02}T12:30:00Z" for n in TWENTY], "dates or times"),
    "dates of Europe": ([f"{n + 1}.1.2024 12:30" for n in TWENTY], "dates or times"),
    "dates of America": ([f"1/{n + 1}/24" for n in TWENTY], "dates or times"),
    "times": ([f"{n}:30" for n in TWENTY], "dates or times"),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_numbers_and_dates_in_another_form_are_no_categories(tmp_path, form) -> None:
    values, words = WRITTEN[form]
    table = {"x": np.arange(20), "when": np.array(values), "y": np.arange(20) ** 2}
    path = write(tmp_path / "t.csv", table, delimiter=";")
    with pytest.raises(DataError, match=words):
        CSVTable(path, target="y", delimiter=";")
    chosen = CSVTable(path, target="y", delimiter=";", categorical=["when"])
    assert chosen.categories.keys() == {"when"}
    again = CSVTable(**{**chosen.resolved()["init_args"], "categorical": None})
    assert again.feature_names == chosen.feature_names


def test_words_that_hold_numbers_are_categories(tmp_path, capsys) -> None:
    sizes = np.array(["3-5", "10-12", "A 1,5", "v1.2"] * 5)
    path = write(tmp_path / "t.csv", {"size": sizes, "y": np.arange(20)})
    assert CSVTable(path, target="y").categories["size"] == sorted(set(sizes))
    assert capsys.readouterr().out == ""


def test_a_column_of_almost_as_many_categories_as_rows_is_told(tmp_path, capsys) -> None:
    names = np.array([f"n{n}" for n in range(18)] + ["n0", "n0"])
    path = write(tmp_path / "t.csv", {"x": np.arange(20), "name": names, "y": np.arange(20)})
    told = "CSVTable: column 'name' of .* has 18 categories in 20 rows, .* list it in ignore"
    data = CSVTable(path, target="y")
    assert re.search(told, capsys.readouterr().out)
    CSVTable(**data.resolved()["init_args"])
    CSVTable(path, target="y", categorical=["name"])
    CSVTable(path, target="y", ignore=["name"])
    assert "too many" not in capsys.readouterr().out


def test_values_that_training_did_not_see_are_counted(csv_path, tmp_path, capsys) -> None:
    spec = CSVTable(csv_path, target="price").inputs_spec()["init_args"]
    table = columns()
    table["city"] = table["city"].astype(object)
    table["city"][[3, 4, 9]] = ["Atlantis", "Ys", "Atlantis"]
    path = write(tmp_path / "new.csv", table)
    assert capsys.readouterr().out == ""
    TableInputs(inputs=[csv_path, path], **spec)
    assert capsys.readouterr().out == (
        f"TableInputs: 3 of 60 rows of '{path}' have in column 'city' what no training row has, "
        "the first 'Atlantis'; it counts as no category\n"
    )


# ------------------------------------------------------------------ the command line


def test_the_command_line_sees_every_option_and_keeps_every_name(tmp_path) -> None:
    from jsonargparse import ArgumentParser

    table = {"a.b": np.arange(20.0), "no": np.array(["no", "1", "1e3", "null?", "off"] * 4)}
    table["y: 1"] = np.arange(20) ** 2 * 1e-9
    path = write(tmp_path / "odd.csv", table)
    data = CSVTable(path, target="y: 1")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(CSVTable, "csv")
    parser.add_class_arguments(Diabetes, "diabetes")
    parser.add_class_arguments(TableInputs, "inputs")
    text = parser.format_help()
    for option in ("csv.target", "csv.val_fraction", "diabetes.batch_size", "diabetes.split_seed",
                   "inputs.delimiter"):  # fmt: skip
        assert f"--{option} " in text
    for name, built in (("csv", data), ("inputs", None)):
        sub = ArgumentParser(exit_on_error=False)
        sub.add_class_arguments(CSVTable if built else TableInputs, name)
        arguments = (built.resolved() if built else data.inputs_spec())["init_args"]
        arguments = arguments if built else {**arguments, "inputs": [path]}
        parsed = sub.parse_string(json.dumps({name: arguments}))
        given = parsed.as_dict()[name]
        assert {key: given[key] for key in arguments} == arguments
        assert sub.instantiate_classes(parsed)[name].feature_names == data.feature_names


# ------------------------------------------------------------------ what will not do

GOOD = "a,b,y\n" + "".join(f"{n},{n % 3},{n * n}\n" for n in range(20))
LINES = GOOD.splitlines()


def with_line(number: int, line: str) -> str:
    """The good file with another line, counted from 1."""
    return "\n".join([*LINES[: number - 1], line, *LINES[number:]]) + "\n"


BAD_FILES = {
    "empty": ("", "'t.csv' is empty"),
    "blank": ("\n\n", "'t.csv' is empty"),
    "header alone": ("a,b,y\n", "'t.csv' has a header but no rows"),
    "header alone, unended": ("a,b,y", "'t.csv' has a header but no rows"),
    "missing": (
        with_line(17, ",2,3"),
        "column 'a' of 't.csv' has 1 missing value, the first in line 17; fill or remove such "
        "rows, or list the column in ignore$",
    ),
    "missing in the target": (
        with_line(17, "1,2,"),
        "column 'y' of 't.csv' has 1 missing value, the first in line 17; fill or remove such "
        "rows$",
    ),
    "missing by name": (
        with_line(5, "3,NA,3").replace("\n0,0,0", "\n\n0, ,"),
        r"2 columns of 't.csv' cannot be used: 'b' has 2 missing values, the first in line 3; 'y' "
        r"has 1 missing value, the first in line 3; mend them, or leave the others out by ignore: "
        r"\['b'\]",
    ),
    "all kinds of faults at once": (
        ",day,name,a,b,c,d,y\n"
        + "".join(
            f"{n},2020-01-{n % 28 + 1:02},n{n},{'x' * (n == 3) or n},,1e99,{n},{n}\n"
            for n in range(1100)
        ),
        r"^6 columns of 't.csv' cannot be used: 1 has no name, as a table's index has .* wrote; "
        r"'day' has dates or times, 1100 of 1100 values, the first being '2020-01-01' in line 2; "
        r"'name' has 1100 categories in its 1100 rows, where 1000 are possible; 'a' has 1 text "
        r"among its numbers, the first being 'x' in line 5; 'b' has 1,100 missing values, the "
        r"first in line 2; likewise 'c'; mend them, or leave them out by ignore: "
        r"\['', 'day', 'name', 'a', 'b', 'c'\]$",
    ),
    "text": (
        with_line(9, "seven,1,2"),
        "column 'a' of 't.csv' has 1 text among its numbers, the first being 'seven' in line 9; "
        "mend them, or list the column in categorical",
    ),
    "texts in the target": (
        with_line(3, "1,1,high").replace("81", "low"),
        "column 'y' of 't.csv' has 2 texts among its numbers, the first being 'high' in line 3; "
        "mend them, or choose another target",
    ),
    "infinite": (with_line(4, "2,-inf,4"), "'b' of 't.csv' has 1 number that float32 .* '-inf' in"),
    "huge": (with_line(4, "2,2,1e39"), "'y' of 't.csv' has 1 number that float32 .* '1e39' in"),
    "short row": (with_line(6, "1,2"), "has 1 row whose .* header's 3, the first in line 6 with 2"),
    "long rows": (
        with_line(6, "1,2,3,4").replace("\n0,0,0", "\n0,0,0,0"),
        "has 2 rows whose number of values is not the header's 3, the first in line 2 with 4",
    ),
    "twice": (GOOD.replace("a,b,y", "a,a,y"), "'t.csv' has 2 columns named 'a'; rename"),
    "target twice": (GOOD.replace("a,b,y", "a,y,y"), "'t.csv' has 2 columns named 'y'"),
    "nameless": (GOOD.replace("a,b,y", ",b,y"), r"column 1 of 't.csv' has no name.*ignore: \[''\]"),
    "one value": (
        "a,y\n" + "".join(f"{n},3\n" for n in range(9)),
        "^column 'y' of 't.csv' has one value, 3, in all 6 training rows",
    ),
    "target alone": ("y\n1\n2\n3\n", "'t.csv' has no column to predict 'y' from"),
    "few rows": ("a,y\n1,2\n3,4\n5,6\n", "val_fraction, or add rows: 2 of 3 would leave too few"),
    "identifiers": (
        "a,y\n" + "".join(f"n{n},{n}\n" for n in range(2000)),
        "column 'a' of 't.csv' has 2000 categories in its 2000 rows, .* in ignore",
    ),
    "another delimiter": (
        GOOD.replace(",", "^"), r"target is 'y'; give a column of 't.csv' .delimiter ',' finds one"
    ),
    "no encoding": (
        with_line(4, "2,\x81,4").encode("latin-1"), r"'t.csv' is not text in UTF-8: byte 20 .0x81."
    ),
    "a header in no encoding": (b"a,\x81,y\n1,2,3\n", "'t.csv' is not text in UTF-8: byte 2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_FILES)
def test_files_that_will_not_do(tmp_path, monkeypatch, fault) -> None:
    monkeypatch.chdir(tmp_path)
    content, words = BAD_FILES[fault]
    Path("t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=words) as caught:
        CSVTable("t.csv", target="y")
    assert "\n" not in str(caught.value)


BAD_OPTIONS = [
    ({"path": "u.csv"}, "path is 'u.csv'; give a csv file: this does not exist"),
    ({"path": "."}, "path is '.'; give a csv file: this is a folder"),
    ({"target": "prize"}, r"target is 'prize'; give a column of 't.csv' .did you mean 'price'\?"),
    ({"target": "zzz"}, "target is 'zzz'; .* .there are 'age', 'city'"),
    ({"target": "city"}, "column 'city' of 't.csv' has 60 texts .* choose another target"),
    ({"categorical": ["citys"]}, r"categorical is 'citys'; give a column .*'city'\?"),
    ({"ignore": ["ages"]}, r"ignore is 'ages'; give a column .*'age'\?"),
    ({"ignore": ["price"]}, r"ignore is .*\]; remove the target, 'price'"),
    ({"categorical": ["price"]}, r"categorical is .*; remove the target, 'price'"),
    (
        {"categorical": ["age"], "ignore": ["age"]},
        "categorical is .*; remove 'age' there or from ignore",
    ),
    ({"categorical": ["city"]}, "column 'grade' of 't.csv' has 60 texts among .* in categorical"),
    ({"delimiter": ";;"}, "delimiter is ';;'; give one ASCII"),
    ({"delimiter": "§"}, "delimiter is '§'; give one ASCII"),
    ({"val_fraction": 1.0}, r"option val_fraction is 1\.0"),
    ({"test_fraction": -0.5}, r"option test_fraction is -0\.5"),
    (
        {"val_fraction": 0.5, "test_fraction": 0.5},
        "lower it or val_fraction, .*: 60 of 60 would leave too few",
    ),
    ({"batch_size": 0}, "option batch_size is 0"),
    ({"means": {"age": 0.0}}, "means is .*; give all or none of it, stds and categories"),
    (
        {"means": {}, "stds": {}, "categories": {}},
        "means is {}; name a column at least, there or in categories",
    ),
    (
        {"means": {"age": 1.0}, "stds": {}, "categories": {}},
        "means is .*; name the columns of stds",
    ),
    (
        {"means": {"age": 1.0}, "stds": {"age": -1.0}, "categories": {}},
        r"stds is .*-1\.0}; give 0 or more for 'age'",
    ),
    ({"means": {"ag": 1.0}, "stds": {"ag": 1.0}, "categories": {}}, r"column 'ag' .*'age'\?"),
    (
        {"target_mean": 1.0},
        r"target_mean is 1\.0; give both or neither .* target_std, .* null",
    ),
    ({"target_mean": 1.0, "target_std": 0.0}, r"option target_std is 0\.0"),
]


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS)
def test_options_that_cannot_be(tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("t.csv"), columns())
    with pytest.raises(UserError, match=words):
        CSVTable(**{"path": "t.csv", "target": "price", **options})


def test_a_split_that_is_empty(csv_path) -> None:
    data = CSVTable(csv_path, target="price", val_fraction=0.0)
    with pytest.raises(UserError, match="val split is empty; give a larger val_fraction or more r"):
        data.setup("fit")
    with pytest.raises(
        OptionError, match=r"means is .*; remove 'height', which is no numeric column of Diabetes"
    ):
        Diabetes(means={"height": 1.0}, stds={"height": 1.0}, categories={})


def test_columns_and_categories_in_two_forms_of_unicode(tmp_path) -> None:
    rng = np.random.default_rng(0)
    paths = {}
    for form in ("NFC", "NFD"):
        names = {
            "é": rng.normal(size=40),
            "도시": ["서울", "Kölln"] * 20,
            "값": rng.normal(size=40),
        }
        text = Path(write(tmp_path / form, names)).read_text()
        paths[form] = tmp_path / f"{form}.csv"
        paths[form].write_text(unicodedata.normalize(form, text))
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        target, ignored = (unicodedata.normalize(other, name) for name in ("값", "é"))
        data = CSVTable(str(paths[form]), target=target)
        assert data.feature_names == ["é", "도시=Kölln", "도시=서울"]
        assert CSVTable(str(paths[form]), target=target, ignore=[ignored]).in_channels == 2
        spec = data.inputs_spec()["init_args"]
        inputs = TableInputs([str(paths[other])], **spec)
        [batch] = inputs.predict_dataloader()
        assert (batch.features[:, 1:].sum(dim=1) == 1).all()
