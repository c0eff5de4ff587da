"""A study's own script: run where it is packaged or trusted, and nowhere else."""

from pathlib import Path

import pytest

from zoo.catalog.contents import recipes_folder

SCRIPT = """\
from pathlib import Path

from zoo.studies.drawing import lines, save_picture
from zoo.studies.tables import write_table


def study(folder: Path, *, seeds: list[int], factor: float = 1.0) -> None:
    rows = [{"seed": seed, "value": factor * seed} for seed in seeds]
    write_table(folder, rows)
    save_picture(lambda: lines(rows, "seed", "value"), folder / "value.png")
"""
STUDY = "# Does it run?\nscript: times.py\nseeds: [1, 2]\noptions: {factor: 2.5}\n"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("times.py").write_text(SCRIPT)
    Path("times.yaml").write_text(STUDY)
    return tmp_path


def test_a_trusted_script_leaves_its_table_and_picture(study, zoo) -> None:
    ended = zoo("sweep --config times.yaml --trust times.py")
    assert ended.code == 0
    assert ended.out == "seed  value\n   1    2.5\n   2      5\nstudy in runs/times: value.png\n"
    assert Path("runs/times/table.md").is_file()


def test_flags_win_over_the_file(study, zoo) -> None:
    ended = zoo("sweep times --trust times.py --seeds [3] --options.factor 1e-1 "
                "--trainer.default_root_dir elsewhere")  # fmt: skip
    assert ended.code == 0
    assert Path("elsewhere/times/table.csv").read_text() == "seed,value\n3,0.30000000000000004\n"


def test_a_script_of_the_recipes_needs_no_trust(study, zoo, monkeypatch) -> None:
    recipes = study / "recipes"
    (recipes / "studies").mkdir(parents=True)
    for name in ("times.py", "times.yaml"):
        Path(name).rename(recipes / "studies" / name)
    monkeypatch.setattr("zoo.studies.script.recipes_folder", lambda: recipes)
    assert zoo("sweep --config recipes/studies/times.yaml").code == 0


def test_a_packaged_study_is_found_by_its_name_alone(study, zoo, monkeypatch) -> None:
    recipes = study / "recipes"
    (recipes / "studies").mkdir(parents=True)
    for name in ("times.py", "times.yaml"):
        Path(name).rename(recipes / "studies" / name)
    for module in ("script", "sweep"):
        monkeypatch.setattr(f"zoo.studies.{module}.recipes_folder", lambda: recipes)
    assert "study in runs/times" in zoo("sweep times").out
    assert zoo("sweep --config times.yaml --seeds [4]").out.splitlines()[1].split() == ["4", "10"]
    Path("times.yaml").write_text(STUDY.replace("times.py", "own.py"))  # the user's goes first
    Path("own.py").write_text(SCRIPT)
    assert "--trust own.py" in zoo("sweep times").err


def test_another_script_is_not_run(study, refused) -> None:
    Path("times.py").write_text("raise SystemExit('it was run')\n")
    refused("sweep times", "--trust times.py")
    refused("sweep times --trust other.py", "--trust times.py")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("script: lost.py", "no script 'lost.py'"),
        ("script: ../times.py", "beside it"),
        ("script: 3", "script is 3"),
        ("{script: times.py, vary: {}}", "vary is not known"),
        ("{script: times.py, seeds: []}", "option seeds is []"),
        ("{script: times.py, seeds: 3}", "option seeds is 3"),
        ("{script: times.py, seeds: [1, 1]}", "option seeds is [1, 1]"),
        ("{script: times.py, options: {facto: 2}}", "did you mean 'factor'?"),
        (
            "{script: times.py, options: {factor: many}}",
            "option options.factor is 'many'; give a number",
        ),
        ("{script: times.py, options: {factor: [1]}}", "option options.factor is [1]; give a num"),
        ("{script: times.py, options: 2}", "option options is 2"),
        ("[1]", "no mapping"),
        ("", "is empty"),
    ],
)
def test_what_cannot_be_run_is_told(study, refused, text: str, words: str) -> None:
    Path("times.yaml").write_text(text)
    refused("sweep times --trust times.py", words)


def test_options_become_what_the_function_takes(study, zoo) -> None:
    function = "def study(folder, seeds, any, half: float, where: Path | None):\n"
    Path("times.py").write_text(
        f"from pathlib import Path\n{function}    print(any, half, where)\n"
    )
    Path("times.yaml").write_text("{script: times.py, options: {any: [1], half: 1, where: a/b}}")
    assert zoo("sweep times --trust times.py").out.startswith("[1] 1.0 a/b\n")


def test_an_option_without_a_default_is_needed(study, refused) -> None:
    Path("times.py").write_text(SCRIPT.replace(" = 1.0", ""))
    Path("times.yaml").write_text("script: times.py")
    refused("sweep times --trust times.py", "options.factor is missing")


def test_a_script_without_its_function_and_flags_that_are_none(study, refused) -> None:
    refused("sweep times --trust times.py --factor 3", "--factor", "--options.NAME")
    refused("sweep", "one study")
    refused("sweep tims", "tims", "did you mean 'times'?")
    Path("times.py").write_text("x = 1\n")
    refused("sweep times --trust times.py", "no function study")


def test_the_packaged_studies_are_listed_and_are_no_recipes(zoo) -> None:
    found = {f"studies/{path.stem}" for path in (recipes_folder() / "studies").glob("*.yaml")}
    listed = zoo("list").out
    assert all(name in listed for name in found)
    assert not any(name in zoo("list recipes").out for name in found)
