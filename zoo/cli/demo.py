"""``zoo demo``: a page in the browser that asks a trained net."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.core.errors import at_least, between, refuse
from datamodules.core.files import nearby
from zoo.cli.config import read_layer
from zoo.cli.export import build_data, first_batches, in_small_batches
from zoo.cli.request import DEFAULTS, Request, find_checkpoint, find_recipe, names_of_recipes
from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to import
    from zoo.model.model import Model

_HOST, _PORT = "127.0.0.1", 7860
#: Inputs to try that a page offers, and samples that they are chosen from.
_OFFERED, _LOOKED_AT = 6, 64


def demo(argv: list[str]) -> int:
    """Run ``zoo demo``, until it is stopped.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If something is the user's to put right.
    """
    parser = VerbParser(
        prog="zoo demo",
        usage="zoo demo [RECIPE] --ckpt_path FILE [--OPTION VALUE ...]",
        description="Serve a page in which a trained net is asked: images, texts, rows of a "
        "table, or a chat. Ctrl-C ends it.",
        epilog="Options of the data, such as --data.root FOLDER, say where the examples lie.",
        allow_abbrev=False,
    )
    named = parser.add_mutually_exclusive_group(required=True)
    named.add_argument(
        "--ckpt_path",
        metavar="FILE",
        help="what `fit` saved, or last or best of the run begun last",
    )
    named.add_argument(
        "--weights",
        metavar="NAME",
        help="in its place: weights that come with the package (`zoo list weights`)",
    )
    parser.add_argument(
        "--config", action="append", default=[], metavar="RECIPE", help="whose run is meant"
    )
    parser.add_argument(
        "--trainer.default_root_dir", dest="root", metavar="FOLDER", help="where runs are kept"
    )
    parser.add_argument(
        "--host",
        default=_HOST,
        metavar="ADDRESS",
        help=f"where it listens; {_HOST}, the default, is reached from this machine alone, "
        "0.0.0.0 from all others that reach it",
    )
    parser.add_argument(
        "--port", default=str(_PORT), metavar="N", help=f"{_PORT} by default; 0 is any free one"
    )
    parser.add_argument(
        "--examples",
        default=str(_OFFERED),
        metavar="N",
        help=f"inputs to try, of the run's test split where it can be read; {_OFFERED} by default",
    )
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="as for other verbs"
    )
    names, words = names_of_recipes(argv)
    options, flags = parser.parse_known_args(words)
    for flag in flags:
        if flag.startswith("--") and not flag.startswith("--data."):
            parser.error(f"unrecognized arguments: {flag.partition('=')[0]}")
    port = int(between("port", _whole("port", options.port), 0, 65535))
    count = at_least("examples", _whole("examples", options.examples), 0)
    if find_spec("gradio") is None:
        raise UserError(
            "gradio, which makes the page, is not installed: pip install 'lightning-zoo[demo]'"
        )
    request = Request("demo", argv, list(map(find_recipe, [*names, *options.config])))
    request.ckpt_path, request.weights = options.ckpt_path, options.weights
    request.flags = [f"--trainer.default_root_dir={options.root}"] if options.root else []
    find_checkpoint(request, [read_layer(path) for path in (DEFAULTS, *request.recipes)])
    from zoo.demo.serving import is_loopback, listen, scratch_folder, serve

    with listen(options.host, port) as listening, scratch_folder() as folder:
        from zoo.demo.page import page_of
        from zoo.model import load

        path = str(request.ckpt_path)
        model = load(path, trust=options.trust)
        examples = _examples(model, path, flags, count, folder) if count else []
        page = page_of(model, options.weights or nearby(path), examples)
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"the demo is at http://{host}:{listening.getsockname()[1]} (Ctrl-C ends it)")
        if not is_loopback(options.host):
            print(
                f"whoever reaches {options.host} may use it: no password is asked for, nothing is "
                "encrypted, and what others send is computed on this machine",
                flush=True,
            )
        serve(page, listening, options.host, folder)
    print("stopped", flush=True)
    return 0


def _whole(option: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise refuse(option, text, "give a whole number") from error


def _examples(model: Model, path: str, flags: list[str], count: int, folder: Path) -> list[Any]:
    """Return inputs of the run's test split as a page takes them; none where it cannot be read.

    Nothing is downloaded for them.
    """
    from zoo.demo.examples import examples_of
    from zoo.run.checkpoint import read_checkpoint

    if model.writes:
        return []
    spec = read_checkpoint(path)["zoo"].get("data")
    if spec is None:
        return []
    try:
        spec = in_small_batches(spec)
        if "download" in spec["init_args"]:
            spec["init_args"]["download"] = False
        data = build_data(spec, flags)
        if hasattr(data, "fit_channels"):
            data.fit_channels(model.net)
        data.setup("test")
        batches = first_batches(data.test_dataloader(), _LOOKED_AT)
    except (UserError, OSError) as error:
        print(f"there are no examples, as the run's data cannot be read: {error}", flush=True)
        return []
    return examples_of(data, batches, count, folder)
