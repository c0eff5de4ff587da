"""What the README shows works as it stands there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from zoo.__main__ import main
from zoo.studies.spec import read_spec

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line]
ZOO = [line for line in COMMANDS if line.startswith("zoo ")]


def test_it_opens_with_the_two_commands() -> None:
    first, second = COMMANDS[:2]
    assert first.endswith("python -m zoo fit --config recipes/inception.yaml")
    assert second.endswith("&& python -m pytest")
    assert all("-c constraints.txt" in command for command in (first, second))


def test_ci_finds_the_test_command() -> None:
    script = (README.parent / ".ci" / "run").read_text()
    pattern = re.search(r"s/\^\.\*&& \\\((.*?)\\\)\$/", script)
    assert pattern is not None
    assert re.search(rf"&& ({pattern[1]})$", COMMANDS[1], flags=re.MULTILINE)


SHOWS = [line for line in ZOO if line.startswith(("zoo list", "zoo help")) or "--help" in line]


@pytest.mark.parametrize(
    "line", [line for line in ZOO if " fit " in line and "last" not in line and line not in SHOWS]
)
def test_fit_commands_are_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main([*shlex.split(line)[1:], "--print_config"])
    assert end.value.code in (0, None)
    assert yaml.safe_load(capsys.readouterr().out)["model"]["class_path"].startswith("zoo.")


@pytest.mark.parametrize("line", SHOWS)
def test_list_and_help_show_something(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(line)[1:]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1


def test_the_yaml_example_is_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example, *_ = (text for kind, text in BLOCKS if kind == "yaml")
    (tmp_path / "mine.yaml").write_text(example)
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", "mine.yaml", "--print_config"])
    assert end.value.code in (0, None)
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["init_args"]["net"]["class_path"] == "torchvision.models.resnet18"


def test_the_study_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, example, _ = (text for kind, text in BLOCKS if kind == "yaml")
    spec = read_spec(Path("norms.yaml"), yaml.safe_load(example), [], [])
    assert len(spec.grid()) == 3 * 2 * 3
    assert any(line.startswith("zoo sweep --config norms.yaml") for line in ZOO)


def test_the_sweep_of_wandb_calls_the_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    *_, example = (text for kind, text in BLOCKS if kind == "yaml")
    sweep = yaml.safe_load(example)
    program, *words, arguments = sweep["command"]
    assert (program, arguments) == ("zoo", "${args}")
    (name,) = sweep["parameters"]
    with pytest.raises(SystemExit):
        main([*words, f"--{name}=0.01", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["lr"] == 0.01


def test_the_example_of_a_trained_net_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example, *_ = (text for kind, text in BLOCKS if kind == "python")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    label, *probabilities = capsys.readouterr().out.split()
    assert label in map(str, range(10))
    assert all(0 <= float(value) <= 1 for value in probabilities)
    assert names["task"].net is names["net"]  # type: ignore[attr-defined]


def test_the_python_example_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, example = (text for kind, text in BLOCKS if kind == "python")
    code = "\n".join(line for line in example.splitlines() if not line.startswith("trainer."))
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["task"].net.num_classes == 10  # type: ignore[attr-defined]
