"""The packaged sweeps: what they vary, and that each of their runs can be started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.catalog.contents import recipes_folder
from zoo.studies.spec import Spec, read_spec
from zoo.studies.tables import read_table

FILES = [
    path
    for path in sorted((recipes_folder() / "studies").glob("*.yaml"))
    if "vary" in yaml.safe_load(path.read_text(encoding="utf-8"))
]
TINY = ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"]
TINY += [f"--trainer.limit_{split}_batches=1" for split in ("train", "val")]


def spec_of(name: str) -> Spec:
    path = next(path for path in FILES if path.stem == name)
    return read_spec(path, yaml.safe_load(path.read_text(encoding="utf-8")), [], [])


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_each_is_a_grid_whose_options_exist(name: str) -> None:
    spec = spec_of(name)
    assert not spec.is_search
    assert len(spec.seeds) >= 2
    assert len(spec.grid()) <= 60


def test_norms_see_equally_many_images_at_a_rate_in_proportion() -> None:
    spec = spec_of("norm_vs_batch_size")
    options = [cell.options for cell in spec.grid()]
    assert {cell["data.batch_size"] for cell in options} == {1, 2, 4, 16, 64}
    assert {cell["model.lr"] / cell["data.batch_size"] for cell in options} == {0.05 / 64}
    of_one = {cell["model.net.norm"] for cell in options if cell["data.batch_size"] == 1}
    assert of_one == {"group", "layer"}
    assert not any("max_epochs" in name for cell in options for name in cell)


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_each_run_can_be_started(name: str, zoo: Callable[..., Any]) -> None:
    ended = zoo(["sweep", f"studies/{name}", "--seeds=[0]", "--wandb=off", *TINY])
    assert ended.code == 0
    rows = read_table(Path("runs") / name / "table.csv")
    assert len(rows) == len(spec_of(name).grid()) / len(spec_of(name).seeds)
    assert all(isinstance(row["val/acc"], float) for row in rows)
