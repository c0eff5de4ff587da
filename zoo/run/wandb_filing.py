"""What a W&B run is filed under: project, group, kind of job, tags, notes; and its id."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.core.errors import refuse
from datamodules.core.files import replaced

#: The project of runs for which no other one is named.
PROJECT = "lightning-zoo"
#: The file in a run folder that says which W&B run it has.
_PLACE = "wandb.json"
#: The most letters that W&B takes for a tag.
_LONGEST_TAG = 64


def tags_of(option: str | list[str] | None) -> list[str]:
    """Return the tags that an option gives: a list, or words with commas between them.

    >>> tags_of("first try, seed 3")
    ['first try', 'seed 3']

    Raises:
        OptionError: If W&B would not take one.
    """
    words = option.split(",") if isinstance(option, str) else option or []
    tags = [word.strip() for word in words]
    if any(not 0 < len(tag) <= _LONGEST_TAG for tag in tags):
        remedy = f"give words of 1 to {_LONGEST_TAG} letters, with commas between them"
        raise refuse("wandb_tags", option, remedy)
    return tags


@dataclass(frozen=True)
class Filing:
    """What a run is filed under in W&B, before W&B's environment variables are looked at.

    What was asked for wins over the variables, and these over the run's own.

    Args:
        job_type: ``fit``, ``test``, ``validate``, ``sweep-trial`` or ``study``.
        own_group: The run's own group, its recipe or study.
        own_tags: Its task, net, data and recipe.
        group: The option ``wandb_group``.
        tags: The option ``wandb_tags``; they come after the run's own.
        notes: The option ``wandb_notes``.
    """

    job_type: str | None = None
    own_group: str | None = None
    own_tags: tuple[str, ...] = ()
    group: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None

    def settings(self) -> dict[str, Any]:
        """Return arguments of ``wandb.init``; the entity is left to W&B."""
        variable = os.environ.get
        given = self.tags or _words(variable("WANDB_TAGS", ""))
        return {
            "project": variable("WANDB_PROJECT") or PROJECT,
            "group": self.group or variable("WANDB_RUN_GROUP") or self.own_group,
            "job_type": variable("WANDB_JOB_TYPE") or self.job_type,
            "tags": list(dict.fromkeys(tag[:_LONGEST_TAG] for tag in (*self.own_tags, *given))),
            "notes": self.notes or variable("WANDB_NOTES"),
        }


def _words(text: str) -> Iterable[str]:
    return filter(None, map(str.strip, text.split(",")))


def write_place(folder: Path, entity: str | None, project: str | None, run_id: str) -> None:
    """Note in a run's folder which W&B run it has, so that the run goes on in the same one."""
    place = {"entity": entity or None, "project": project or None, "id": run_id}
    with replaced(folder / _PLACE) as path:
        path.write_text(json.dumps(place) + "\n", encoding="utf-8")


def place_of(folder: Path) -> dict[str, str]:
    """Return what is known of a folder's W&B run: ``entity``, ``project`` and ``id``."""
    found: Any = None
    with suppress(OSError, ValueError):
        found = json.loads((folder / _PLACE).read_text(encoding="utf-8"))
    return {k: v for k, v in found.items() if v} if isinstance(found, dict) else {}
