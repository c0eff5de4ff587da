"""The command line: ``python -m zoo`` or ``zoo``."""

from __future__ import annotations

import os
import sys
import traceback

USAGE = """\
usage: zoo VERB [--config RECIPE] [--OPTION VALUE ...]

  zoo fit --config RECIPE             train, then test the best checkpoint
  zoo fit ... --ckpt_path last        go on with the recipe's newest unfinished run
  zoo validate --ckpt_path FILE       validate a checkpoint
  zoo test --ckpt_path FILE           test a checkpoint
  zoo predict --ckpt_path FILE --inputs IMAGE|FOLDER|TEXT ...
  zoo export --ckpt_path FILE --to hf FOLDER
  zoo list [nets|tasks|data|recipes] [PATTERN]
  zoo results RUN ... [--to FILE]     the test figures of runs, a row each
  zoo VERB --help                     all options of a verb

RECIPE is a YAML file or the name of a packaged recipe (zoo list recipes). Later files win over
earlier ones, options over files. Try: zoo fit --config inception
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and give its exit code."""
    argv = sys.argv[1:] if arguments is None else arguments
    # torch writes pages of C++ frames where another process of the run is gone, which we say.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from datamodules.core.errors import did_you_mean
    from zoo.cli.catalog import VERBS
    from zoo.errors import UserError

    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(USAGE, end="")
            return 0
        if argv[0] in ("-V", "--version"):
            import zoo

            print(f"lightning-zoo {zoo.__version__}")
            return 0
        if argv[0] == "list":
            return _list(argv[1:])
        if argv[0] == "export":
            from zoo.cli.export import export

            return export(argv[1:])
        if argv[0] == "results":
            from zoo.cli.results import results

            return results(argv[1:])
        if argv[0] not in VERBS:
            verbs = [*VERBS, "export", "list", "results"]
            hint = did_you_mean(argv[0], verbs) or f"; give one of {', '.join(verbs)}"
            raise UserError(f"there is no verb {argv[0]!r}{hint}")
        from zoo.cli.verbs import run

        return run(argv)
    except UserError as error:
        if os.environ.get("ZOO_DEBUG") == "1":
            traceback.print_exc()
        print(f"zoo: {_shown(str(error))}", file=sys.stderr)
        return 2


def _shown(sentence: str, most: int = 800) -> str:
    """Return a sentence without the middle of a value that fills pages."""
    half = most // 2
    return sentence if len(sentence) <= most else f"{sentence[:half]} ... {sentence[-half:]}"


def _list(argv: list[str]) -> int:
    from zoo.cli.catalog import KINDS, listing
    from zoo.errors import UserError

    kind = argv[0] if argv and argv[0] in KINDS else None
    rest = argv[1:] if kind else argv
    if rest and rest[0] in ("-h", "--help"):
        print(f"usage: zoo list [{'|'.join(KINDS)}] [PATTERN]")
        return 0
    takes = f"give one of {', '.join(KINDS)} and a pattern, or either"
    if rest and rest[0].startswith("-"):
        raise UserError(f"option {rest[0]} is not known; {takes}")
    if len(rest) > 1:
        raise UserError(f"list takes no {rest[1]!r} beside {rest[0]!r}; {takes}")
    print(listing(kind, rest[0] if rest else None))
    return 0


def entry() -> None:
    """Run the console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
