"""A checkpoint in the form that other programs read: ``python -m zoo export``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from datamodules.core.errors import refuse
from datamodules.core.files import nearby, replaced
from zoo.cli.config import read_layer
from zoo.cli.request import DEFAULTS, Request, find_checkpoint, find_recipe, names_of_recipes
from zoo.cli.verb_parser import VerbParser
from zoo.errors import UserError

if TYPE_CHECKING:  # torch and transformers take seconds to import
    from huggingface_hub import ModelCard
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from zoo.tasks.base import Task

_TOO_LONG = 2000  # characters of a value that a card leaves out: a tokenizer, mostly


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
        epilog="Options of the task and the net may be changed, as by --model.net.model FOLDER for "
        "a base model that lies elsewhere now.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--ckpt_path",
        required=True,
        metavar="FILE",
        help="what `fit` saved, or last or best of the run begun last",
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
        help="hf: a folder that transformers, vLLM and others load; OUT is new or empty",
    )
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="as for other verbs"
    )
    names, words = names_of_recipes(argv)
    options, flags = parser.parse_known_args(words)
    kind, out = options.to
    if kind not in KINDS:
        raise refuse("to", kind, f"give one of {', '.join(KINDS)}")
    request = Request("export", argv, list(map(find_recipe, [*names, *options.config])))
    request.ckpt_path = options.ckpt_path
    request.flags = [f"--trainer.default_root_dir={options.root}"] if options.root else []
    find_checkpoint(request, [read_layer(path) for path in (DEFAULTS, *request.recipes)])
    KINDS[kind](str(request.ckpt_path), Path(out), flags, options.trust)
    print(f"written to {nearby(out)}", flush=True)
    return 0


def to_hf(path: str, out: Path, flags: list[str], packages: list[str]) -> None:
    """Write a language model as transformers saves it.

    Args:
        path: The checkpoint.
        out: The folder, which must not hold anything.
        flags: Options of task and net that differ from the checkpoint's.
        packages: What ``--trust`` names.

    Raises:
        UserError: If the checkpoint is not a language model's, or the folder cannot be written.
    """
    from zoo.run.checkpoint import read_checkpoint

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise refuse("to", str(out), "it is there and not empty: name another folder")
    checkpoint = read_checkpoint(path)
    task = load_task(path, checkpoint, flags, packages)
    model, tokenizer = _model(task), _tokenizer(path, checkpoint, task)
    model.generation_config.eos_token_id = tokenizer.stop_ids or None
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_id
    with _fresh_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.fast.save_pretrained(folder, save_jinja_files=False)
        _rename_tokenizer(folder / "tokenizer_config.json")
        _card(Path(path), checkpoint, model).save(folder / "README.md")


#: How ``--to`` writes.
KINDS: dict[str, Callable[[str, Path, list[str], list[str]], None]] = {"hf": to_hf}


def load_task(path: str, checkpoint: dict[str, Any], flags: list[str], packages: list[str]) -> Task:
    """Return the task of a checkpoint with its net and weights, without data or Trainer.

    Raises:
        UserError: If the checkpoint does not say how it was made, or an option does not fit.
    """
    import lightning as L

    from zoo.cli.config import classes_first, expand_flags, refuse_deep
    from zoo.cli.parser import LayerAction, ZooParser
    from zoo.cli.session import quiet
    from zoo.run.trust import trust

    quiet()
    refuse_deep(flags)
    trust(packages)
    hparams = dict(checkpoint.get("hyper_parameters") or {})
    class_path = hparams.get("_class_path")
    if class_path is None or "net" not in hparams:
        raise refuse(
            "ckpt_path", path, "it does not say which net it holds: give a file that `fit` saved"
        )
    given = {name: value for name, value in hparams.items() if not name.startswith("_")}
    parser = ZooParser()
    parser.add_argument("--config", action=LayerAction)
    parser.add_lightning_class_args(L.LightningModule, "model", subclass_mode=True)
    layer = {"model": {"class_path": class_path, "init_args": given}}
    config = parser.parse_args(["--config", json.dumps(layer), *classes_first(expand_flags(flags))])
    try:
        task: Task = parser.instantiate_classes(config).model
    except (ValueError, OSError) as error:
        from zoo.cli.messages import refusal

        raise refusal(error, config) from error
    from zoo.run.checkpoint import check_fits

    check_fits(checkpoint, task, path)
    task.load_state_dict(checkpoint["state_dict"])
    return task


def _model(task: Task) -> PreTrainedModel:
    from zoo.nets import GPT, PretrainedCausalLM
    from zoo.nets.pretrained.gpt_export import to_transformers

    net = task.net
    if not isinstance(net, GPT | PretrainedCausalLM):
        raise UserError(
            f"transformers has no form for {type(net).__name__}; GPT and PretrainedCausalLM can be "
            "exported"
        )
    try:
        return to_transformers(net) if isinstance(net, GPT) else net.to_transformers()
    except ValueError as error:
        raise UserError(f"this net cannot be exported: {error}") from error


class _Tokenizer:
    """The data's tokenizer as transformers has it.

    Args:
        spec: What reads prompts, as the checkpoint holds it.
        max_length: Tokens of the net's longest context.
    """

    def __init__(self, spec: dict[str, Any], max_length: int | None) -> None:
        import lightning as L

        from zoo.cli.parser import LayerAction, ZooParser

        parser = ZooParser()
        parser.add_argument("--config", action=LayerAction)
        parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True)
        whole = {**spec, "init_args": {**spec["init_args"], "inputs": ["prompt"]}}
        config = parser.parse_args(["--config", json.dumps({"data": whole})])
        data: Any = parser.instantiate_classes(config).data
        self.stop_ids: list[int] = data.stop_ids
        self.pad_id: int = data.pad_id
        self.fast = self._fast(data.text_tokenizer, data.chat_template, max_length)

    def _fast(
        self, known: Any, chat_template: str | None, max_length: int | None
    ) -> PreTrainedTokenizerFast:
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        tokenizer = Tokenizer.from_str(known.json)
        tokenizer.no_padding()
        end = known.token(self.stop_ids[0]) if self.stop_ids else known.end_token
        options = {"chat_template": chat_template, "model_max_length": max_length}
        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=tokenizer,
            eos_token=end,
            pad_token=known.token(self.pad_id),
            clean_up_tokenization_spaces=False,
            **{name: value for name, value in options.items() if value is not None},
        )


def _tokenizer(path: str, checkpoint: dict[str, Any], task: Task) -> _Tokenizer:
    spec = checkpoint.get("zoo", {}).get("inputs") or {}
    if "tokenizer" not in spec.get("init_args", {}):
        raise refuse(
            "ckpt_path",
            path,
            "it holds no tokenizer, without which the exported model could not be used: train with "
            "a data module of the zoo",
        )
    from zoo.nets.protocols import LimitsLength

    return _Tokenizer(spec, task.net.max_length if isinstance(task.net, LimitsLength) else None)


def _rename_tokenizer(path: Path) -> None:
    """Name the tokenizer's class as transformers 4 knows it, too."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _fresh_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside the wanted one that takes its name when it is whole.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with replaced(out.absolute()) as scratch:
            scratch.mkdir()
            yield scratch
    except OSError as error:
        raise refuse(
            "to",
            str(out),
            f"it cannot be written ({error.strerror or error}): name another folder",
        ) from error


_CARD = """\
---
{{ card_data }}
---

# {{ name }}

A {{ kind }} of {{ parameters }} parameters, trained by lightning-zoo.

- Base model: {{ base or "none, trained from random weights" }}
- {{ licence }}
- Data: {{ data }}
- Checkpoint: {{ file }} of step {{ step }}

## Figures

{{ figures }}

## Recipe

```yaml
{{ recipe }}
```

## Versions

{{ versions }}
"""


def _card(path: Path, checkpoint: dict[str, Any], model: PreTrainedModel) -> ModelCard:
    """Return the model's card: what it is, how it came about, how good it is."""
    from huggingface_hub import ModelCard, ModelCardData

    from datamodules.core.hub import read_licence
    from zoo.cli.config import dump_yaml

    recipe = _recipe(path, checkpoint)
    base = checkpoint["hyper_parameters"]["net"]["init_args"].get("model")
    licence = read_licence(base) if base else None
    data = recipe.get("data") or {}
    source = (data.get("init_args") or {}).get("path")
    kind = data.get("class_path", "unknown").rpartition(".")[2]
    card: ModelCard = ModelCard.from_template(
        ModelCardData(
            library_name="transformers",
            pipeline_tag="text-generation",
            license=licence,
            base_model=base if base and not Path(base).is_absolute() else None,
            tags=["lightning-zoo"],
        ),
        template_str=_CARD,
        name=path.resolve().parent.parent.parent.name,
        kind=type(model).__name__,
        parameters=f"{sum(p.numel() for p in model.parameters()):,}",
        base=base,
        licence=f"Licence of the base model: {licence or 'not known here; see its card'}"
        if base
        else "Licence: none is stated; the data's own terms apply",
        data=f"{kind}, {source}" if source else kind,
        file=path.name,
        step=checkpoint.get("global_step", "unknown"),
        figures="\n".join(_figures(path)),
        recipe=dump_yaml(_short(recipe)).rstrip(),
        versions="\n".join(f"- {name} {v}" for name, v in _versions(path).items() if v),
    )
    return card


def _recipe(path: Path, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the run's recipe, or else what the checkpoint holds of it."""
    file = path.resolve().parent.parent / "recipe.yaml"
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except (OSError, yaml.YAMLError):
        pass
    hparams = dict(checkpoint["hyper_parameters"])
    model = {"class_path": hparams["_class_path"]}
    init_args = {name: value for name, value in hparams.items() if not name.startswith("_")}
    return {"model": model | {"init_args": init_args}, "data": checkpoint["zoo"].get("data")}


def _short(node: Any) -> Any:
    """Return the same without its longest texts, which are in the other files."""
    if isinstance(node, dict):
        return {key: _short(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_short(value) for value in node]
    return "..." if isinstance(node, str) and len(node) > _TOO_LONG else node


def _summary(path: Path) -> dict[str, Any]:
    """Return the run's ``summary.json``, if there is one beside the checkpoint."""
    try:
        found = json.loads((path.resolve().parent.parent / "summary.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _figures(path: Path) -> list[str]:
    from zoo.callbacks.progress import digits

    summary = _summary(path)
    figures = summary.get("test")
    if not figures:
        return ["None beside the checkpoint."]
    of = Path(str(summary.get("checkpoint"))).name
    rows = [f"| {name} | {digits(value)} |" for name, value in figures.items()]
    return [f"On the test split, of {of}:", "", "| figure | value |", "|---|---|", *rows]


def _versions(path: Path) -> dict[str, str | None]:
    from zoo.run.folder import provenance

    versions: dict[str, str | None] = _summary(path).get("versions") or provenance()["versions"]
    return versions
