"""``zoo push``: weights, their recipe and a card on the Hugging Face hub."""

from __future__ import annotations

from zoo.cli.verb_parser import VerbParser
from zoo.errors import OptionError, UserError


def push(argv: list[str]) -> int:
    """Run ``zoo push``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If there are no such weights, or the hub does not take them.
    """
    parser = VerbParser(
        prog="zoo push",
        description="Put weights, their recipe and a card into a repository on the Hugging Face "
        "hub, as safetensors. Log in before by `hf auth login`, or set HF_TOKEN.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a checkpoint, the folder of a run, last or best of the run begun last, RECIPE:best, "
        "or the name of weights",
    )
    parser.add_argument("repository", metavar="owner/name", help="made if it is not there")
    parser.add_argument("--private", action="store_true", help="make a private repository")
    options = parser.parse_args(argv)
    from zoo.model.find import find_weights
    from zoo.run.card import known_of
    from zoo.run.checkpoint import read_checkpoint
    from zoo.run.hub import push_weights

    path = find_weights(options.name)
    checkpoint = read_checkpoint(path)
    known = known_of(checkpoint, path)
    try:
        name = push_weights(checkpoint, options.repository, known=known, private=options.private)
    except OptionError as error:
        raise UserError(f"owner/name{error.reason}") from error  # which is no option here
    print(f"pushed as {name}")
    return 0
