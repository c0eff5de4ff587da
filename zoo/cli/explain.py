"""A page in which a trained net runs and is looked into: ``python -m zoo explain``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.core.errors import refuse
from datamodules.core.files import nearby, replaced
from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to import
    from torch.export import ExportedProgram

    from zoo.explain.data import Some
    from zoo.export.source import Source
    from zoo.export.whole import Whole

#: Megabytes that a page's weights may have unless told.
_LARGEST_MB = 50


def explain(argv: list[str]) -> int:
    """Run ``zoo explain``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If something is the user's to put right.
    """
    parser = VerbParser(
        prog="zoo explain",
        usage="zoo explain (--ckpt_path FILE | --weights NAME) [--inputs FILE ...] OUT",
        description="Write a page in which a trained net runs and is looked into: it opens in a "
        "browser, without a server or a network.",
        epilog="Options of the run's data may be changed, as by --data.root FOLDER.",
        allow_abbrev=False,
    )
    named = parser.add_mutually_exclusive_group(required=True)
    named.add_argument(
        "--ckpt_path",
        metavar="FILE",
        help="what `fit` saved, the folder of a run, or last, best or RECIPE:best",
    )
    named.add_argument(
        "--weights",
        dest="ckpt_path",
        metavar="NAME",
        help="in its place: weights that come with the package (`zoo list weights`)",
    )
    parser.add_argument(
        "out", nargs="?", metavar="OUT", help="a folder, new or empty, or an .html file"
    )
    parser.add_argument(
        "--inputs",
        nargs="+",
        default=[],
        metavar="FILE",
        help="what the page begins with, as for predict; by default the run's test samples of "
        "which the net is most wrong",
    )
    parser.add_argument(
        "--single_file", action="store_true", help="write one file, whose name ends in .html"
    )
    parser.add_argument(
        "--partial", action="store_true", help="leave out what is inside where it cannot be had"
    )
    parser.add_argument(
        "--max_size",
        type=float,
        default=_LARGEST_MB,
        metavar="MB",
        help="largest weights that a page may have (%(default)s)",
    )
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="as for other verbs"
    )
    own, dotted = _dotted(argv)
    options, flags = parser.parse_known_args(own)
    flags += dotted
    if options.out is None and len(options.inputs) > 1:  # which take all that follows them
        *options.inputs, options.out = options.inputs
    if options.out is None:
        raise UserError("OUT is missing; name a folder, new or empty, or an .html file")
    out = Path(options.out)
    _check(out, options.single_file, options.max_size)
    from zoo.cli.export import load_source, of_data
    from zoo.model.find import find_weights

    data_flags, others = of_data(flags)
    path = find_weights(options.ckpt_path)
    source = load_source(str(path), others, options.trust)
    size = sum(p.numel() * p.element_size() for p in source.task.parameters()) / 1e6
    if size > options.max_size:
        remedy = f"give {math.ceil(size)} or more, as the weights are {size:.0f} MB"
        raise refuse("max_size", options.max_size, remedy)
    plain, data, some, told = _samples(source, options.inputs, data_flags)
    made, program = _captured(plain, options.partial)
    _write(source, made, program, data, some, out, single_file=options.single_file)
    if told:
        print(told)
    opens = out if options.single_file else out / "index.html"
    print(f"written to {nearby(out)}; open {nearby(opens)} in a browser", flush=True)
    return 0


def _dotted(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of this verb, and options of the run's parts with their values.

    The parser, which does not know those, would take such a value for OUT.
    """
    own: list[str] = []
    dotted: list[str] = []
    words = iter(argv)
    for word in words:
        name, is_joined, _ = word.partition("=")
        if not (name.startswith("--") and "." in name):
            own.append(word)
            continue
        dotted.append(word)
        if not is_joined:
            dotted += [value for value in (next(words, None),) if value is not None]
    return own, dotted


def _check(out: Path, single_file: bool, max_size: float) -> None:
    """Refuse what can be told to be wrong before torch is loaded.

    Raises:
        UserError: If something is.
    """
    from importlib.util import find_spec

    if single_file and out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"OUT is {str(out)!r}: a single file's name ends in .html")
    if single_file and out.exists():
        raise UserError(f"OUT is {str(out)!r}: it is there; name another file")
    if not single_file and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"OUT is {str(out)!r}: it is there and not empty; name another folder")
    if not max_size > 0:
        raise refuse("max_size", max_size, "give megabytes above 0")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"a page is made from an ONNX file, and {missing[0]} is not installed: "
            "pip install 'lightning-zoo[export]'"
        )


def _samples(source: Source, inputs: list[str], flags: list[str]) -> tuple[Whole, Any, Some, str]:
    """Return the net with what is around it, what prepares inputs, some, and what to say."""
    from zoo.cli.export import load_data, real_inputs
    from zoo.explain.data import Some, most_wrong
    from zoo.export.whole import whole

    def around(data: Any) -> Whole:
        return whole(source.task, source.spec["init_args"], data)

    if inputs:
        real = real_inputs(source, inputs, quantizes=False)
        some = Some(real.samples.batches, list(getattr(real.data, "names", [])))
        return around(real.data), real.data, some, ""
    try:
        real = real_inputs(source, [], flags, quantizes=False)
    except UserError as error:
        data = load_data(source)
        return around(data), data, Some([], []), f"no inputs come with the page: {error}"
    made = around(real.data)
    return made, real.data, most_wrong(made, real.samples.batches), ""


def _write(
    source: Source,
    made: Whole,
    program: ExportedProgram,
    data: Any,
    some: Some,
    out: Path,
    *,
    single_file: bool,
) -> None:
    import tempfile

    from zoo.explain.data import page_data
    from zoo.explain.page import write_page
    from zoo.export.capture import save_onnx

    content = page_data(source.name, source.task, made, data, some)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        save_onnx(made, program, file, {})
        _compare(made, file, some)
        model = file.read_bytes()
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with replaced(out.absolute()) as scratch:
            if not single_file:
                scratch.mkdir()
            write_page(content, model, scratch, single_file=single_file)
    except OSError as error:
        raise UserError(
            f"OUT is {str(out)!r}: it cannot be written ({error.strerror or error}); name another"
        ) from error


def _captured(plain: Whole, partial: bool) -> tuple[Whole, ExportedProgram]:
    """Return the module with what is inside it, and its graph; without where that is allowed.

    Raises:
        UserError: If it cannot be exported so.
    """
    from zoo.explain.taps import tapped
    from zoo.export.capture import capture

    try:
        made = tapped(plain)
        return made, capture(made)
    except UserError as error:
        program = capture(plain)  # raises where the net itself cannot be exported
        if not partial:
            raise UserError(f"{error}; --partial makes a page without what is inside") from error
    return plain, program


def _compare(made: Whole, file: Path, some: Some) -> None:
    """Print how far the file is from the net, at every output, on the inputs of the page.

    Raises:
        UserError: If it is too far.
    """
    import numpy as np
    import torch

    from zoo.export.check import TOLERANCE, open_onnx

    run, largest = open_onnx(file), 0.0
    for batch in some.batches:
        feed = made.feed(batch)
        with torch.inference_mode():
            expected = made.module(*feed)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for name, ours, theirs in zip(made.outputs, run(feed), expected, strict=True):
            reach = max(1.0, float(theirs.abs().max())) if theirs.is_floating_point() else 1.0
            difference = np.abs(ours.astype(np.float64) - theirs.numpy()).max(initial=0.0) / reach
            if not difference <= TOLERANCE:
                raise UserError(
                    f"output {name} of the page's net differs from the net's by {difference:.2g}, "
                    f"more than {TOLERANCE:g}: nothing is written; --partial leaves it out"
                )
            largest = max(largest, float(difference))
    if some.batches:
        print(f"largest difference from the net, at {len(made.outputs)} outputs: {largest:.1e}")
