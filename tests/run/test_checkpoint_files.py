"""A damaged or malicious checkpoint is refused in one sentence, and nothing in it is executed."""

import io
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import UserError
from zoo.run.checkpoint import read_checkpoint

CONTENT: dict[str, Any] = {
    "state_dict": {"weight": torch.arange(300.0), "bias": torch.arange(7)},
    "hyper_parameters": {"lr": 0.1, "name": "x" * 300},
    "epoch": 3,
}
DAMAGED = "it is damaged, or is no checkpoint: give a file that `fit` saved"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.ckpt"


def whole() -> bytes:
    file = io.BytesIO()
    torch.save(CONTENT, file)
    return file.getvalue()


def refuse(path: Path, reason: str = DAMAGED) -> None:
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert str(error.value) == f"option ckpt_path is {str(path)!r}; {reason}"


@pytest.mark.parametrize("twentieth", range(20))
def test_truncated(twentieth: int, path: Path) -> None:
    path.write_bytes(whole()[: len(whole()) * twentieth // 20])
    refuse(path)


@pytest.mark.parametrize("seed", range(50))
def test_a_flipped_bit_is_noticed_or_harmless(seed: int, path: Path) -> None:
    content, draw = bytearray(whole()), random.Random(seed)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    try:
        found = read_checkpoint(path)
    except UserError:
        refuse(path)
    else:  # between the parts
        assert found.keys() == CONTENT.keys()
        assert found["hyper_parameters"] == CONTENT["hyper_parameters"]
        for name, value in CONTENT["state_dict"].items():
            assert torch.equal(found["state_dict"][name], value)


def test_most_flips_of_weights_are_noticed(path: Path) -> None:
    """torch alone notices none."""
    start = whole().index(torch.arange(300.0).numpy().tobytes())
    for place in range(start, start + 1200, 100):
        content = bytearray(whole())
        content[place] ^= 4
        path.write_bytes(content)
        refuse(path)
        assert torch.load(path, weights_only=True)["epoch"] == 3


def repeated(times: int) -> list[Any]:
    node: list[Any] = ["ha"] * 10
    for _ in range(times):
        node = [node] * 10
    return node


def nested(depth: int) -> list[Any]:
    node: list[Any] = []
    for _ in range(depth):
        node = [node]
    return node


@pytest.mark.parametrize(
    "value",
    [repeated(30), nested(150), {"a": repeated(12)}, torch.zeros(1).expand(10**12)],
    ids=["repeated", "deep", "in a mapping", "tensor"],
)
@pytest.mark.parametrize("place", ["hyper_parameters", "state_dict", "loops"])
def test_what_grows_where_it_is_read(place: str, value: Any, path: Path) -> None:
    torch.save({**CONTENT, place: {**CONTENT.get(place, {}), "x": value}}, path)
    refuse(path)


def test_packed_file(path: Path) -> None:
    """As torch reads it, but never writes it: a hundred bytes could be gigabytes."""
    packed = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(io.BytesIO(whole())) as source, packed as target:
        for part in source.namelist():
            target.writestr(part, source.read(part))
    assert torch.load(path, weights_only=True)["epoch"] == 3
    refuse(path)


class Canary:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickles_run_nothing(path: Path, tmp_path: Path) -> None:
    sung = tmp_path / "sung"
    for protocol in range(6):
        path.write_bytes(pickle.dumps({"state_dict": {}, "x": Canary(sung)}, protocol))
        with pytest.raises(UserError):
            read_checkpoint(path)
    for old in (False, True):
        torch.save({"state_dict": {}, "x": Canary(sung)}, path, _use_new_zipfile_serialization=old)
        with pytest.raises(UserError, match="not plain data"):
            read_checkpoint(path)
    assert not sung.exists()


def test_whole_file_is_read(path: Path) -> None:
    path.write_bytes(whole())
    assert torch.equal(read_checkpoint(path)["state_dict"]["weight"], torch.arange(300.0))
