"""The page of the studies has a section for each question, and the Korean one the same."""

import re

from zoo.catalog.contents import recipes_folder, study_names

FOLDER = recipes_folder() / "studies"
ENGLISH, KOREAN = (
    (FOLDER / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md")
)


def test_each_study_has_its_command_on_both_pages() -> None:
    for page in (ENGLISH, KOREAN):
        assert sorted(re.findall(r"^zoo sweep (studies/\w+)$", page, re.MULTILINE)) == study_names()


def test_both_pages_are_built_alike() -> None:
    built = [
        re.findall(r"^(?:#+|```\w*|zoo .*|!\[|<!-- .*|\|)", page, re.MULTILINE)
        for page in (ENGLISH, KOREAN)
    ]
    assert built[0] == built[1]
