"""Code defaults < defaults.yaml < checkpoint < recipes, left to right < flags."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.__main__ import main

RECIPE = """
model:
  class_path: ImageClassifier
  init_args:
    net: {class_path: GoogLeNet, init_args: {dropout: 0.1}}
    optimizer: adamw
    lr: 0.002
    weight_decay: 0.3
    beta2: 0.9
data: {class_path: Digits, init_args: {batch_size: 300}}
trainer: {max_epochs: 1}
"""


def resolved(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The configuration that a command would run with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--print_config"])
    assert end.value.code in (0, None)
    config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return config


def init(config: dict[str, Any], section: str = "model") -> dict[str, Any]:
    found: dict[str, Any] = config[section]["init_args"]
    return found


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the recipe above with lr 0.009."""
    folder = tmp_path_factory.mktemp("run")
    path = folder / "saved.yaml"
    path.write_text(RECIPE)
    arguments = ["fit", "--config", str(path), "--config", "smoke", "--wandb", "off"]
    arguments += ["--model.lr", "0.009", "--trainer.default_root_dir", str(folder / "runs")]
    assert main(arguments) == 0
    (found,) = folder.glob("runs/saved/*/checkpoints/best.ckpt")
    return found


def test_defaults_file_over_code(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = resolved(capsys, "fit", "--config", str(recipe))
    assert config["trainer"]["log_every_n_steps"] == 10  # Lightning's own is 50
    assert config["trainer"]["default_root_dir"] == "runs"


def test_recipe_over_defaults_file(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(RECIPE.replace("max_epochs: 1", "log_every_n_steps: 7"))
    assert resolved(capsys, "fit", "--config", str(recipe))["trainer"]["log_every_n_steps"] == 7


def test_later_file_over_earlier(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = recipe.with_name("later.yaml")
    later.write_text("model: {init_args: {lr: 1e-4}}\ntrainer: {max_epochs: 5}\n")
    config = resolved(capsys, "fit", "--config", str(recipe), "--config", str(later))
    assert init(config)["lr"] == 1e-4
    assert init(config)["weight_decay"] == 0.3
    assert config["trainer"]["max_epochs"] == 5
    later.write_text(RECIPE.replace("0.002", "0.004"))
    turned = resolved(capsys, "fit", "--config", str(later), "--config", str(recipe))
    assert init(turned)["lr"] == 0.002


def test_flag_over_file_wherever_it_stands(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["fit", "--config", str(recipe), "--model.lr", "0.5", "--model.net.dropout", "0.7"],
        ["fit", "--model.lr=0.5", "--model.net.dropout=0.7", f"--config={recipe}"],
    ):
        config = resolved(capsys, *arguments)
        assert init(config)["lr"] == 0.5
        assert init(config)["net"]["init_args"]["dropout"] == 0.7


def test_checkpoint_over_defaults(
    recipe: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolved(capsys, "test", "--ckpt_path", str(checkpoint))
    assert init(config)["lr"] == 0.009
    assert init(config)["net"]["class_path"] == "zoo.GoogLeNet"
    assert init(config, "data")["batch_size"] == 300


def test_file_and_flag_over_checkpoint(
    recipe: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "--config", str(recipe), "--ckpt_path", str(checkpoint)]
    assert init(resolved(capsys, *arguments))["lr"] == 0.002
    assert init(resolved(capsys, *arguments, "--model.lr", "0.4"))["lr"] == 0.4
    only_flag = ["fit", "--ckpt_path", str(checkpoint), "--model.net.dropout", "0.6"]
    config = resolved(capsys, *only_flag)
    assert init(config)["net"]["init_args"]["dropout"] == 0.6
    assert init(config)["lr"] == 0.009


def test_class_of_file_and_flag_over_checkpoint(
    recipe: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = ["fit", "--ckpt_path", str(checkpoint), "--model.net", "torchvision.models.resnet18"]
    flag += ["--data", "CIFAR100", "--data.root", str(recipe.parent)]
    config = resolved(capsys, *flag)
    assert init(config)["net"]["class_path"] == "torchvision.models.resnet18"
    assert config["data"]["class_path"] == "datamodules.CIFAR100"
    recipe.write_text(
        "model: {class_path: ImageClassifier, init_args: {net: {class_path: "
        "torchvision.models.resnet18}}}\n"
    )
    config = resolved(capsys, "fit", "--ckpt_path", str(checkpoint), "--config", str(recipe))
    assert init(config)["net"]["class_path"] == "torchvision.models.resnet18"


def test_sgd_chosen_after_adamw_inherits_nothing(
    recipe: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = recipe.with_name("later.yaml")
    later.write_text("model: {init_args: {optimizer: sgd}}\n")
    for arguments in (
        ["--config", str(recipe), "--config", str(later)],
        ["--config", str(recipe), "--model.optimizer", "sgd"],
        ["--config", str(recipe), "--model.optimizer=sgd"],
        ["--ckpt_path", str(checkpoint), "--model.optimizer", "sgd"],
        ["--ckpt_path", str(checkpoint), "--config", str(later)],
    ):
        found = init(resolved(capsys, "fit", *arguments))
        assert found["optimizer"] == "sgd"
        assert [found[k] for k in ("lr", "weight_decay", "momentum", "beta2")] == [None] * 4
    config = resolved(capsys, "fit", "--config", str(recipe), "--model.optimizer", "adamw")
    assert init(config)["weight_decay"] == 0.3  # the same optimiser keeps its numbers
    own = ["--model.optimizer", "sgd", "--model.lr", "0.05"]
    found = init(resolved(capsys, "fit", "--config", str(recipe), *own))
    assert (found["lr"], found["weight_decay"]) == (0.05, None)


def test_short_name_of_ours_wins_over_torchvisions(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolved(capsys, "fit", "--config", str(recipe))
    assert init(config)["net"]["class_path"] == "zoo.GoogLeNet"


@pytest.mark.parametrize(
    "flags",
    [
        ("--model.net", "{class_path: MLP, init_args: {norm: layer}}"),
        ("--model.net={class_path: MLP, init_args: {norm: layer}}",),
        ("--model", "{init_args: {net: {class_path: MLP, init_args: {norm: layer}}}}"),
    ],
)
def test_short_name_of_ours_wins_in_a_mapping_too(
    flags: tuple[str, ...], recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = init(resolved(capsys, "fit", "--config", str(recipe), *flags))["net"]
    assert net["class_path"] == "zoo.MLP"
    assert net["init_args"]["norm"] == "layer"


def test_packaged_recipe_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolved(capsys, "fit", "--config", "inception")["data"]["class_path"].endswith("Digits")
    (tmp_path / "inception").write_text(RECIPE)  # a file of that name wins
    config = resolved(capsys, "fit", "--config", "inception")
    assert init(config, "data")["batch_size"] == 300


def test_a_recipe_without_config_only_says_whose_run(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolved(capsys, "test", "gru", "--ckpt_path", str(checkpoint))
    assert config["data"]["class_path"].endswith("Digits")
    assert init(config)["lr"] == 0.009
    over = resolved(capsys, "test", "--config", "smoke", "--ckpt_path", str(checkpoint))
    assert over["trainer"]["limit_test_batches"] == 2
