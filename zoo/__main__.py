"""The command line: ``python -m zoo`` or ``zoo``."""

from __future__ import annotations

import os
import sys
import traceback

USAGE = """\
usage: zoo VERB [RECIPE ...] [--OPTION VALUE ...]

  zoo fit RECIPE                      train, then test the best checkpoint
  zoo fit RECIPE --ckpt_path last     go on with the recipe's unfinished run
  zoo check RECIPE                    try it out on one batch: what it understands, takes, costs
  zoo bench RECIPE                    time its step, part by part (--batch_size 1,2,4,8)
  zoo validate --ckpt_path FILE       validate a checkpoint
  zoo test --ckpt_path FILE           test a checkpoint
  zoo predict --ckpt_path FILE --inputs IMAGE|FOLDER|TEXT ...
  zoo export --ckpt_path FILE --to onnx|torch|safetensors|hf FOLDER
  zoo demo --ckpt_path FILE           ask it in the browser: images, texts, rows, a chat
  zoo explain --ckpt_path FILE FOLDER a page in which the net runs and is looked into
  zoo push NAME owner/name            put weights and their card on the Hugging Face hub
  zoo sweep STUDY                     a recipe under each combination of values, or a search
  zoo compare RUN ... [--last N]      what differs in runs' recipes, and their figures and curves
  zoo dashboard --kind KIND|FOLDER    a W&B workspace for runs, or the report of a sweep
  zoo sync RUN ...                    send to W&B what runs have kept offline, each once
  zoo list [KIND] [PATTERN]           nets, tasks, data, losses, norms, recipes ...
  zoo help NAME                       all about one of them, or about an option
  zoo results RUN ... [--to FILE]     the test figures of runs, a row each
  zoo VERB [RECIPE] --help            all options of a verb, and of what a recipe names

RECIPE is a YAML file or the name of a packaged recipe (zoo list recipes), as --config RECIPE is.
Later files win over earlier ones, options over files. FILE may be last or best, of the run
begun last.
Try: zoo fit inception
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and give its exit code."""
    argv = sys.argv[1:] if arguments is None else arguments
    # torch writes pages of C++ frames where another process of the run is gone, which we say.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from zoo.errors import UserError

    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may follow
        from zoo.cli.completion import complete

        complete()
    try:
        if not argv or argv[0] in ("-h", "--help") or argv == ["help"]:
            print(USAGE, end="")
            return 0
        if argv[0] in ("-V", "--version"):
            import zoo

            print(f"lightning-zoo {zoo.__version__}")
            return 0
        from zoo.dispatch import run_verb

        return run_verb(argv)
    except UserError as error:
        if os.environ.get("ZOO_DEBUG") == "1":
            traceback.print_exc()
        print(f"zoo: {_shown(str(error))}", file=sys.stderr)
        return 2


def _shown(sentence: str, most: int = 800) -> str:
    """Return a sentence without the middle of a value that fills pages."""
    half = most // 2
    return sentence if len(sentence) <= most else f"{sentence[:half]} ... {sentence[-half:]}"


def entry() -> None:
    """Run the console script; where nobody reads on (``zoo list | head``), it ends without a word.

    As a program does that the signal of a closed pipe ends, with 128 + 13. Ctrl-C where no run
    listens for it, while libraries are loaded, say, ends it with 128 + 2.
    """
    code = 0
    try:
        try:
            code = main()
        finally:  # also of --help, which exits by itself
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("zoo: stopped", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        try:
            print(flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 141
        else:  # it was another pipe
            raise
    sys.exit(code)


if __name__ == "__main__":
    entry()
