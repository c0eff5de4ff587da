"""Pretrained weights by name: where they are looked for, which net they fit, and what is said."""

import shutil
import socket
import threading
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from torchvision.models import Weights, WeightsEnum

from zoo.nets.pretrained import torchvision_weights as pretrained
from zoo.nets.pretrained.torchvision_weights import (
    InputRange,
    check_weights,
    load_pretrained,
    weights_path,
)


class TinyWeights(WeightsEnum):
    """Weights for three classes; nobody has them."""

    V1 = Weights("https://example.invalid/tiny-0123abcd.pth", None, {"categories": ["a", "b", "c"]})
    DEFAULT = V1


WEIGHTS = TinyWeights.V1


class Tiny(nn.Module, PyTorchModelHubMixin):
    def __init__(
        self,
        num_classes: int = 3,
        width: int = 4,
        aux: bool = True,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv = nn.Conv2d(1, width, 1)
        self.bn = nn.BatchNorm2d(width)
        self.aux = nn.Linear(width, num_classes) if aux else None
        self.fc = nn.Linear(width, num_classes)
        if weights is not None:
            heads, absent = ("fc.", "aux."), () if aux else ("aux.",)
            load_pretrained(self, TinyWeights[weights], heads=heads, absent=absent)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """What the file holds."""
    torch.manual_seed(1)
    net = Tiny()
    net.bn.running_mean.fill_(7.0)
    return net.state_dict()


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """Where torch looks for the file, in an empty home; any use of the network fails at once."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    use_proxy(monkeypatch, 1)  # nothing listens there
    return tmp_path / "hub" / "checkpoints" / "tiny-0123abcd.pth"


def use_proxy(monkeypatch, port: int) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxy it first saw
    for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")


@pytest.fixture
def cached(path, state) -> Path:
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return path


def the_error(**options: object) -> str:
    """What loading the weights says, in one line."""
    with pytest.raises(ValueError, match=r"^option weights is 'V1'") as error:
        Tiny(weights="V1", **options)
    assert "\n" not in str(error.value)
    # The command line shows an error's first cause, and this is the sentence to show.
    assert error.value.__cause__ is None
    return str(error.value)


# --- a file that is there ------------------------------------------------------------------------


def test_a_cached_file_fills_the_net_and_leaves_the_record(cached, state, tmp_path):
    assert weights_path(WEIGHTS) == cached
    net = Tiny(weights="V1")
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert net._hub_mixin_config == {"num_classes": 3, "width": 4, "aux": True, "weights": None}

    cached.unlink()  # a net rebuilt from the record needs it no more
    net.save_pretrained(tmp_path / "saved")
    again = Tiny.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.conv.weight, state["conv.weight"])


def test_another_number_of_classes_gets_fresh_heads(cached, state):
    torch.manual_seed(0)
    start = Tiny(5).state_dict()
    torch.manual_seed(0)
    net = Tiny(5, weights="V1")
    for name, value in net.state_dict().items():
        expected = start if name.startswith(("fc.", "aux.")) else state
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("num_classes", [3, 5])
def test_a_part_that_the_net_does_without_is_left_out(cached, state, num_classes):
    net = Tiny(num_classes, aux=False, weights="V1")
    assert torch.equal(net.conv.weight, state["conv.weight"])
    assert torch.equal(net.fc.weight, state["fc.weight"]) == (num_classes == 3)


def test_an_old_file_has_no_count_of_batches(cached, state):
    del state["bn.num_batches_tracked"]
    torch.save(state, cached)
    assert torch.equal(Tiny(weights="V1").bn.running_mean, state["bn.running_mean"])


def test_a_file_that_cannot_be_read_is_named(cached):
    cached.write_bytes(b"half a file")
    said = the_error()
    assert f"{cached} is not a readable file of weights" in said
    assert f"delete it, to have it downloaded again from {WEIGHTS.url}" in said

    torch.save({"epoch": 3, "model": {}}, cached)
    assert "(it holds something else than named tensors)" in the_error()
    torch.save(torch.zeros(2), cached)
    assert "(it holds something else than named tensors)" in the_error()


def test_layers_that_do_not_fit_are_named(cached, state):
    said = the_error(width=2)
    assert f"{cached} holds other weights than Tiny's" in said
    assert (
        "(conv.weight is (4, 1, 1, 1) for (2, 1, 1, 1), conv.bias is (4,) for (2,), "
        "bn.weight is (4,) for (2,) and 5 more)"
    ) in said

    del state["conv.bias"], state["bn.num_batches_tracked"]
    torch.save(state | {"conv9.weight": torch.zeros(2)}, cached)
    assert "(it lacks conv.bias; the net has no conv9.weight); delete it" in the_error()


# --- a file that is not there --------------------------------------------------------------------


def test_no_network_names_the_file_to_fetch(path):
    said = the_error()
    assert "could not be downloaded" in said
    assert f"fetch {WEIGHTS.url} on a machine that can and put the file at {path}" in said


def test_a_network_that_swallows_everything_does_not_hang(path, monkeypatch):
    monkeypatch.setattr(pretrained, "_REPLY_WITHIN_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_proxy(monkeypatch, silent.getsockname()[1])
        said = the_error()
    assert "could not be downloaded (" in said
    assert "timed out" in said or "does not answer" in said


def test_a_name_lookup_that_never_ends_does_not_hang(path, monkeypatch):
    release = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        release.wait()
        raise URLError("too late")

    monkeypatch.setattr(pretrained, "_REPLY_WITHIN_SECONDS", 0.3)
    monkeypatch.setattr(socket, "create_connection", look_up)
    assert "does not answer within 0.3 s" in the_error()
    release.set()


def test_a_download_is_used_and_one_that_breaks_off_is_explained(
    path, state, tmp_path, monkeypatch
):
    torch.save(state, tmp_path / "remote.pth")

    def download(url: str, to: str, *_: object, **__: object) -> None:
        assert url == WEIGHTS.url
        assert socket.getdefaulttimeout() is not None
        shutil.copy(tmp_path / "remote.pth", to)

    def break_off(*_: object, **__: object) -> None:
        raise URLError("connection reset")

    monkeypatch.setattr(pretrained, "unreachable", lambda url, seconds: None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", break_off)
    said = the_error()
    assert "connection reset" in said
    assert str(path) in said
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert torch.equal(Tiny(weights="V1").conv.weight, state["conv.weight"])
    assert socket.getdefaulttimeout() is None


# --- options -------------------------------------------------------------------------------------


def test_weights_fit_one_net():
    check_weights("V1", TinyWeights, stem="large", in_channels=3)
    check_weights("DEFAULT", TinyWeights)
    with pytest.raises(ValueError, match="option weights is 'V1'") as error:
        check_weights("V1", TinyWeights, stem="small", norm="batch", in_channels=1)
    assert str(error.value) == (
        "option weights is 'V1'; it fits one net only; set stem=large (now small), "
        "in_channels=3 (now 1)"
    )
    with pytest.raises(ValueError, match=r"'DEFALT'.*V1, DEFAULT .did you mean 'DEFAULT'"):
        check_weights("DEFALT", TinyWeights)


def test_input_range():
    mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    deviation = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    pixels = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    module = InputRange()
    torch.testing.assert_close(module((pixels - mean) / deviation), (pixels - 0.5) / 0.5)
    assert module.state_dict() == {}
