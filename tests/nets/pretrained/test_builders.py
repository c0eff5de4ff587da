"""Nets of torchvision and timm with other classes and channels, from weights on the disk."""

import pkgutil
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import timm
import torch
from jsonargparse import ArgumentParser
from timm.models import adapt_input_conv
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from zoo.errors import UserError
from zoo.nets.pretrained.builders import adapted, build_timm, build_torchvision
from zoo.nets.protocols import RecordsBuilder
from zoo.tasks.net_spec import builders_fit_data


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a net's weights where torch keeps what it has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    original = WeightsEnum.get_state_dict

    def unchecked(self: WeightsEnum, *args: Any, **options: Any) -> Any:
        return original(self, *args, **{**options, "check_hash": False})

    monkeypatch.setattr(WeightsEnum, "get_state_dict", unchecked)

    def put(entry: WeightsEnum, net: nn.Module) -> None:
        path = tmp_path / "hub" / "checkpoints" / Path(urlparse(entry.url).path).name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), path)

    return put


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_a_first_convolution_is_fitted_as_timm_does(channels: int) -> None:
    weight = torch.randn(5, 3, 7, 7)
    torch.testing.assert_close(adapted(weight, channels), adapt_input_conv(channels, weight))


def test_weights_of_other_classes_and_channels_are_fitted_and_that_is_said(cached: Any) -> None:
    entry = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    trained = models.squeezenet1_1()
    cached(entry, trained)
    said: list[str] = []
    net = build_torchvision(
        models.squeezenet1_1, {"weights": entry}, num_classes=5, in_channels=1, say=said.append
    )
    assert said == [
        "torchvision.models.squeezenet1_1: its weights IMAGENET1K_V1 tell 1000 classes apart and "
        "the data 5, so classifier.1 starts anew"
    ]
    grey = torch.randn(2, 1, 64, 64)
    assert net.eval()(grey).shape == (2, 5)
    # All before the head is as trained: a grey image gives what its three equal colours do.
    colours = trained.eval().features(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(net.features(grey), colours, rtol=1e-4, atol=1e-4)
    # What is recorded builds the same net without weights.
    spec = net.builder_spec
    assert spec["init_args"]["weights"] is None
    again = build_torchvision(
        models.squeezenet1_1,
        {**spec["init_args"], **spec["dict_kwargs"]},
        num_classes=None,
        in_channels=None,
        say=said.append,
    )
    again.load_state_dict(net.state_dict())
    assert len(said) == 1


def test_weights_of_as_many_classes_keep_their_head(cached: Any) -> None:
    entry = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    trained = models.squeezenet1_1()
    cached(entry, trained)
    said: list[str] = []
    net = build_torchvision(
        models.squeezenet1_1, {"weights": entry}, num_classes=1000, in_channels=3, say=said.append
    )
    assert not said
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(net.eval()(images), trained.eval()(images))


def test_auxiliary_heads_start_anew_too_and_are_recorded(cached: Any) -> None:
    entry = models.GoogLeNet_Weights.IMAGENET1K_V1
    cached(entry, models.googlenet(init_weights=False))
    said: list[str] = []
    arguments = {"weights": entry, "aux_logits": True, "init_weights": False}
    net = build_torchvision(
        models.googlenet, arguments, num_classes=4, in_channels=3, say=said.append
    )
    assert said[0].endswith("so aux1.fc2 and aux2.fc2 and fc start anew")
    assert [len(each[0]) for each in net.train()(torch.randn(2, 3, 96, 96))] == [4, 4, 4]
    assert net.builder_spec["init_args"]["transform_input"] is True
    with pytest.raises(UserError, match=r"set data\.channels to 3"):
        build_torchvision(models.googlenet, arguments, num_classes=4, in_channels=1, say=print)


def test_a_net_of_masks_is_built_for_the_data_and_recorded_by_a_name_that_is_there() -> None:
    builder = models.segmentation.lraspp_mobilenet_v3_large
    arguments = {"weights": None, "weights_backbone": None}
    net = build_torchvision(builder, arguments, num_classes=2, in_channels=1, say=print)
    assert net.eval()(torch.randn(1, 1, 64, 64))["out"].shape == (1, 2, 64, 64)
    assert pkgutil.resolve_name(net.builder_spec["class_path"]) is builder
    assert net.builder_spec["dict_kwargs"] == {"in_channels": 1}


def test_weights_that_are_not_there_end_in_a_sentence(
    cached: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "zoo.nets.pretrained.torchvision_weights.unreachable", lambda *_: "no network"
    )
    entry = models.ResNet18_Weights.IMAGENET1K_V1
    with pytest.raises(UserError, match=r"option weights is 'IMAGENET1K_V1'.*no network.*put the"):
        build_torchvision(
            models.resnet18, {"weights": entry}, num_classes=5, in_channels=3, say=print
        )


def test_timm_gets_classes_and_channels_and_its_weights_are_fitted(tmp_path: Path) -> None:
    trained = timm.create_model("test_resnet")
    torch.save(trained.state_dict(), tmp_path / "net.pth")
    said: list[str] = []
    arguments = {
        "model_name": "test_resnet",
        "pretrained": True,
        "pretrained_cfg_overlay": {"file": str(tmp_path / "net.pth")},
    }
    net = build_timm(timm.create_model, arguments, num_classes=5, in_channels=1, say=said.append)
    assert said == [
        "timm's test_resnet: its weights tell 1000 classes apart and the data 5, so fc starts anew"
    ]
    assert net.eval()(torch.randn(2, 1, 64, 64)).shape == (2, 5)
    kept = trained.get_submodule("layer1.0.conv1").weight
    assert torch.equal(net.get_submodule("layer1.0.conv1").weight, kept)
    spec = net.builder_spec
    again = timm.create_model(**spec["init_args"], **spec["dict_kwargs"])
    again.load_state_dict(net.state_dict())


def test_a_net_or_weights_that_timm_lacks_end_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts: dict[str, Any] = {"num_classes": 5, "in_channels": 3, "say": print}
    with pytest.raises(UserError, match=r"'resnet1'; timm has no net of that name; did you mean"):
        build_timm(timm.create_model, {"model_name": "resnet1"}, **facts)
    monkeypatch.setattr("zoo.nets.pretrained.builders.hub_unreachable", lambda: "no network")
    monkeypatch.setenv("HF_HOME", "/nowhere")
    with pytest.raises(UserError, match=r"could not be had \(no network\)"):
        build_timm(timm.create_model, {"model_name": "resnet18", "pretrained": True}, **facts)


def test_a_pickle_as_timms_weights_is_not_opened(tmp_path: Path) -> None:
    file = tmp_path / "evil.pt"
    torch.save({"weight": Path("nothing")}, file)
    arguments = {"model_name": "resnet18", "checkpoint_path": str(file)}
    facts: dict[str, Any] = {"num_classes": 5, "in_channels": 3, "say": print}
    with pytest.raises(
        UserError, match=r"evil\.pt'; it holds more than plain data, and is not opened"
    ):
        build_timm(timm.create_model, arguments, **facts)


def test_builders_build_as_they_are_after_the_context(capsys: pytest.CaptureFixture[str]) -> None:
    """What others build with jsonargparse in the same process is theirs."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=nn.Module)
    line = ["--net=torchvision.models.squeezenet1_1", "--net.num_classes=7"]

    def classes() -> bool:
        net = parser.instantiate(parser.parse_args(line)).net
        return isinstance(net, RecordsBuilder)

    assert not classes()
    with builders_fit_data(print):
        assert classes()
    assert not classes()
