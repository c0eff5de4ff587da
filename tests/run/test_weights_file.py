"""A weights file holds what predicts of a checkpoint, and a damaged one is told in one sentence."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from zoo.errors import UserError
from zoo.run.checkpoint import LAYOUT, check_complete, read_checkpoint
from zoo.run.weights_file import write_weights

TIED = torch.arange(300.0).reshape(30, 10)
CONTENT: dict[str, Any] = {
    "state_dict": {
        "net.embedding": TIED,
        "net.head": TIED,
        "net.other_view": TIED.T,
        "net.half": torch.ones(3, dtype=torch.bfloat16),
        "net.count": torch.tensor(7),
        "net.empty": torch.zeros(0, 4),
        "net.mask": torch.tensor([True, False]),
    },
    "hyper_parameters": {"_class_path": "zoo.X", "lr": 0.1, "name": "숫자"},
    "zoo": {
        "layout": LAYOUT,
        "inputs": {"class_path": "datamodules.X"},
        "state": [torch.zeros(2)],
        "train_sums": {"a": 1},
    },
    "test": {"acc": 0.9},
    "epoch": 3,
    "global_step": 40,
    "pytorch-lightning_version": "2.6.6",
    "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
    "callbacks": {"a": 1},
}
DAMAGED = "it is damaged, or is no safetensors file: copy it anew"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "mine.safetensors"
    write_weights(CONTENT, file)
    return file


def refuse(path: Path, reason: str = DAMAGED) -> None:
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert str(error.value) == f"option ckpt_path is {str(path)!r}; {reason}"


def test_what_predicts_comes_back(path: Path) -> None:
    found = read_checkpoint(path)
    state = found.pop("state_dict")
    assert found == {
        "hyper_parameters": CONTENT["hyper_parameters"],
        "zoo": {"layout": LAYOUT, "inputs": {"class_path": "datamodules.X"}},
        "test": {"acc": 0.9},
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "2.6.6",
    }
    assert state.keys() == CONTENT["state_dict"].keys()
    for name, value in CONTENT["state_dict"].items():
        assert state[name].dtype == value.dtype
        assert torch.equal(state[name], value)


def test_the_same_weights_are_the_same_file(path: Path) -> None:
    for number in range(5):
        again = path.with_name(f"{number}.safetensors")
        write_weights(read_checkpoint(path), again)
        assert again.read_bytes() == path.read_bytes()


def test_others_may_read_it_as_any_file(path: Path) -> None:
    (path.parent / "any").touch()
    assert path.stat().st_mode == (path.parent / "any").stat().st_mode


def test_tied_weights_are_written_once(path: Path) -> None:
    assert "net.head" not in load_file(path)
    state = read_checkpoint(path)["state_dict"]
    assert state["net.embedding"].data_ptr() == state["net.head"].data_ptr()


def test_no_training_goes_on_from_it(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    check_complete(checkpoint, str(path), "test")
    with pytest.raises(UserError, match=r"without an optimiser's state.*give it as --init_from"):
        check_complete(checkpoint, str(path), "fit")


@pytest.mark.parametrize("twentieth", range(20))
def test_truncated(twentieth: int, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * twentieth // 20])
    refuse(path)


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_is_noticed(seed: int, path: Path) -> None:
    """safetensors alone notices none in the weights."""
    content, draw = bytearray(path.read_bytes()), random.Random(seed)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    try:
        found = read_checkpoint(path)
    except UserError:
        return
    # where it changed nothing that is read
    assert found["hyper_parameters"] == CONTENT["hyper_parameters"]
    for name, value in CONTENT["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value)


def test_a_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    refuse(
        path,
        "it does not say how its net is built: give one that `zoo export --to safetensors` wrote",
    )


def test_a_file_of_another_layout(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    write_weights({**CONTENT, "zoo": {"layout": 1, "version": "0.0.9"}}, path)
    with pytest.raises(UserError, match=r"made by lightning-zoo 0\.0\.9, whose layout differs"):
        read_checkpoint(path)


def test_only_plain_data_is_written(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    with pytest.raises(TypeError):
        write_weights({**CONTENT, "hyper_parameters": {"net": torch.nn.Linear(1, 1)}}, path)
    assert list(tmp_path.iterdir()) == []
