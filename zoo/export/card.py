"""The README of an exported folder: how to run it, and the model's card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.callbacks.progress import digits
from zoo.run.folder import provenance

if TYPE_CHECKING:  # takes seconds to import
    from huggingface_hub import ModelCard

    from zoo.tasks.base import Task

_CARD = """\
---
{{ card_data }}
---

# {{ name }}

A {{ kind }} of {{ parameters }} parameters, trained by lightning-zoo.
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


@dataclass
class Source:
    """What is exported, and where it comes from.

    Args:
        path: The checkpoint's file.
        checkpoint: What is in it.
        task: The task with its net and weights.
        recipe: The run's recipe, or else what the checkpoint holds of it.
        recipe_text: The same, as YAML, without its longest texts.
    """

    path: Path
    checkpoint: dict[str, Any]
    task: Task
    recipe: dict[str, Any]
    recipe_text: str

    @property
    def name(self) -> str:
        """The recipe's name, or of a file without a run its own."""
        path = self.path.resolve()
        is_runs = path.parent.name == "checkpoints" and len(path.parents) > 2
        return path.parent.parent.parent.name if is_runs else path.stem

    @property
    def spec(self) -> dict[str, Any]:
        """What prepares inputs: class path and arguments."""
        found = (self.checkpoint.get("zoo") or {}).get("inputs")
        return found if isinstance(found, dict) else {}

    def summary(self) -> dict[str, Any]:
        """Return the run's ``summary.json``, if there is one beside the checkpoint."""
        file = self.path.resolve().parent.parent / "summary.json"
        try:
            found = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def card(
    source: Source,
    kind: str,
    *,
    library: str,
    pipeline: str | None,
    usage: str = "",
    parameters: int = 0,
) -> ModelCard:
    """Return the model's card: what it is, how it is run, how it came about, how good it is.

    Args:
        source: What is exported.
        kind: What the net is called.
        library: What runs the files, by the hub's name.
        pipeline: What the net does, by the hub's name.
        usage: A section that says how it is run.
        parameters: How many it has; by default the net's.
    """
    from huggingface_hub import ModelCard, ModelCardData

    from datamodules.core.hub import read_licence

    hparams = source.checkpoint["hyper_parameters"]
    base = ((hparams.get("net") or {}).get("init_args") or {}).get("model")
    licence = read_licence(base) if base else None
    made: ModelCard = ModelCard.from_template(
        ModelCardData(
            library_name=library,
            pipeline_tag=pipeline,
            license=licence,
            base_model=base if base and not Path(base).is_absolute() else None,
            tags=["lightning-zoo"],
        ),
        template_str=_CARD,
        name=source.name,
        kind=kind,
        parameters=f"{parameters or sum(p.numel() for p in source.task.net.parameters()):,}",
        usage=usage and f"\n{usage}",
        origin="\n".join(_origin(source, base, licence)),
        figures="\n".join(_figures(source)),
        recipe=source.recipe_text.rstrip(),
        versions="\n".join(f"- {name} {v}" for name, v in _versions(source).items() if v),
    )
    return made


def _origin(source: Source, base: str | None, licence: str | None) -> list[str]:
    data = source.recipe.get("data") or {}
    place = (data.get("init_args") or {}).get("path")
    kind = str(data.get("class_path", "unknown")).rpartition(".")[2]
    return [
        f"- Base model: {base or 'none, trained from random weights'}",
        f"- Licence of the base model: {licence or 'not known here; see its card'}"
        if base
        else "- Licence: none is stated; the data's own terms apply",
        f"- Data: {kind}, {place}" if place else f"- Data: {kind}",
        f"- Checkpoint: {source.path.name} of step "
        f"{source.checkpoint.get('global_step', 'unknown')}",
    ]


def _figures(source: Source) -> list[str]:
    summary = source.summary()
    figures, of = summary.get("test"), Path(str(summary.get("checkpoint"))).name
    if not figures:  # weights files hold their own
        figures, of = source.checkpoint.get("test"), Path(source.path).name
    if not isinstance(figures, dict) or not figures:
        return ["None beside the checkpoint."]
    rows = [f"| {name} | {digits(value)} |" for name, value in figures.items()]
    return [f"On the test split, of {of}:", "", "| figure | value |", "|---|---|", *rows]


def _versions(source: Source) -> dict[str, str | None]:
    versions: dict[str, str | None] = source.summary().get("versions") or provenance()["versions"]
    return versions
