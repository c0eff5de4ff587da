"""Mutated recipes and command lines end in one sentence, never in a traceback; seeded.

``FUZZ=20000 pytest tests/fuzz -m slow`` tries more.
"""

import copy
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.cli.config import read_layer
from zoo.errors import UserError

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e30, float("nan"), "", "x" * 3000, "zoo.cli.verbs.run", "{a: [", "../..",
    "\ud55c\u2029", [], [[]], {}, {"class_path": "os.system"}, {"class_path": 3}, {"init_args": []},
    [{"class_path": "torch.nn.Identity"}], {"": 1}, {1: 2},
)  # fmt: skip
SMALL = {
    "model": {"class_path": "ImageClassifier", "init_args": {"net": {"class_path": "GoogLeNet"}}},
    "data": {"class_path": "Digits", "init_args": {"batch_size": 64}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1},
}


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """All values of a recipe, as what holds them and under which key."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


def mutate(recipe: Any, draw: random.Random) -> Any:
    """Change one to three values or names of a recipe."""
    recipe = copy.deepcopy(recipe)
    for _ in range(draw.randint(1, 3)):
        found = [*places(recipe)]
        if not found:
            break
        holder, key = draw.choice(found)
        how = draw.randrange(4)
        if how == 0 and isinstance(holder, dict):
            holder[f"{key}{draw.choice('x.+ ')}"] = holder.pop(key)
        elif how == 1:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    return recipe


def text_of(recipe: Any, draw: random.Random) -> str:
    """A recipe as YAML, of which some have a letter too many or too few."""
    text = yaml.safe_dump(recipe, allow_unicode=True)
    if draw.random() < 0.3 and text:
        place = draw.randrange(len(text))
        text = text[:place] + draw.choice("{}[]:&*!|>\t'\"") + text[place + draw.randrange(2) :]
    return text


def test_any_file_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for seed in range(250):
        draw = random.Random(seed)
        recipe = yaml.safe_load(draw.choice(RECIPES).read_text(encoding="utf-8"))
        path.write_text(text_of(mutate(recipe, draw), draw), encoding="utf-8")
        with suppress(UserError):
            assert isinstance(read_layer(path), dict)


def try_command(seed: int, zoo: Callable[[str], Any]) -> None:
    draw = random.Random(seed)
    Path("mine.yaml").write_text(text_of(mutate(SMALL, draw), draw), encoding="utf-8")
    with suppress(SystemExit):  # the recipe was shown
        ended = zoo("fit --config mine.yaml --wandb off --print_config")
        refused(ended)


def refused(ended: Any) -> None:
    assert ended.code == 2
    assert ended.err.startswith("zoo: ")
    assert ended.err.count("\n") == 1
    assert len(ended.err) < 1000


LINE = (
    *("fit", "--config", "r.yaml", "--wandb", "off", "--data.batch_size", "32"),
    *("--model.lr", "0.01", "--model.net.norm", "batch", "--seed_everything", "1"),
)
WORDS = (
    *("", "--", "-1", "null", "true", "[", "{a: 1}", "[[1]]", "x" * 3000, "\ud55c", "1e400", "fit"),
    *(
        "--print_config",
        "--model",
        "--data",
        "--model.net=",
        "--trainer.callbacks+=",
        "--inputs",
        "=",
    ),
)


def mutate_line(draw: random.Random) -> list[str]:
    """Change one to three words of a line: left out, twice, moved, spelt or quoted wrong."""
    words = [*LINE]
    for _ in range(draw.randint(1, 3)):
        place, other = draw.randrange(len(words)), draw.choice(WORDS)
        word = words[place]
        flag = draw.choice([f"{word}={other}", f"{word}x", word[:-1], word.upper(), f"'{word}'"])
        words[place : place + 1] = draw.choice(
            [[], [word, word], [other], [word, other], [other, word], [flag]]
        )
        if draw.random() < 0.2:
            draw.shuffle(words)
        words = words or ["fit"]
    return words


def try_line(seed: int, zoo: Callable[..., Any]) -> None:
    shutil.rmtree("runs", ignore_errors=True)
    words = mutate_line(random.Random(seed))
    with suppress(SystemExit):  # something was shown
        ended = zoo(words)
        if ended.code == 0:
            assert [*Path().rglob("summary.json")] or words[0] != "fit", words
            assert ended.out, words
        else:
            refused(ended)


@pytest.mark.parametrize("ten", range(5))
def test_a_mutated_line_does_something_or_is_refused(ten: int, zoo: Callable[..., Any]) -> None:
    for seed in range(10 * ten, 10 * ten + 10):
        try_line(seed, zoo)


@pytest.mark.parametrize("tens", range(5))
def test_a_command_shows_its_recipe_or_refuses_it(tens: int, zoo: Callable[[str], Any]) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        try_command(seed, zoo)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_commands(zoo: Callable[[str], Any]) -> None:
    for seed in range(50, int(os.environ.get("FUZZ", "500"))):
        try_command(seed, zoo)
        try_line(seed, zoo)
