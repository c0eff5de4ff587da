import hashlib
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from datamodules.core.errors import DataError, OptionError
from datamodules.images import medmnist
from datamodules.images.medmnist import ImageNpz, MedMNIST
from datamodules.images.medmnist_sets import CITATION, SETS, about

COUNTS = {"train": 30, "val": 12, "test": 9}
KINDS = {
    "binary-class": "binary",
    "multi-class": "multiclass",
    "multi-label, binary-class": "multilabel",
    "ordinal-regression": "ordinal",
}


def arrays(classes: int = 3, size: int = 28, colour: bool = False, several: bool = False) -> Any:
    """Random images whose labels go round, as an official file holds them."""
    rng = np.random.default_rng(0)
    content = {}
    for split, count in COUNTS.items():
        shape = (count, size, size, 3) if colour else (count, size, size)
        content[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8)[:, None] % classes
        content[f"{split}_labels"] = (labels == np.arange(classes)) * 1 if several else labels
    return content


def write(path: Path, content: dict[str, np.ndarray]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **content)
    return str(path)


def part(root: Path, name: str, size: int = 28, **kwargs: Any) -> MedMNIST:
    """A small file in the place of an official one."""
    facts = SETS[name]
    content = arrays(len(facts.classes), size, facts.channels == 3, facts.kind == "multilabel")
    write(root / (f"{name}.npz" if size == 28 else f"{name}_{size}.npz"), content)
    options = {"verify": False, "allow_missing_classes": True, "size": size, **kwargs}
    return MedMNIST(name, root=str(root), **options)


# --- facts ---------------------------------------------------------------------------------------


@pytest.fixture
def info(monkeypatch, tmp_path) -> dict[str, Any]:
    monkeypatch.setenv("HOME", str(tmp_path))  # medmnist makes a folder there
    return {
        name: facts
        for name, facts in pytest.importorskip("medmnist").INFO.items()
        if not name.endswith("3d")
    }


def test_facts_are_the_authors(info) -> None:
    assert list(SETS) == list(info)
    for name, facts in info.items():
        ours = SETS[name]
        assert ours.kind == KINDS[facts["task"]]
        assert ours.channels == facts["n_channels"]
        assert ours.licence == facts["license"]
        assert dict(zip(COUNTS, ours.samples, strict=True)) == facts["n_samples"]
        assert ours.classes == [facts["label"][str(i)] for i in range(len(facts["label"]))]
        for size, suffix in ((28, ""), (64, "_64"), (128, "_128"), (224, "_224")):
            data = MedMNIST(name, root="nowhere", size=size)
            assert data.url == facts[f"url{suffix}"]
            assert ours.md5[size] == facts[f"MD5{suffix}"]
        assert sorted(ours.md5) == [28, 64, 128, 224]


def test_every_set_is_told_about() -> None:
    paragraphs = about().split("\n\n")
    told = {lines[0]: " ".join(lines[1:]) for lines in (text.split("\n") for text in paragraphs)}
    for name, facts in SETS.items():
        text = " ".join(told[name].split())
        colour = "grey" if facts.channels == 1 else "colour"
        counts = " / ".join(f"{count:,}" for count in facts.samples)
        assert text.startswith(f"{facts.kind}, {len(facts.classes)} classes, {facts.licence}; ")
        assert f"; {colour}, 28, 64, 128, 224 pixels {counts} images for" in text
        assert text.endswith("; ".join(facts.classes))
    assert " ".join(paragraphs[-1].split()) == f"Citation: {CITATION}"
    assert max(map(len, about().split("\n"))) <= 100
    first = str(MedMNIST.__doc__).split("\n")[0]
    assert "CC BY 4.0, dermamnist CC BY-NC 4.0" in first
    assert {name for name, facts in SETS.items() if facts.licence != "CC BY 4.0"} == {"dermamnist"}


def test_facts_need_no_file() -> None:
    data = MedMNIST("dermamnist", root="nowhere", size=64)
    assert (data.label_kind, data.num_classes, data.input_shape) == ("multiclass", 7, (3, 64, 64))
    assert data.class_names[4] == "melanoma"
    assert data.licence == "CC BY-NC 4.0"
    assert "10.1038/s41597-022-01721-8" in data.citation
    assert type(data)(**data.resolved()["init_args"]).resolved() == data.resolved()


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size"), [(name, 28) for name in SETS] + [("breastmnist", 64)])
def test_each_set(tmp_path, name, size) -> None:
    data = part(tmp_path, name, size)
    content = np.load(tmp_path / (f"{name}_64.npz" if size == 64 else f"{name}.npz"))
    data.prepare_data()
    data.setup()
    first = 0
    for split, count in COUNTS.items():
        dataset = data.split(split)
        batch = dataset.__getitems__(list(range(count)))
        images = content[f"{split}_images"].reshape(count, size, size, -1)
        assert np.array_equal(batch.image.permute(0, 2, 3, 1).numpy(), images)
        labels = content[f"{split}_labels"]
        if data.label_kind != "multilabel":
            labels = labels[:, 0]
        assert batch.label.dtype == torch.int64
        assert np.array_equal(batch.label.numpy(), labels)
        assert batch.index.tolist() == list(range(first, first + count))
        first += count
    prepared = data.prepare_batch(batch, training=False, epoch=0)
    assert prepared.image.shape == (9, data.in_channels, size, size)
    assert torch.equal(data.denormalize(prepared.image), batch.image)


def test_real_files(real_images) -> None:
    root = str(real_images / "medmnist")
    for name, ones in (("breastmnist", 114), ("pneumoniamnist", 390)):
        data = MedMNIST(name, root=root, download=False, verify=False)
        data.prepare_data()
        data.setup()
        counts = [len(data.split(split)) for split in COUNTS]
        assert list(counts) == SETS[name].samples
        test = data.split("test")
        assert int(test.labels.sum()) == ones
    with pytest.raises(DataError, match=r"breastmnist\.npz' has not the md5 sum .* verify: false"):
        MedMNIST("breastmnist", root=root).setup("fit")


def test_real_cells(real_images) -> None:
    path = str(real_images / "bccd" / "bccd_cells_32.npz")
    data = ImageNpz(path, ["RBC", "WBC", "platelets"])
    data.setup()
    assert (data.num_classes, data.image_size, data.in_channels) == (3, 32, 3)
    assert data.label_kind == "multiclass"
    assert np.bincount(data.split("train").labels).tolist() == [2381, 214, 209]


def test_md5(tmp_path, monkeypatch) -> None:
    part(tmp_path, "breastmnist")
    path = tmp_path / "breastmnist.npz"
    right = hashlib.md5(path.read_bytes()).hexdigest()
    facts = SETS["breastmnist"]._replace(md5={28: right})
    monkeypatch.setitem(SETS, "breastmnist", facts)
    MedMNIST("breastmnist", root=str(tmp_path)).setup()
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"breastmnist\.npz' has not the md5 sum"):
        MedMNIST("breastmnist", root=str(tmp_path)).setup()


def test_large_arrays_are_mapped(tmp_path, monkeypatch) -> None:
    for name in ("breastmnist", "retinamnist"):
        data = part(tmp_path, name)
        data.setup()
        assert not isinstance(data.split("train").images, np.memmap)
        with monkeypatch.context() as patch:
            patch.setattr(medmnist, "IN_MEMORY", 0)
            mapped = part(tmp_path, name)
            mapped.setup()
            dataset = mapped.split("train")
            assert isinstance(dataset.images, np.memmap)
            assert np.array_equal(dataset.images, data.split("train").images)
            assert mapped.mean == data.mean
            # as it goes to a worker
            again = pickle.loads(pickle.dumps(dataset))
            assert np.array_equal(again.images, dataset.images)
            copies = list((tmp_path / "cache" / "npz").glob("*/images.npy"))
            assert copies
            times = [copy.stat().st_mtime_ns for copy in copies]
            patch.setattr("filelock.FileLock", None)  # a second run makes none
            MedMNIST(**mapped.resolved()["init_args"]).setup()
            assert [copy.stat().st_mtime_ns for copy in copies] == times
    monkeypatch.setattr(medmnist, "IN_MEMORY", 0)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    data = part(tmp_path, "breastmnist")
    with pytest.warns(UserWarning, match="held in memory; set ZOO_CACHE"):
        data.setup("fit")
    assert not isinstance(data.split("train").images, np.memmap)


def test_trains(tmp_path, trainer, recorder) -> None:
    path = write(tmp_path / "x.npz", arrays(colour=True, size=8))
    for options in ({}, {"resident": True}, {"num_workers": 1}):
        data = ImageNpz(path, batch_size=8, horizontal_flip=True, **options)
        model = recorder(192, 3)
        run = trainer(max_epochs=2)
        run.fit(model, datamodule=data)
        run.test(model, datamodule=data, verbose=False)
        seen = [i for _, index in model.seen for i in index]
        assert sorted(set(seen)) == list(range(51))
        if not options:
            expected = model.images
        assert all(torch.equal(*pair) for pair in zip(expected, model.images, strict=True))


def test_resident_images_are_the_same(tmp_path) -> None:
    path = write(tmp_path / "x.npz", arrays(colour=True, size=8))
    data, resident = ImageNpz(path), ImageNpz(path, resident=True)
    for each in (data, resident):
        each.setup()
    for split in COUNTS:
        images = [
            each.prepare_batch(
                each.split(split).__getitems__([0, 5, 2]), training=False, epoch=0
            ).image
            for each in (data, resident)
        ]
        assert torch.equal(*images)


# --- one's own files -----------------------------------------------------------------------------


def test_own_file_tells_its_facts(tmp_path) -> None:
    data = ImageNpz(write(tmp_path / "a.npz", arrays(classes=4, size=8)))
    assert (data.label_kind, data.class_names) == ("multiclass", ["0", "1", "2", "3"])
    assert data.input_shape == (1, 8, 8)
    several = ImageNpz(write(tmp_path / "b.npz", arrays(classes=4, size=8, several=True)))
    assert (several.label_kind, several.num_classes) == ("multilabel", 4)
    several.setup()
    assert several.split("train").__getitems__([1]).label.tolist() == [[0, 1, 0, 0]]
    binary = ImageNpz(write(tmp_path / "c.npz", arrays(classes=2, size=8)), label_kind="binary")
    assert (binary.label_kind, binary.num_classes) == ("binary", 2)
    flat = {key: value[:, 0] if "labels" in key else value for key, value in arrays().items()}
    ImageNpz(write(tmp_path / "d.npz", flat)).setup()
    again = ImageNpz(**several.resolved()["init_args"])
    assert again.resolved() == several.resolved()


def damage(content: dict[str, np.ndarray], change: str) -> None:
    if change == "keys":
        del content["val_labels"], content["test_images"]
    elif change == "floats":
        content["train_images"] = content["train_images"] / 255
    elif change == "objects":
        content["train_labels"] = content["train_labels"].astype(object)
    elif change == "label floats":
        content["train_labels"] = content["train_labels"] / 2
    elif change == "oblong":
        content["train_images"] = content["train_images"][:, :20]
    elif change == "sizes":
        content["val_images"] = content["val_images"][:, :20, :20]
    elif change == "counts":
        content["val_labels"] = content["val_labels"][:5]
    elif change == "columns":
        content["val_labels"] = np.repeat(content["val_labels"], 3, axis=1)
    elif change == "outside":
        content["val_labels"][3] = 7
    elif change == "absent":
        content["val_labels"][content["val_labels"] == 1] = 2
    elif change == "absent in training":
        content["train_labels"][content["train_labels"] == 1] = 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("keys", r"x\.npz' holds train_images, .*; add val_labels, test_images$"),
        ("floats", r"x\.npz': train_images is float64 of the shape \(30, 28, 28\); give .* uint8"),
        ("objects", r"x\.npz' cannot be read as npz \(Object arrays cannot be loaded"),
        ("label floats", r"x\.npz': train_labels is float64 .*; give whole numbers"),
        ("oblong", r"val_images holds images of 28 x 28 x 1 values, but 20 x 28 x 1 are expected"),
        ("sizes", r"val_images holds images of 20 x 20 x 1 values, but 28 x 28 x 1 are expected"),
        ("counts", r"x\.npz': val_images holds 12 images but val_labels 5 labels; mend the file"),
        ("columns", r"val_labels has the shape \(12, 3\), but multiclass .* want \(12,\)"),
        ("outside", r"val split holds 1 labels outside its 3 classes.*: 7 for one"),
        ("absent", r"x\.npz' has no image of class '1' in its val split; add some, or set allow_m"),
        ("absent in training", r"x\.npz' has no image of class '1' in its train split; add some$"),
    ],
)
def test_wrong_content(tmp_path, change, words) -> None:
    content = arrays()
    damage(content, change)
    path = write(tmp_path / "x.npz", content)
    with pytest.raises(DataError, match=words):
        ImageNpz(path).setup()
    if change == "absent":
        ImageNpz(path, allow_missing_classes=True).setup()
    if change == "absent in training":
        with pytest.raises(DataError, match=words):
            ImageNpz(path, allow_missing_classes=True).setup()


def test_wrong_files_and_options(tmp_path, monkeypatch) -> None:
    with pytest.raises(OptionError, match=r"path is .*absent\.npz'; give an npz file that exists"):
        ImageNpz(str(tmp_path / "absent.npz"))
    path = Path(write(tmp_path / "x.npz", arrays(size=64)))
    with pytest.raises(
        OptionError, match=r"class_names is \['a', 'b'\]; name all 3 .* that the labels of .* take"
    ):
        ImageNpz(str(path), ["a", "b"])
    with pytest.raises(OptionError, match=r"class_names is .* name each class once"):
        ImageNpz(str(path), ["a", "b", "a"])
    with pytest.raises(
        OptionError, match=r"label_kind is 'binary'; give another, as .* has 3 classes, not 2"
    ):
        ImageNpz(str(path), label_kind="binary")
    several = arrays(several=True)
    several["val_labels"][0, 0] = 2
    with pytest.raises(DataError, match="val_labels holds 2, but multilabel labels are 0 or 1"):
        ImageNpz(write(tmp_path / "s.npz", several)).setup()
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no zip at all"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npz' cannot be read as npz"):
            ImageNpz(str(path))
    # the directory at the end is whole, but what it points to is not
    middle = whole.index(b"val_images") + 20_000
    path.write_bytes(whole[:middle] + b"\0" * 200 + whole[middle + 200 :])
    for limit in (2**30, 0):
        monkeypatch.setattr(medmnist, "IN_MEMORY", limit)
        with pytest.raises(DataError, match=r"x\.npz' cannot be read as npz"):
            ImageNpz(str(path)).setup("fit")


def test_unknown_names() -> None:
    for name, near in (
        ("brestmnist", "breastmnist"),
        ("BreastMNIST", "breastmnist"),
        ("organmnist3d", "organ.mnist"),
    ):
        words = rf"name is '{name}'; give a 2-D set of MedMNIST; did you mean '{near}'"
        with pytest.raises(OptionError, match=words):
            MedMNIST(name)
    with pytest.raises(OptionError, match=r"option size is 32; give one of 28, 64, 128"):
        MedMNIST("breastmnist", size=32)


def test_file_of_another_set(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    write(tmp_path / "breastmnist.npz", arrays(colour=True))
    with pytest.raises(DataError, match="holds images of 28 x 28 x 3 values, but 28 x 28 x 1 are"):
        MedMNIST("breastmnist", root=str(tmp_path), verify=False).setup()
    write(tmp_path / "chestmnist.npz", arrays())
    with pytest.raises(DataError, match=r"shape \(30,\), but multilabel .* want \(30, 14\); give"):
        MedMNIST("chestmnist", root=str(tmp_path), verify=False).setup()


# --- download ------------------------------------------------------------------------------------


class Site(BaseHTTPRequestHandler):
    """Gives one file, whole or cut short."""

    content: ClassVar[bytes] = b""
    promised: ClassVar[int] = 0
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if not self.content:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.promised))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch) -> Iterator[type[Site]]:
    """What is asked of Zenodo goes to a server here; its file is the official one."""
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays(classes=2, size=64))
    content = buffer.getvalue()
    monkeypatch.setattr(Site, "content", content)
    monkeypatch.setattr(Site, "promised", len(content))
    monkeypatch.setattr(Site, "asked", [])
    md5 = {64: hashlib.md5(content).hexdigest()}
    monkeypatch.setitem(SETS, "breastmnist", SETS["breastmnist"]._replace(md5=md5))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        monkeypatch.setattr(medmnist, "RECORD", f"http://127.0.0.1:{server.server_port}/files")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield Site
        server.shutdown()


def test_download(tmp_path, site) -> None:
    data = MedMNIST("breastmnist", root=str(tmp_path / "new"), size=64)
    data.prepare_data()
    data.setup()
    assert len(data.split("train")) == 30
    data.prepare_data()
    assert site.asked == ["/files/breastmnist_64.npz?download=1"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["breastmnist_64.npz"]


@pytest.mark.parametrize("fault", ["cut", "changed", "absent", "no host"])
def test_download_that_fails(tmp_path, site, monkeypatch, fault) -> None:
    words = {
        "cut": r"broke off after \d+ of \d+ bytes",
        "changed": r"127\.0\.0\.1 sent has another md5 sum",
        "absent": "HTTP Error 404",
        "no host": "no-such-host.invalid cannot be reached",
    }[fault]
    if fault == "cut":
        site.content = site.content[:1000]
    elif fault == "changed":
        site.content = b"x" + site.content[1:]
    elif fault == "absent":
        site.content = b""
    else:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(medmnist, "RECORD", "http://no-such-host.invalid/files")
        monkeypatch.setattr(medmnist, "PROBE_S", 2.0)
    words = rf"'.*' holds no breastmnist_64\.npz and .*{words}.*; put the file from http"
    data = MedMNIST("breastmnist", root=str(tmp_path), size=64)
    with pytest.raises(DataError, match=words):
        data.prepare_data()
    assert not list(tmp_path.iterdir())


def test_nothing_there(tmp_path) -> None:
    data = MedMNIST("pathmnist", root=str(tmp_path), download=False)
    with pytest.raises(DataError, match=r"pathmnist\.npz and download is false; .*pathmnist\.npz$"):
        data.prepare_data()
    with pytest.raises(DataError, match=r"has not been downloaded \(prepare_data\(\) does\)"):
        data.setup("fit")
