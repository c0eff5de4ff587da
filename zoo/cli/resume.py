"""Which run a command goes on with, and what would make it another run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule

from datamodules.core.errors import refuse, shown
from datamodules.core.files import nearby
from datamodules.core.protocols import SupportsMarks
from zoo.catalog.facts import FACTS
from zoo.cli.config import Layer, class_paths, read_layer, value_of
from zoo.errors import UserError
from zoo.run.runs import checkpoint_of, runs_of
from zoo.tasks.base import Task

#: Options of the data that say how it is handed over, not what it is.
_MAY_DIFFER = {"batch_size", "num_workers", *FACTS}


def unfinished_run(root: Path, recipe: str, layers: list[Layer], flags: list[str]) -> Path:
    """Return ``last.ckpt`` of the newest run of these data and this net that has not ended.

    Without one, the newest that has ended goes on where more epochs or steps are asked for.

    Args:
        root: Where runs are kept.
        recipe: The recipe's name.
        layers: The layers of the configuration, without a checkpoint's.
        flags: The flags.

    Raises:
        UserError: If there is none.
    """
    recipes = {run: read_layer(run / "recipe.yaml") for run in runs_of(root, recipe, "last")}
    ended = [run for run in recipes if (run / "summary.json").is_file()]
    longer = [run for run in ended if _asks_more(recipes[run], layers, flags)]
    first: tuple[Path, str] | None = None
    for run in [*(run for run in recipes if run not in ended), *longer]:
        difference = _difference_of_options(recipes[run], layers, flags)
        if difference is None:
            return checkpoint_of(run, "last")
        first = first or (run / "checkpoints" / "last.ckpt", difference)
    if first is not None:
        raise _refusal("last", *first)
    raise refuse(
        "ckpt_path",
        "last",
        f"all runs of {recipe!r} have come to their end: leave it out to start anew, or give "
        "trainer.max_epochs more to go on with the newest",
    )


def check_same_run(
    path: str, checkpoint: Mapping[str, Any], task: object, data: LightningDataModule | None
) -> None:
    """Check that a run goes on with the data and the net that it began with.

    Args:
        path: The checkpoint's file in the run's folder, which holds what came of them.
        checkpoint: What it holds.
        task: The task that is to go on.
        data: The data that it is to go on with; they are set up.

    Raises:
        OptionError: If either differs.
    """
    saved = checkpoint.get("zoo", {}).get("data_marks", {})
    now: dict[str, str] = data.marks() if isinstance(data, SupportsMarks) else {}
    for split in ("train", "val"):
        if split in saved and split in now and saved[split] != now[split]:
            had = f"had a {split} split of {saved[split]}, not of {now[split]} as here"
            raise _refusal(path, Path(path), had)
    net = checkpoint.get("hyper_parameters", {}).get("net")
    if isinstance(task, Task) and isinstance(net, dict):
        options = task.net_spec() or net
        had_net = _difference(net, options["class_path"], options["init_args"], "model.net")
        if had_net is not None:
            raise _refusal(path, Path(path), had_net)


def _refusal(given: str, path: Path, difference: str) -> UserError:
    run = nearby(path.resolve().parents[1])
    return refuse(
        "ckpt_path",
        given,
        f"the run {run!r} {difference}: give what it began with, or leave ckpt_path out to start "
        "anew",
    )


def _asks_more(was: Layer, layers: list[Layer], flags: list[str]) -> bool:
    """Return whether more epochs or steps are asked for than a run had."""
    for name in ("max_epochs", "max_steps"):
        asked, had = value_of(f"trainer.{name}", layers, flags), was["trainer"].get(name)
        if asked is not None and _limit(asked) > _limit(had):
            return True
    return False


def _limit(number: Any) -> float:
    try:
        return math.inf if number is None or float(number) < 0 else float(number)
    except ValueError:
        return 0  # the parser refuses it


def _difference_of_options(was: Layer, layers: list[Layer], flags: list[str]) -> str | None:
    """Return what layers and flags say of data and net that a run's recipe does not."""
    for section in ("data", "model.init_args.net"):
        spec = value_of(section, [was], [])
        if not isinstance(spec, dict) or "class_path" not in spec:
            continue
        given = {
            name: value_of(f"{section}.init_args.{name}", layers, flags)
            for name in spec.get("init_args", {})
        }
        chosen = value_of(section, layers, flags)
        if not isinstance(chosen, str):
            chosen = value_of(f"{section}.class_path", layers, flags)
        class_path = class_paths().get(chosen, chosen) or spec["class_path"]
        options = {name: value for name, value in given.items() if value is not None}
        difference = _difference(spec, class_path, options, section.replace(".init_args", ""))
        if difference is not None:
            return difference
    return None


def _difference(
    was: Mapping[str, Any], class_path: str, options: Mapping[str, Any], section: str
) -> str | None:
    """Return the first option of a class that is another than it was."""
    if class_path != was["class_path"]:
        return f"had {section} {was['class_path']!r}, not {class_path!r} as here"
    for name, before in was.get("init_args", {}).items():
        if name in _MAY_DIFFER or name not in options or _is_same(before, options[name]):
            continue
        value = options[name]
        value = value if isinstance(value, str) and not isinstance(before, str) else shown(value)
        return f"had {section}.{name} {shown(before)}, not {value} as here"
    return None


def _is_same(before: Any, value: Any) -> bool:
    if isinstance(before, Mapping) and isinstance(value, Mapping):
        return all(name in before and _is_same(before[name], value[name]) for name in value)
    if before == value or not isinstance(value, str):
        return bool(before == value)
    if isinstance(before, str) and os.sep in before:
        # A file or folder that is no longer there has been moved; its content will tell.
        return not os.path.exists(before) or os.path.realpath(before) == os.path.realpath(value)
    try:
        return bool(before == yaml.safe_load(value))  # a flag's
    except yaml.YAMLError:
        return False
