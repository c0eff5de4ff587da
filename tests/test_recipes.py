"""Every recipe parses, builds, and runs through the smoke overlay on tiny data in real formats."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from zoo.__main__ import main
from zoo.catalog import entries, recipe_names, recipes_folder

OVERLAYS = {"smoke", "trainer/cpu", "trainer/ddp", "trainer/gpu"}
RECIPES = sorted(set(recipe_names()) - OVERLAYS)


def test_how_many_there_are() -> None:
    assert set(recipe_names()) > OVERLAYS
    assert RECIPES == [
        "cifar10/inception",
        "cifar10/inception_v3",
        "cifar10/resnet18",
        "cifar10/resnet20",
        "cifar10/resnet56",
        "cifar10/speedrun",
        "cifar100/inception",
        "cifar100/resnet18",
        "inception",
        "inception_v3",
        "mlp",
        "regression",
        "resnet",
    ]


def test_each_has_a_line_about_itself() -> None:
    assert all(about.endswith(".") for _, about in entries("recipes"))


def write_cifar(root: Path, classes: int) -> None:
    """CIFAR's original pickle layout with a few random images."""
    generator = np.random.default_rng(0)
    folder = root / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir(parents=True)

    def write(name: str, count: int) -> None:
        labels = [int(k) for k in generator.permutation(np.arange(count) % classes)]
        content = {
            b"data": generator.integers(0, 256, (count, 3072), dtype=np.uint8),
            (b"labels" if classes == 10 else b"fine_labels"): labels,
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))

    if classes == 10:
        for number in range(1, 6):
            write(f"data_batch_{number}", 120)
        write("test_batch", 60)
        meta = {b"label_names": [f"class {k}".encode() for k in range(10)]}
        (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    else:
        write("train", 600)
        write("test", 100)
        meta = {b"fine_label_names": [f"class {k}".encode() for k in range(100)]}
        (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))


@pytest.mark.parametrize("name", RECIPES)
def test_runs_through_the_smoke_overlay(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", "--config", name, "--config", "smoke", "--config", "trainer/cpu"]
    arguments += ["--wandb", "off", "--data.batch_size", "8", "--trainer.limit_train_batches", "2"]
    recipe = yaml.safe_load((recipes_folder() / f"{name}.yaml").read_text())
    data_set = recipe["data"]["class_path"]
    if recipe["model"]["init_args"].get("compile"):
        arguments += ["--model.compile", "false"]  # it takes minutes on a CPU, and a compiler
    if data_set.startswith("CIFAR"):
        write_cifar(tmp_path / "data", int(data_set.removeprefix("CIFAR")))
        arguments += ["--data.root", str(tmp_path / "data"), "--data.verify", "false"]
        arguments += ["--data.val_size", "100"]
    assert main(arguments) == 0
    (run,) = tmp_path.glob("runs/*/*")
    expected = {"recipe.yaml", "metrics.csv", "summary.json", "checkpoints", "curves.png"}
    assert expected < {path.name for path in run.iterdir()}
    # The resolved recipe runs again as it stands.
    again = ["fit", "--config", str(run / "recipe.yaml"), "--trainer.limit_train_batches", "1"]
    assert main([*again, "--trainer.limit_test_batches", "1"]) == 0
