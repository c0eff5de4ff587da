"""A model's card: what it is, how it is run, how it came about and how good it is."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from zoo.run.figures import digits

if TYPE_CHECKING:  # takes seconds to import
    from huggingface_hub import ModelCard

#: What the hub calls what a task does.
_PIPELINES = {
    "ImageClassifier": "image-classification",
    "ImageSegmenter": "image-segmentation",
    "LanguageModel": "text-generation",
    "PreferenceTuning": "text-generation",
    "Regressor": "tabular-regression",
    "TextClassifier": "text-classification",
}
_OF_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # a name on the hub, and no folder
_TOO_LONG = 2000  # characters of a value that a card leaves out: a tokenizer, mostly

_CARD = """\
---
{{ card_data }}
---

# {{ name }}

{{ about }}

{{ usage }}
## Where it comes from

{{ origin }}

## Figures

{{ figures }}

## Recipe

```yaml
{{ recipe }}
```

## Versions

{{ versions }}
"""


class Known(NamedTuple):
    """What is known of weights besides themselves.

    Attributes:
        recipe: The run's, resolved; else what the checkpoint holds of it: task, net and data.
        figures: Those of the test of these very weights, by their names.
        versions: Of the packages that they were trained with.
    """

    recipe: dict[str, Any]
    figures: dict[str, float]
    versions: dict[str, str | None]


def known_of(checkpoint: dict[str, Any], path: str | os.PathLike[str] | None = None) -> Known:
    """Return what a checkpoint holds of its training, or lies beside it in its run's folder.

    What the checkpoint says itself comes first. A run's figures are those of one checkpoint alone,
    the one that was tested.

    Args:
        checkpoint: As :func:`~zoo.run.checkpoint.read_checkpoint` gives it.
        path: Its file, if it lies in a run's folder.
    """
    recipe, summary = _of_run(Path(path).resolve()) if path is not None else ({}, {})
    figures: Any = checkpoint.get("test")
    if not figures and path is not None and summary:
        is_tested = Path(str(summary.get("checkpoint"))).name == Path(path).resolve().name
        figures = summary.get("test") if is_tested else None
    versions = (checkpoint.get("card") or {}).get("versions") or summary.get("versions")
    return Known(
        recipe or _recipe_of(checkpoint),
        figures if isinstance(figures, dict) else {},
        versions if isinstance(versions, dict) else _versions_of(checkpoint),
    )


def _of_run(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the recipe and the summary that lie beside a run's checkpoint."""
    found: list[dict[str, Any]] = []
    for name in ("recipe.yaml", "summary.json"):
        try:
            text = (file.parent.parent / name).read_text(encoding="utf-8")
            part = json.loads(text) if name.endswith("json") else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError):
            part = None
        found.append(part if isinstance(part, dict) else {})
    return found[0], found[1]


def _recipe_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    hparams = dict(checkpoint.get("hyper_parameters") or {})
    model = {"class_path": hparams.get("_class_path")}
    init_args = {name: value for name, value in hparams.items() if not name.startswith("_")}
    data = (checkpoint.get("zoo") or {}).get("data")
    return {"model": model | {"init_args": init_args}, "data": data}


def _versions_of(checkpoint: dict[str, Any]) -> dict[str, str | None]:
    facts = checkpoint.get("zoo") or {}
    lightning = checkpoint.get("pytorch-lightning_version")
    return {"lightning-zoo": facts.get("version"), "lightning": lightning}


def model_card(
    checkpoint: dict[str, Any],
    known: Known,
    name: str,
    usage: str,
    *,
    library: str = "lightning-zoo",
    net: str | None = None,
    parameters: int | None = None,
) -> ModelCard:
    """Return a model's card.

    Args:
        checkpoint: What it is of.
        known: What else is known of it.
        name: What it is called.
        usage: A section that says how it is run.
        library: What runs the files, by the hub's name.
        net: What the net is called; by default its class.
        parameters: How many it has, where they are counted.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    from datamodules.core.hub import read_licence

    hparams = checkpoint.get("hyper_parameters") or {}
    spec = hparams.get("net") or {}
    task = str(hparams.get("_class_path")).rpartition(".")[2]
    base = (spec.get("init_args") or {}).get("model")
    licence = read_licence(base) if base else None
    data = str((known.recipe.get("data") or {}).get("class_path", "unknown")).rpartition(".")[2]
    results = [
        EvalResult(
            task_type=_PIPELINES.get(task, "other"),
            dataset_type=data,
            dataset_name=data,
            metric_type=figure,
            metric_value=value,
            dataset_split="test",
        )
        for figure, value in known.figures.items()
    ]
    size = "" if parameters is None else f" of {parameters:,} parameters"
    made: ModelCard = ModelCard.from_template(
        ModelCardData(
            library_name=library,
            pipeline_tag=_PIPELINES.get(task),
            license=licence,
            base_model=base if base and _OF_HUB.fullmatch(base) else None,
            tags=["lightning-zoo"],
            model_name=name if results else None,
            eval_results=results or None,
        ),
        template_str=_CARD,
        name=name,
        about=f"A {net or str(spec.get('class_path')).rpartition('.')[2]}{size}, trained on {data} "
        f"by lightning-zoo as {task}.",
        usage=usage,
        origin="\n".join(_origin(checkpoint, known.recipe, data, base, licence)),
        figures=_table(known.figures),
        recipe=yaml.safe_dump(short(known.recipe), sort_keys=False, allow_unicode=True).rstrip(),
        versions="\n".join(f"- {name} {v}" for name, v in known.versions.items() if v),
    )
    return made


def _origin(
    checkpoint: dict[str, Any],
    recipe: dict[str, Any],
    data: str,
    base: str | None,
    licence: str | None,
) -> list[str]:
    place = ((recipe.get("data") or {}).get("init_args") or {}).get("path")
    terms = (checkpoint.get("card") or {}).get("licence")
    own = f"- Licence of the data: {terms}" if terms else ""
    return [
        f"- Base model: {base or 'none, trained from random weights'}",
        f"- Licence of the base model: {licence or 'not known here; see its card'}"
        if base
        else own or "- Licence: none is stated; the data's own terms apply",
        f"- Data: {data}, {place}" if place else f"- Data: {data}",
        f"- Saved after step {checkpoint.get('global_step', 'unknown')}",
    ]


def _table(figures: dict[str, float]) -> str:
    if not figures:
        return "None are known of these weights."
    rows = [f"| {name} | {digits(value)} |" for name, value in figures.items()]
    return "\n".join(["On the test split:", "", "| figure | value |", "|---|---|", *rows])


def short(node: Any) -> Any:
    """Return the same without its longest texts, which are in the other files."""
    if isinstance(node, dict):
        return {key: short(value) for key, value in node.items()}
    if isinstance(node, list):
        return [short(value) for value in node]
    return "..." if isinstance(node, str) and len(node) > _TOO_LONG else node
