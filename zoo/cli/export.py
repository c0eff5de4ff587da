"""A checkpoint in the form that other programs read: ``python -m zoo export``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.core.errors import refuse
from datamodules.core.files import nearby
from zoo.cli.config import read_layer
from zoo.cli.request import DEFAULTS, Request, find_checkpoint, find_recipe, names_of_recipes
from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to import
    from zoo.export.folder import Real
    from zoo.export.source import Source

#: The forms that ``--to`` knows.
KINDS = {
    "onnx": "a file that onnxruntime and others run",
    "torch": "a file of torch.export, which torch alone runs",
    "safetensors": "weights alone, which the zoo itself loads",
    "hf": "a folder that transformers, vLLM and others load",
}
#: Packages that a form needs besides the zoo's own.
_NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}

#: Samples that an export is compared on, that ranges are measured by, and that a test figure is of.
_COMPARED, _CALIBRATED, _TESTED = 100, 200, 2000


def export(argv: list[str]) -> int:
    """Run ``zoo export``.

    Args:
        argv: What follows the verb.

    Returns:
        The exit code.

    Raises:
        UserError: If something is the user's to put right.
    """
    parser = VerbParser(
        prog="zoo export",
        usage="zoo export [RECIPE] --ckpt_path FILE --to KIND OUT [--OPTION VALUE ...]",
        description="Write a checkpoint in the form that other programs read.",
        epilog="Options of the task, the net and the data may be changed, as by --model.net.model "
        "FOLDER for a base model that lies elsewhere now, or --data.root FOLDER.",
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
        dest="ckpt_path",
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
        "--to",
        required=True,
        nargs=2,
        metavar=("KIND", "OUT"),
        help="; ".join(f"{kind}: {about}" for kind, about in KINDS.items())
        + ". OUT is a folder, new or empty",
    )
    parser.add_argument(
        "--inputs",
        nargs="+",
        default=[],
        metavar="FILE",
        help="what the export is compared on, as for predict; by default the run's test split",
    )
    parser.add_argument(
        "--quantize", metavar="int8", help="also write an ONNX file of 8 bits: int8"
    )
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="as for other verbs"
    )
    names, words = names_of_recipes(argv)
    options, flags = parser.parse_known_args(words)
    kind, out = options.to
    _check(kind, options.quantize, options.inputs)
    request = Request("export", argv, list(map(find_recipe, [*names, *options.config])))
    request.ckpt_path = options.ckpt_path
    request.flags = [f"--trainer.default_root_dir={options.root}"] if options.root else []
    find_checkpoint(request, [read_layer(path) for path in (DEFAULTS, *request.recipes)])
    from zoo.export.folder import check_free, export_graph, export_weights
    from zoo.export.transformers_folder import to_hf

    check_free(Path(out))
    data_flags, others = of_data(flags)
    source = load_source(str(request.ckpt_path), others, options.trust)
    if kind == "hf":
        prompts = source.spec.get("class_path") == "datamodules.PromptInputs"
        to_hf(source, load_inputs(source, ["prompt"]) if prompts else None, Path(out))
    elif kind == "safetensors":
        export_weights(source, Path(out))
    else:
        quantizes = options.quantize is not None
        real = real_inputs(source, options.inputs, data_flags, quantizes=quantizes)
        export_graph(source, kind, Path(out), real, int8=quantizes)
    print(f"written to {nearby(out)}", flush=True)
    return 0


def of_data(flags: list[str]) -> tuple[list[str], list[str]]:
    """Return the options of the data, with their values, and all others."""
    parts: tuple[list[str], list[str]] = [], []
    chosen = parts[1]
    for flag in flags:
        if flag.startswith("--"):
            chosen = parts[not flag.startswith("--data.")]
        chosen.append(flag)
    return parts


def _check(kind: str, quantize: str | None, inputs: list[str]) -> None:
    """Refuse forms that are not known, and those whose packages are not there.

    Raises:
        UserError: If it is so.
    """
    from importlib.util import find_spec

    if kind not in KINDS:
        raise refuse("to", kind, f"give one of {', '.join(KINDS)}")
    if quantize is not None and quantize != "int8":
        raise refuse("quantize", quantize, "give int8")
    if quantize is not None and kind != "onnx":
        raise refuse("quantize", quantize, f"give it with --to onnx, as {kind} has no such form")
    if inputs and kind not in ("onnx", "torch"):
        raise refuse("inputs", inputs, f"leave it out, as {kind} is not compared with the net")
    missing = [name for name in _NEEDS.get(kind, ()) if find_spec(name) is None]
    if missing:
        remedy = f"pip install 'lightning-zoo[export]', as {missing[0]} is not installed"
        raise refuse("to", kind, remedy)


def load_source(path: str, flags: list[str], packages: list[str]) -> Source:
    """Return a checkpoint with its task and its recipe.

    Raises:
        UserError: If the checkpoint does not say how it was made, or an option does not fit.
    """
    from zoo.cli.session import quiet
    from zoo.export.source import Source
    from zoo.model.build import load_task, options_of
    from zoo.run.card import known_of
    from zoo.run.checkpoint import read_checkpoint
    from zoo.run.trust import trust

    quiet()
    trust(packages)
    checkpoint = read_checkpoint(path)
    options = options_of(checkpoint, path)
    if flags:
        options = _changed(options, flags)
    task = load_task(options, checkpoint, path, packages)
    return Source(Path(path), checkpoint, task, known_of(checkpoint, path))


def load_data(source: Source) -> Any:
    """Return what prepares inputs as the run's data were prepared."""
    from zoo.model.build import build_inputs

    return build_inputs(source.checkpoint["zoo"], str(source.path))


def load_inputs(source: Source, inputs: Sequence[str]) -> Any:
    """Return the same, with some inputs."""
    return load_data(source).of([*inputs])[0]


def build_data(spec: dict[str, Any], flags: Sequence[str] = ()) -> Any:
    """Return data by class path and arguments, and options that differ.

    Raises:
        UserError: If they cannot be had.
    """
    import lightning as L

    from zoo.cli.messages import refusal
    from zoo.cli.parser import LayerAction, ZooParser

    parser = ZooParser()
    parser.add_argument("--config", action=LayerAction)
    parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True)
    config = parser.parse_args(["--config", json.dumps({"data": spec}), *flags])
    try:
        return parser.instantiate_classes(config).data
    except (ValueError, OSError) as error:
        raise refusal(error, config) from error


def real_inputs(
    source: Source, inputs: list[str], flags: Sequence[str] = (), *, quantizes: bool
) -> Real:
    """Return what an export is compared on.

    Args:
        source: What is exported.
        inputs: What the user names; of none the run's test split is taken.
        flags: Options of the run's data that differ from the checkpoint's.
        quantizes: Whether ranges have to be measured, too.

    Raises:
        UserError: If the checkpoint does not say how inputs are prepared, or there are none.
    """
    from zoo.export.check import Samples
    from zoo.export.folder import Real

    path = str(source.path)
    if "init_args" not in source.spec:
        raise refuse(
            "ckpt_path",
            path,
            "it does not say how inputs are prepared, which belongs into the export: train with a "
            "data module of the zoo",
        )
    if inputs:
        data = load_inputs(source, inputs)
        loader = data.predict_dataloader()
        writes = source.spec["class_path"] == "datamodules.PromptInputs"
        given = _prompts(source, data, loader) if writes else loader
        batches = first_batches(given, _CALIBRATED if quantizes else _COMPARED)
        if getattr(data, "broken", None):
            raise UserError(f"an input cannot be read; {next(iter(data.broken.values()))}")
        return Real(data, Samples(batches, "inputs"), batches if quantizes else [])
    spec = source.checkpoint["zoo"].get("data")
    try:
        data = build_data(in_small_batches(spec or {}), flags)
        data.prepare_data()
        if hasattr(data, "fit_channels"):
            data.fit_channels(source.task.net)
        data.setup("test")
        samples = first_batches(data.test_dataloader(), _TESTED if quantizes else _COMPARED)
        calibration: list[Any] = []
        if quantizes:
            data.setup("validate")
            calibration = first_batches(data.val_dataloader(), _CALIBRATED)
    except (UserError, OSError) as error:
        raise UserError(
            f"the run's data cannot be read ({error}): say where they are by --data.OPTION, or "
            "name inputs to compare the export on by --inputs"
        ) from error
    return Real(data, Samples(samples, "test samples"), calibration, labelled=True)


def _prompts(source: Source, data: Any, loader: Any) -> Iterator[Any]:
    """Yield prompts as a language model is asked: the tokens of one that its context holds.

    Raises:
        UserError: If one has no tokens.
    """
    import torch

    from zoo.export.check import Prompt
    from zoo.inference.generation import fitted

    for name, prompt in zip(data.names, loader.dataset, strict=True):
        if not prompt:
            raise refuse("inputs", name, "give a prompt of at least one token")
        yield Prompt(torch.tensor([fitted(source.task.net, prompt)]))


def in_small_batches(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the data in batches of which a few are enough."""
    init_args = spec.get("init_args", {})
    size = min(init_args.get("batch_size") or 32, 32)
    changed = {"batch_size": size, "num_workers": 0}
    if init_args.get("resident"):  # its batches are numbers of what lies on the device
        changed["resident"] = False
    return {**spec, "init_args": {**init_args, **changed}}


def first_batches(loader: Any, samples: int) -> list[Any]:
    """Return the first batches that hold so many samples."""
    batches: list[Any] = []
    for batch in loader:
        batches.append(batch)
        samples -= len(batch[0])
        if samples <= 0:
            break
    return batches


def _changed(options: dict[str, Any], flags: list[str]) -> dict[str, Any]:
    """Return the arguments of a task, some of them changed by options of the command line.

    Raises:
        UserError: If an option does not fit.
    """
    import lightning as L

    from zoo.cli.config import classes_first, expand_flags, refuse_deep
    from zoo.cli.parser import LayerAction, ZooParser

    refuse_deep(flags)
    given = {name: value for name, value in options.items() if not name.startswith("_")}
    parser = ZooParser()
    parser.add_argument("--config", action=LayerAction)
    parser.add_lightning_class_args(L.LightningModule, "model", subclass_mode=True)
    layer = {"model": {"class_path": options["_class_path"], "init_args": given}}
    config = parser.parse_args(["--config", json.dumps(layer), *classes_first(expand_flags(flags))])
    made = config.model.as_dict()
    return {**made["init_args"], "_class_path": made["class_path"]}
