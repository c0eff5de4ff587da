"""What a sweep's file may say, and what is refused before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from zoo.catalog.contents import recipe_text, recipes_folder, study_names
from zoo.cli.config import read_yaml
from zoo.errors import UserError
from zoo.studies.spec import Choice, Range, Spec, check_folder, difference_of, read_spec

CONTENT: dict[str, Any] = {
    "base": "mlp",
    "options": {"trainer.max_epochs": 1},
    "vary": {"model.net.norm": ["batch", "layer"], "data.batch_size": [16, 64]},
    "seeds": [0, 1],
    "metric": "val/acc",
    "mode": "max",
}


GRIDS = [name for name in study_names() if "\nbase:" in recipe_text(name)]


def spec_of(*flags: str, **changes: Any) -> Spec:
    return read_spec(Path("mine.yaml"), CONTENT | changes, [], list(flags))


def test_a_grid_is_all_combinations_and_a_run_what_fit_is_given() -> None:
    spec = spec_of("--model.lr", "0.1")
    grid = spec.grid()
    assert len(grid) == 2 * 2 * 2
    assert grid[-1].values == {"norm": "layer", "batch_size": 64}
    assert grid[-1].label == "norm=layer,batch_size=64,seed=1"
    assert spec.request(grid[-1]).argv == [
        *["fit", "--config", "mlp"],
        *["--trainer.devices=1", "--checkpoint.monitor=val/acc", "--checkpoint.mode=max"],
        *["--trainer.max_epochs=1", "--model.lr", "0.1"],
        *["--model.net.norm=layer", "--data.batch_size=64", "--seed_everything=1"],
    ]


def test_combinations_are_left_out() -> None:
    exclude = [{"norm": "batch", "batch_size": 16}, {"norm": "layer"}]
    grid = spec_of(exclude=exclude).grid()
    assert [(cell.values, cell.seed) for cell in grid] == [
        ({"norm": "batch", "batch_size": 64}, 0),
        ({"norm": "batch", "batch_size": 64}, 1),
    ]


def test_a_name_stands_for_several_options() -> None:
    several = {"model.net.norm": "group", "model.lr": 0.1}
    vary = {
        "kind": [{"name": "group norm", "value": several}],
        "model.net.widths": [[16], {"name": "wide", "value": [64, 64]}],
    }
    first, second = spec_of(vary=vary).varied
    assert first.values == (Choice("group norm", several),)
    assert second.values == (
        Choice("[16]", {"model.net.widths": [16]}),
        Choice("wide", {"model.net.widths": [64, 64]}),
    )
    assert spec_of(vary=vary).grid()[0].options == several | {"model.net.widths": [16]}


def test_a_search_draws_from_ranges() -> None:
    vary = {
        "model.lr": {"log_uniform": [0.001, 0.1]},
        "data.batch_size": {"integer": [8, 64]},
        "model.net.norm": {"choice": ["batch", "none"]},
    }
    varied = spec_of(vary=vary, trials=3, seeds=[0]).varied
    assert varied[0].values == Range("log_uniform", 0.001, 0.1)
    assert varied[1].values == Range("integer", 8, 64)
    assert [choice.name for choice in varied[2].values] == ["batch", "none"]  # type: ignore[union-attr]


LR = "model.lr"
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"base": "mpl"}, ["option base is 'mpl'", "did you mean 'mlp'?"]),
    ({"vary": {"model.net.nrm": ["batch"]}}, ["model.net.nrm", "did you mean --model.net.norm?"]),
    ({"vary": {LR: []}}, ["vary.model.lr is []", "at least one value"]),
    ({"vary": {}}, ["vary is {}"]),
    ({"vary": {"model.net.norm": ["grop"]}}, ["'grop'", "did you mean 'group'?"]),
    ({"vary": {"data.batch_size": ["many"]}}, ["data.batch_size is 'many'", "a whole number"]),
    ({"vary": {"data.batch_size": [1.5]}}, ["data.batch_size is 1.5"]),
    ({"vary": {"model.net": ["MLP", "RestNet"]}}, ["'RestNet'", "did you mean 'ResNet'?"]),
    ({"vary": {LR: [0.1, 0.1]}}, ["0.1 stands twice"]),
    ({"vary": {LR: {"uniform": [0, 1]}}}, ["trials for a search"]),
    ({"vary": {LR: {"unifrm": [0, 1]}}, "trials": 2, "seeds": [0]}, ["uniform, log_uniform"]),
    ({"vary": {LR: {"uniform": [1, 0]}}, "trials": 2, "seeds": [0]}, ["lowest first"]),
    ({"vary": {LR: {"log_uniform": [0, 1]}}, "trials": 2, "seeds": [0]}, ["above 0"]),
    ({"vary": {LR: {"integer": [0.5, 1]}}, "trials": 2, "seeds": [0]}, ["two whole numbers"]),
    ({"vary": {LR: {"uniform": [0]}}, "trials": 2, "seeds": [0]}, ["two numbers"]),
    ({"options": {"model.net.activation": "gleu"}}, ["did you mean 'gelu'?"]),
    ({"options": {"model.nte.norm": "batch"}}, ["model.nte.norm"]),
    ({"metric": "val/ac"}, ["metric is 'val/ac'", "did you mean 'val/acc'?"]),
    ({"metric": "test/acc"}, ["a figure of validation"]),
    ({"metric": None}, ["metric is missing"]),
    ({"mode": "maximum"}, ["mode is 'maximum'; give one of max, min"]),
    ({"seeds": []}, ["seeds is []"]),
    ({"seeds": [True]}, ["seeds is [True]"]),
    ({"seeds": [-1]}, ["seeds is [-1]", "from 0 to 4294967295"]),
    ({"seeds": [2**32]}, ["seeds is [4294967296]", "from 0 to 4294967295"]),
    ({"metric": "val/accuracy"}, ["metric is 'val/accuracy'", "(did you mean 'val/acc'?)"]),
    ({"metric": "AUC"}, ["metric is 'AUC'", "(did you mean 'val/auroc'?)"]),
    ({"seeds": [0, 1, 0]}, ["seeds is [0, 1, 0]", "each once"]),
    ({"trials": 0, "seeds": [0]}, ["trials is 0"]),
    ({"trials": 3}, ["seeds is [0, 1]", "one seed"]),
    ({"pruner": "median"}, ["pruner is 'median'", "trials"]),
    (
        {"vary": {LR: {"uniform": [0, 1]}}, "trials": 2, "seeds": [0], "test": True},
        ["test is true", "a search tests its best run once"],
    ),
    ({"sampler": "grid"}, ["sampler is 'grid'"]),
    ({"exclude": {"norm": "batch"}}, ["exclude is {'norm': 'batch'}", "a list of combinations"]),
    ({"exclude": [{}]}, ["exclude is [{}]", "name a value"]),
    ({"exclude": [{"nrm": "batch"}]}, ["exclude is 'nrm'", "did you mean 'norm'?"]),
    ({"exclude": [{"norm": "group"}]}, ["exclude.norm is 'group'; give one of batch, layer"]),
    ({"exclude": [{"norm": "batch"}, {"norm": "layer"}]}, ["it leaves no run"]),
    (
        {"vary": {LR: {"uniform": [0, 1]}}, "trials": 2, "seeds": [0], "exclude": [{"lr": 1}]},
        ["a search draws"],
    ),
    ({"vary": {LR: [float("nan")]}}, ["vary.model.lr is nan", "finite"]),
    (
        {"vary": {LR: [0.1, 0.2], "rate": [{"name": "x", "value": {LR: 0.3}}]}},
        ["vary.rate and vary.model.lr both set model.lr"],
    ),
    ({"vary": {"seed_everything": [1, 2]}}, ["vary.seed_everything", "give them as seeds"]),
    ({"vary": {"trainer.devices": [1, 2]}}, ["trainer.devices", "--jobs"]),
    ({"options": {"trainer.devices": 2}}, ["trainer.devices is 2", "--jobs"]),
    ({"varry": {}}, ["varry is not known", "did you mean 'vary'?"]),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_cannot_be_swept_is_refused(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        spec_of(**changes)
    assert str(refused.value).startswith("study 'mine.yaml': option ")
    for word in words:
        assert word in str(refused.value)


def test_a_recipe_of_the_command_line_goes_over_base_and_options(tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    net = "{init_args: {norm: layer}}"
    over.write_text(f"{{trainer: {{max_epochs: 7}}, model: {{init_args: {{net: {net}}}}}}}")
    options = {"trainer.max_epochs": 1, "model.net.norm": "batch", "model.lr": 0.1}
    content = CONTENT | {"options": options, "vary": {"data.batch_size": [16]}}
    spec = read_spec(Path("mine.yaml"), content, [str(over)])
    words = spec.request(spec.grid()[0]).argv
    assert words[:5] == ["fit", "--config", "mlp", "--config", str(over)]
    assert "--model.lr=0.1" in words
    assert not [word for word in words if word.startswith(("--trainer.max", "--model.net"))]


def test_off_stands_for_no_wandb_and_packages_are_trusted_in_each_run() -> None:
    spec = read_spec(Path("mine.yaml"), CONTENT | {"options": {"wandb": False}}, trust=["mine"])
    request = spec.request(spec.grid()[0])
    assert "--wandb=off" in request.argv
    assert request.trust == ["mine"]


def test_a_flag_does_not_set_what_is_varied() -> None:
    with pytest.raises(UserError, match="varied by the study"):
        spec_of("--model.net.norm=group")


def test_a_folder_of_another_sweep_is_refused(tmp_path: Path) -> None:
    from zoo.studies.outcome import write_spec

    write_spec(spec_of(), tmp_path)
    check_folder(spec_of(picture="heat_map"), tmp_path)
    with pytest.raises(UserError, match=r"has seeds \[0, 1\], not \[0\] as here"):
        check_folder(spec_of(seeds=[0]), tmp_path)


def test_a_folder_of_a_sweep_with_other_options_of_the_line_is_refused(tmp_path: Path) -> None:
    from zoo.studies.outcome import write_spec

    write_spec(spec_of("--trainer.default_root_dir", "its 1st\nplace", "--model.lr=0.1"), tmp_path)
    check_folder(spec_of("--model.lr", "0.1", "--wandb", "off"), tmp_path)
    with pytest.raises(UserError, match=r"has flags\.model\.lr '0\.1', not '0\.2' as here"):
        check_folder(spec_of("--model.lr=0.2"), tmp_path)
    over = tmp_path / "over.yaml"
    over.write_text("{}")
    other = read_spec(Path("mine.yaml"), CONTENT, [str(over)], ["--model.lr=0.1"])
    with pytest.raises(UserError, match="began with another base recipe than the one here"):
        check_folder(other, tmp_path)


def test_what_is_written_can_be_swept_again(tmp_path: Path) -> None:
    from zoo.cli.config import read_yaml
    from zoo.studies.outcome import write_spec

    write_spec(spec_of(), tmp_path)
    content = read_yaml(tmp_path / "study.yaml", "study", "")
    assert read_spec(Path("mine.yaml"), content, [], []).identity() == spec_of().identity()


def test_a_difference_is_found_inside() -> None:
    was = spec_of().identity()
    assert difference_of(was, spec_of().identity()) is None
    other = spec_of(options={"trainer.max_epochs": 2}).identity()
    assert difference_of(was, other) == "has options.trainer.max_epochs 1, not 2 as here"
    assert difference_of(was, spec_of(base="resnet").identity() | {"vary": {}}) == (
        "began with another base recipe than the one here"
    )
    assert difference_of(was, spec_of("--wandb", "off").identity()) is None


@pytest.mark.parametrize("name", GRIDS)
def test_a_packaged_grid_can_be_swept(name: str) -> None:
    path = recipes_folder() / f"{name}.yaml"
    spec = read_spec(path, read_yaml(path, "study", "base:"), [], [])
    assert len(spec.grid()) >= 4 * len(spec.seeds)
    assert len(spec.seeds) >= 2  # one run is no answer
