"""Weights go to the hub and come back, through its real client and a stand-in on loopback."""

import importlib.util
import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants

from zoo.errors import UserError
from zoo.run.card import known_of
from zoo.run.checkpoint import LAYOUT, read_checkpoint
from zoo.run.hub import fetch_weights, push_weights

_spec = importlib.util.spec_from_file_location(
    "hub_stand_in", Path(__file__).with_name("hub_stand_in.py")
)
assert _spec is not None
assert _spec.loader is not None
stand_in = importlib.util.module_from_spec(_spec)
sys.modules["hub_stand_in"] = stand_in
_spec.loader.exec_module(stand_in)

CHECKPOINT: dict[str, Any] = {
    "state_dict": {"net.fc.weight": torch.arange(20.0).reshape(4, 5)},
    "hyper_parameters": {
        "_class_path": "zoo.ImageClassifier",
        "net": {"class_path": "zoo.MLP", "init_args": {"widths": [4]}},
        "lr": 0.1,
    },
    "zoo": {"layout": LAYOUT, "data": {"class_path": "datamodules.Digits"}, "text": "x" * 3000},
    "test": {"acc": 0.9876, "loss": 0.1},
    "pytorch-lightning_version": "2.6.6",
}


def point_to(address: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Have the client of this process ask another server, as HF_ENDPOINT does at its start."""
    patch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    patch.setenv("HF_TOKEN", stand_in.TOKEN)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with stand_in.serving() as (address, repositories):
        point_to(address, tmp_path, monkeypatch)
        yield repositories


def refused(name: str, *words: str) -> None:
    with pytest.raises(UserError) as error:
        fetch_weights(name)
    for word in (repr(name), *words):
        assert word in str(error.value)
    assert len(str(error.value)) < 400


def test_what_is_pushed_comes_back(hub: Any) -> None:
    recipe = {"model": {"class_path": "zoo.ImageClassifier"}, "data": {"class_path": "Digits"}}
    known = known_of(CHECKPOINT)._replace(recipe=recipe)
    name = push_weights(CHECKPOINT, "me/digits", known=known)
    ((commit, files),) = hub.commits["me/digits"]
    assert name == f"hf:me/digits@{commit}"
    assert files.keys() == {"model.safetensors", "recipe.yaml", "README.md"}
    for wanted in (name, "hf:me/digits", "me/digits"):
        found = read_checkpoint(fetch_weights(wanted))
        assert torch.equal(
            found["state_dict"]["net.fc.weight"], CHECKPOINT["state_dict"]["net.fc.weight"]
        )
        assert found["test"] == CHECKPOINT["test"]
    assert yaml.safe_load(files["recipe.yaml"]) == recipe


def test_no_place_of_the_machine_is_pushed(hub: Any) -> None:
    data = {
        "class_path": "datamodules.ImageFolder",
        "init_args": {
            "root": "/home/me/pictures/cats",
            "cache": "~/.cache/zoo/",
            "path": "data/near.csv",
            "class_names": ["/m/01", "~"],
            "partition": {"train": {"source": "C:\\\\me\\\\cats", "count": 3}},
        },
    }
    recipe = {"model": {}, "data": data, "trainer": {"default_root_dir": "/home/me/runs"}}
    facts = {**CHECKPOINT["zoo"], "data": data}
    known = known_of(CHECKPOINT)._replace(recipe=recipe)
    name = push_weights({**CHECKPOINT, "zoo": facts}, "me/digits", known=known)
    files = hub.commits["me/digits"][0][1]
    for content in files.values():
        assert b"/home" not in content
        assert b"me\\\\" not in content
        assert b"/.cache" not in content
    found = yaml.safe_load(files["recipe.yaml"])
    assert found["data"]["init_args"]["root"] == "cats"
    assert found["data"]["init_args"]["path"] == "data/near.csv"
    assert found["data"]["init_args"]["class_names"] == ["/m/01", "~"]
    said = "Of paths only the last part is kept: data.root, data.cache, "
    assert said in files["README.md"].decode()
    assert said in files["recipe.yaml"].decode()
    kept = read_checkpoint(fetch_weights(name))["zoo"]["data"]["init_args"]
    assert (kept["root"], kept["partition"]["train"]["source"]) == ("cats", "cats")


def test_the_card_has_figures_and_recipe(hub: Any) -> None:
    push_weights(CHECKPOINT, "me/digits")
    card = ModelCard(hub.commits["me/digits"][0][1]["README.md"].decode())
    (entry,) = card.data.to_dict()["model-index"]
    figures = {each["type"]: each["value"] for each in entry["results"][0]["metrics"]}
    assert figures == CHECKPOINT["test"]
    assert card.data.pipeline_tag == "image-classification"
    assert "| acc | 0.9876 |" in card.text
    assert 'zoo.load("hf:me/digits")' in card.text
    recipe = yaml.safe_load(card.text.partition("```yaml\n")[2].partition("```")[0])
    assert recipe["model"]["init_args"]["net"]["class_path"] == "zoo.MLP"


def test_a_commit_stays_what_it_was(hub: Any) -> None:
    first = push_weights(CHECKPOINT, "me/digits")
    other = {**CHECKPOINT, "state_dict": {"net.fc.weight": torch.zeros(4, 5)}}
    second = push_weights(other, "me/digits")
    assert first != second
    sums = [
        float(read_checkpoint(fetch_weights(name))["state_dict"]["net.fc.weight"].sum())
        for name in (first, second, "hf:me/digits")
    ]
    assert sums == [190, 0, 0]


def test_a_cached_commit_asks_nobody(hub: Any) -> None:
    name = push_weights(CHECKPOINT, "me/digits")
    path = fetch_weights(name)
    hub.asked.clear()
    assert fetch_weights(name) == path
    assert hub.asked == []


def test_pickles_are_never_fetched(hub: Any) -> None:
    content = pickle.dumps({"state_dict": {}})
    hub.commit("them/old", {"pytorch_model.bin": content, "README.md": b""})
    refused("hf:them/old", "pickled weights, which can run code, are not opened")
    assert not any("resolve" in each for each in hub.asked)
    hub.commit("them/text", {"README.md": b""})
    refused("hf:them/text", "it holds no model.safetensors: choose a repository")


def test_weights_of_another_program(hub: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "theirs")
    hub.commit("them/bert", {"model.safetensors": (tmp_path / "theirs").read_bytes()})
    with pytest.raises(UserError, match="does not say how its net is built"):
        read_checkpoint(fetch_weights("hf:them/bert"))


def test_what_is_not_there(hub: Any) -> None:
    refused("hf:me/none", "check its spelling")
    push_weights(CHECKPOINT, "me/digits")
    refused("hf:me/digits@v9", "it has no such revision")
    for name in ("hf:digits", "hf:a/b/c", "hf:a b/c", "hf:"):
        refused(name, "give owner/name")


def test_who_may_not_write(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(UserError, match="option to is 'me/digits'; log in by `hf auth login`"):
        push_weights(CHECKPOINT, "me/digits")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="log in by `hf auth login`"):
        push_weights(CHECKPOINT, "me/digits")


FAULTS: list[tuple[int | str, str]] = [
    (401, "a token that may read it"),
    (403, "a token that may read it"),
    (404, "the hub refused: "),
    (429, "the hub refused: "),
    (500, "the hub refused: "),
    ("drop", "the hub's answer failed: "),
    ("garble", "the hub's answer failed: "),
    ("hang", "the hub's answer failed: ReadTimeout"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_a_hub_that_fails(
    hub: Any, monkeypatch: pytest.MonkeyPatch, fault: int | str, words: str
) -> None:
    monkeypatch.setattr("zoo.run.hub.PROBE_S", 0.2)
    push_weights(CHECKPOINT, "me/digits")
    hub.faults = {"/api/models/": fault}
    refused("hf:me/digits", words)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (401, "a token that may read it"),
        (404, "the hub's answer failed: "),
        ("drop", "the hub's answer failed: "),
        ("garble", "the hub's answer failed: "),
    ],
)
def test_a_download_that_fails(hub: Any, fault: int | str, words: str) -> None:
    push_weights(CHECKPOINT, "me/digits")
    hub.faults = {"/resolve/": fault}
    refused("hf:me/digits", words)


@pytest.mark.parametrize("fault", [401, 403, 404, 500, "drop", "garble"])
def test_a_push_that_fails(hub: Any, fault: int | str) -> None:
    hub.faults = {"/api/repos/create": fault}
    with pytest.raises(UserError, match="option to is 'me/digits'; ") as error:
        push_weights(CHECKPOINT, "me/digits")
    assert len(str(error.value)) < 400


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    point_to(f"http://127.0.0.1:{port}", tmp_path, monkeypatch)
    refused("hf:me/digits", "the hub cannot be reached (", "hf download me/digits")
    with pytest.raises(UserError, match=r"the hub cannot be reached \("):
        push_weights(CHECKPOINT, "me/digits")


def test_the_cache_serves_without_network(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = push_weights(CHECKPOINT, "me/digits")
    path = fetch_weights("hf:me/digits@main")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_weights(name) == path
    refused("hf:me/more", "HF_HUB_OFFLINE is set")
