"""``zoo sweep``: a study's table and picture, by many runs of a recipe or by its own script."""

from __future__ import annotations

import argparse
import os
from itertools import takewhile
from pathlib import Path

from datamodules.core.errors import did_you_mean, refuse
from datamodules.core.files import nearby
from zoo.catalog.contents import STUDIES, recipes_folder, study_names
from zoo.cli.config import flag_values, read_flag, read_layer, read_yaml, refuse_stray, value_of
from zoo.cli.request import DEFAULTS, find_recipe
from zoo.cli.verb_parser import VerbParser
from zoo.errors import OptionError, UserError
from zoo.studies.script import run_script, with_flags
from zoo.studies.tables import read_table, text_table

#: Where runs are kept.
_ROOT = "trainer.default_root_dir"

_ABOUT = """\
Runs a recipe under each combination of listed values and seeds, or under a search, or a study's
own script; leaves table.csv, table.md and a picture in runs/STUDY, beside the runs. All other
options are laid over the base recipe as in `zoo fit`. It goes on where it was stopped.
"""
_FORMAT = """\
the file:
  base: resnet                      a recipe's name or file, or a list of them
  options: {trainer.max_epochs: 3}  what all runs have in common
  vary:                             what differs: an option and its values
    model.net.norm: [batch, group]
    data.batch_size: [1, 4, 16]
    rate:                           several options together, under a name
      - {name: low, value: {model.lr: 0.001, model.warmup_steps: 0}}
      - {name: high, value: {model.lr: 0.1, model.warmup_steps: 50}}
  exclude:                          combinations that are left out
    - {batch_size: 1, norm: batch}
  seeds: [0, 1, 2]
  metric: val/acc
  mode: max                         or min
  test: false                       true: the test of each run is in the table (no selection!)
  picture: lines                    or heat_map
a search:
  trials: 20                        draws values, and tests the best once
  sampler: tpe                      or random
  pruner: median                    ends trials that go worse than half of the others
  vary: {model.lr: {log_uniform: [0.0001, 0.1]}}   or uniform, integer, choice
a script beside the file:
  script: NAME.py                   its function study(folder, *, seeds, **options) is called
  seeds: [0, 1]
  options: {steps: 100}             also --options.steps 100
"""


def sweep(argv: list[str]) -> int:
    """Run ``zoo sweep``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If something is the user's to put right.
    """
    studies = [*takewhile(lambda word: not word.startswith("-"), argv)]
    options, flags = _parser().parse_known_args(argv[len(studies) :])
    names = [*studies, *options.config]
    if not names or len(studies) > 1:
        raise UserError(
            "sweep takes one study; give --config NAME, `zoo list studies` shows those at hand"
        )
    path = find_study(names[0])
    content = read_yaml(path, "study", "base: and vary:, or script:")
    for name in ("seeds", "trials"):
        if (given := getattr(options, name)) is not None:
            content[name] = read_flag(name, given)
    if "script" in content:
        refuse_stray(flags)
        folder = Path(str(value_of(_ROOT, [read_layer(DEFAULTS)], flags))) / path.stem
        given = [(name, value) for name, value in flag_values(flags) if name != _ROOT]
        run_script(path, with_flags(content, given), folder, options.trust)
        _show(folder)
        return 0
    from zoo.studies.spec import check_folder, read_spec

    spec = read_spec(path, content, names[1:], flags, options.trust)
    layers = [read_layer(each) for each in (DEFAULTS, *map(find_recipe, spec.base))]
    folder = Path(str(value_of(_ROOT, layers, flags))) / spec.name
    if options.jobs < 1:
        raise refuse("--jobs", options.jobs, "give 1 or more")
    check_folder(spec, folder)
    from zoo.studies.run_sweep import run_sweep

    return run_sweep(spec, folder, options.storage, argv, jobs=options.jobs, retry=options.retry)


def find_study(name: str) -> Path:
    """Return a file of that path, with ``.yaml`` or without, or else a packaged study.

    Raises:
        OptionError: If neither is there.
    """
    packaged = recipes_folder() / STUDIES / f"{name.removesuffix('.yaml')}.yaml"
    own = any(os.path.isfile(each) for each in (name, f"{name}.yaml"))
    if not own and os.path.isfile(packaged):
        return packaged
    try:
        return find_recipe(name)
    except OptionError as error:
        if os.path.exists(name):
            raise
        known = [each.rpartition("/")[2] for each in study_names()]
        known += [file.stem for file in Path().glob("*.yaml")]
        hint = did_you_mean(name, known) or "; `zoo list studies` shows those at hand"
        raise UserError(
            f"there is no study {name!r}; give a file or a packaged one{hint}"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = VerbParser(
        prog="zoo sweep",
        # an argument of its own would take the values of options that are the base recipe's
        usage="zoo sweep STUDY [--OPTION VALUE ...]",
        description=_ABOUT,
        epilog=_FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="STUDY",
        help="A file, or a packaged study; further ones are recipes that go over base and options.",
    )
    parser.add_argument(
        "--trust", action="append", default=[], help="A package of classes, or a script to run."
    )
    parser.add_argument("--seeds", help="Others than the file's: [0, 1].")
    parser.add_argument("--trials", help="How many a search draws, in place of the file's.")
    parser.add_argument(
        "--storage", metavar="URL", help="An Optuna storage that several machines share."
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="Processes that share the cores and the runs."
    )
    parser.add_argument("--retry", action="store_true", help="Runs those that failed again.")
    return parser


def _show(folder: Path) -> None:
    """Print what a script left."""
    table = folder / "table.csv"
    if table.is_file():
        print(text_table(read_table(table)))
    pictures = ", ".join(sorted(path.name for path in folder.glob("*.png")))
    print(f"study in {nearby(folder)}" + (f": {pictures}" if pictures else ""), flush=True)
