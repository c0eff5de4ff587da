import hashlib
import http.server
import os
import pickle
import socket
import threading
import time
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datamodules import CIFAR10, CIFAR100
from datamodules.core.download import unreachable
from datamodules.core.errors import DataError, OptionError
from datamodules.images import cifar
from datamodules.images.cifar import load_arrays

TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def write_pickle(path, images, labels, key=b"labels") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(pickle.dumps({b"data": flat, key: [int(x) for x in labels]}, protocol=2))


def write_original(folder) -> None:
    for number, name in enumerate([*TRAIN, "test_batch"]):
        write_pickle(folder / name, pixels(20, number), np.arange(20) % 10)


def write_parquet(path, images, labels, image="img", label="label") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = []
    for pixel in images:
        file = BytesIO()
        Image.fromarray(pixel).save(file, "png")
        encoded.append({"bytes": file.getvalue(), "path": None})
    columns = {image: encoded, label: list(map(int, labels))}
    if label == "fine_label":
        columns["coarse_label"] = [0] * len(images)
    pq.write_table(pa.table(columns), path)


def test_facts() -> None:
    ten, hundred = CIFAR10(root="nowhere"), CIFAR100(root="nowhere")
    assert ten.num_classes == 10
    assert ten.class_names[:3] == ["airplane", "automobile", "bird"]
    assert hundred.num_classes == len(set(hundred.class_names)) == 100
    assert hundred.class_names == sorted(hundred.class_names)
    assert (ten.in_channels, ten.image_size) == (3, 32)


def test_md5_sums_are_torchvisions() -> None:
    from torchvision import datasets

    for ours, theirs in (
        (cifar.RELEASE_10, datasets.CIFAR10),
        (cifar.RELEASE_100, datasets.CIFAR100),
    ):
        assert list(ours.train.items()) == [tuple(pair) for pair in theirs.train_list]
        assert list(ours.test.items()) == [tuple(pair) for pair in theirs.test_list]
        assert (ours.url, ours.folder) == (theirs.url, theirs.base_folder)


@pytest.mark.parametrize("as_root", [False, True])
def test_original_files(tmp_path, as_root) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_original(folder)
    data = CIFAR10(root=str(folder if as_root else tmp_path), val_size=10, verify=False)
    data.prepare_data()
    data.setup()
    whole = np.concatenate([pixels(20, number) for number in range(5)])
    train, val = data.split("train"), data.split("val")
    assert np.array_equal(train.images, whole)
    assert sorted([*train.rows, *val.rows]) == list(range(100))
    assert np.bincount(val.labels[val.rows], minlength=10).tolist() == [1] * 10
    assert np.array_equal(data.split("test").images, pixels(20, 5))
    assert data.split("test").__getitems__([3]).index.tolist() == [50_003]


def test_real_files(real_images) -> None:
    root = real_images / "cifar10_exact_mini"
    data = CIFAR10(root=str(root), verify=False, val_size=82)
    data.prepare_data()
    data.setup()
    images, labels = [], []
    for name in TRAIN:
        entry = pickle.load((root / "cifar-10-batches-py" / name).open("rb"), encoding="bytes")
        images.append(entry[b"data"])
        labels += entry[b"labels"]
    expected = np.concatenate(images).reshape(-1, 3, 32, 32)
    batch = data.split("train").__getitems__(list(range(len(data.split("train")))))
    assert np.array_equal(batch.image.numpy(), expected[batch.index.numpy()])
    assert batch.label.tolist() == np.array(labels)[batch.index.numpy()].tolist()
    assert len(data.split("train")) == 738
    with pytest.raises(OptionError, match=r"val_size is 5000; .* 5000 of 820 would leave too few"):
        CIFAR10(root=str(root), verify=False).setup("fit")
    with pytest.raises(DataError, match=r"data_batch_1' has not the md5.* verify: false"):
        CIFAR10(root=str(root)).setup("fit")


def test_real_parquet(real_images) -> None:
    root = real_images / "cifar10_jpeg"
    data = CIFAR10(root=str(root), mean=[0.5] * 3, std=[0.5] * 3)  # given: no need of train
    data.prepare_data()
    data.setup("test")
    test = data.split("test")
    assert np.bincount(test.labels).tolist() == [1000] * 10
    row = pq.read_table(root / "test.parquet").slice(7, 1).to_pylist()[0]
    assert np.array_equal(test.images[7], np.asarray(Image.open(BytesIO(row["img"]["bytes"]))))
    assert test.labels[7] == row["label"]


@pytest.mark.parametrize(
    ("cls", "image", "label", "folder"),
    [
        (CIFAR10, "img", "label", "."),
        (CIFAR10, "image", "label", "plain_text"),
        (CIFAR100, "img", "fine_label", "cifar100"),
    ],
)
def test_parquet(tmp_path, cls, image, label, folder) -> None:
    # Another set beside it must not be taken for this one.
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "test.parquet")
    where = tmp_path / folder
    write_parquet(where / "train-00000-of-00002.parquet", pixels(30), range(10, 40), image, label)
    write_parquet(where / "train-00001-of-00002.parquet", pixels(30, 1), [0] * 30, image, label)
    write_parquet(where / "test-00000-of-00001.parquet", pixels(8, 2), range(8), image, label)
    if folder == ".":
        (tmp_path / "train.parquet").unlink()
        (tmp_path / "test.parquet").unlink()
    data = cls(root=str(tmp_path), val_size=6, download=False)
    data.prepare_data()
    if cls is CIFAR10:
        with pytest.raises(DataError, match="labels outside its 10 classes"):
            data.setup("fit")
        return
    data.setup()
    train = data.split("train")
    assert np.array_equal(train.images, np.concatenate([pixels(30), pixels(30, 1)]))
    assert train.labels.tolist() == [*range(10, 40), *[0] * 30]
    moments = train.moments()
    train.sums = None
    assert moments == train.moments()


def test_the_second_run_decodes_nothing(tmp_path, monkeypatch) -> None:
    write_parquet(tmp_path / "train.parquet", pixels(30), [0] * 30)
    write_parquet(tmp_path / "test.parquet", pixels(8), [0] * 8)

    def images():
        data = CIFAR10(root=str(tmp_path), val_size=6)
        data.setup("fit")
        return np.array(data.split("train").images)

    first = images()
    monkeypatch.setattr(cifar, "read_image", None)
    assert np.array_equal(images(), first)
    os.utime(tmp_path / "train.parquet", (1, 1))  # changed: to be decoded again
    with pytest.raises(TypeError):
        images()


def test_damaged_files(tmp_path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_original(folder)
    options = {"root": str(tmp_path), "val_size": 10, "verify": False}
    (folder / "data_batch_3").write_bytes(b"\x80\x02}q\x00")
    with pytest.raises(DataError, match=r"data_batch_3' is no CIFAR-10 file"):
        CIFAR10(**options).setup("fit")
    write_pickle(folder / "data_batch_3", pixels(20), range(19))
    with pytest.raises(DataError, match="20 images but 19 labels"):
        CIFAR10(**options).setup("fit")
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3' is missing beside data_batch_1"):
        CIFAR10(**options).prepare_data()


def test_broken_image_in_parquet(tmp_path) -> None:
    for name in ("train", "test"):
        write_parquet(tmp_path / f"{name}.parquet", pixels(9), [0] * 9)
    table = pq.read_table(tmp_path / "test.parquet").to_pylist()
    table[4]["img"]["bytes"] = table[4]["img"]["bytes"][:100]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"test\.parquet, row 4"):
        CIFAR10(root=str(tmp_path), val_size=2, mean=[0.5] * 3, std=[0.5] * 3).setup("test")


class Bomb:
    """A pickle that writes a file when it is read the ordinary way."""

    def __reduce__(self):
        return os.system, ("echo ran > bomb.txt",)


def test_pickles_cannot_run_code(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    write_original(folder)
    content = pickle.dumps({b"data": Bomb(), b"labels": []}, protocol=2)
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_1.*system"):
        CIFAR10(root=str(tmp_path), verify=False, val_size=5).setup("fit")
    assert not (tmp_path / "bomb.txt").exists()
    pickle.loads(content)
    assert (tmp_path / "bomb.txt").exists()  # it would have
    for payload in (
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00ziptR.",
    ):
        with pytest.raises(pickle.UnpicklingError):
            load_arrays(payload)


def test_both_numpys_pickles_are_read() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    new = pickle.dumps({"data": array}, protocol=2)
    assert b"numpy._core" in new
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    for content in (new, old):
        (value,) = load_arrays(content).values()
        assert np.array_equal(value, array)


def test_md5(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_original(folder)
    sums = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    release = cifar.RELEASE_10._replace(
        train={name: sums[name] for name in TRAIN}, test={"test_batch": sums["test_batch"]}
    )
    monkeypatch.setattr(CIFAR10, "release", release)
    CIFAR10(root=str(tmp_path), val_size=10).setup()
    with (folder / "test_batch").open("ab") as file:
        file.write(b"x")
    data = CIFAR10(root=str(tmp_path), val_size=10)
    data.setup("fit")
    with pytest.raises(DataError, match="test_batch' has not the md5"):
        data.setup("test")


def test_nothing_there(tmp_path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(
            DataError, match=r"holds no CIFAR.* download is false.*data_batch_1 exists"
        ):
            CIFAR10(root=str(root), download=False).prepare_data()
        with pytest.raises(DataError, match=r"has not been downloaded"):
            CIFAR10(root=str(root), download=False).setup("fit")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("vanish", ["packets", "names", "refused"])
def test_no_network_is_said_soon(tmp_path, monkeypatch, vanish) -> None:
    def hang(*args, **kwargs):
        time.sleep(3)
        raise OSError("too late to be heard")

    def refuse(*args, **kwargs):
        raise ConnectionRefusedError(111, "Connection refused")

    if vanish == "names":
        monkeypatch.setattr(socket, "getaddrinfo", hang)
    else:
        monkeypatch.setattr(socket, "create_connection", hang if vanish == "packets" else refuse)
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cifar, "PROBE_S", 0.3)
    start = time.monotonic()
    with pytest.raises(
        DataError, match=r"www\.cs\.toronto\.edu .*unpack cifar-100-python\.tar\.gz"
    ):
        CIFAR100(root=str(tmp_path)).prepare_data()
    assert time.monotonic() - start < 2
    assert not list(tmp_path.glob("*.tar.gz"))


def test_probe(monkeypatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert unreachable(f"{address}/x", 5) is None  # "not found" is an answer, too
        # Behind a proxy it is the proxy that has to answer.
        monkeypatch.delenv("no_proxy")
        monkeypatch.setenv("http_proxy", address)
        assert unreachable("http://no-such-host.invalid/x", 5) is None
        monkeypatch.delenv("http_proxy")
        server.shutdown()
    assert "cannot be reached" in str(unreachable("http://no-such-host.invalid/x", 5))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        said = unreachable(f"http://127.0.0.1:{mute.getsockname()[1]}/x", 0.3)
    assert said == "127.0.0.1 does not answer within 0.3 s"


def test_download_lands_in_root(tmp_path, monkeypatch) -> None:
    from torchvision import datasets

    def fetch(root, download) -> None:
        assert download
        write_original(tmp_path / "cifar-10-batches-py")

    monkeypatch.setattr(cifar, "unreachable", lambda *args: None)
    monkeypatch.setattr(datasets, "CIFAR10", fetch)
    data = CIFAR10(root=str(tmp_path), verify=False, val_size=10)
    data.prepare_data()
    data.setup("fit")
    assert len(data.split("train")) == 90

    def fail(root, download) -> None:
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(datasets, "CIFAR10", fail)
    with pytest.raises(DataError, match="the download failed"):
        CIFAR10(root=str(tmp_path / "other")).prepare_data()


def test_val_size() -> None:
    with pytest.raises(OptionError, match="option val_size is 0"):
        CIFAR10(val_size=0)
