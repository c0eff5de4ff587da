"""What is exported, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.run.card import Known, model_card

if TYPE_CHECKING:  # takes seconds to import
    from huggingface_hub import ModelCard

    from zoo.tasks.base import Task


@dataclass
class Source:
    """What is exported, and where it comes from.

    Args:
        path: The checkpoint's file.
        checkpoint: What is in it.
        task: The task with its net and weights.
        known: Its recipe, and the figures of its test.
    """

    path: Path
    checkpoint: dict[str, Any]
    task: Task
    known: Known

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

    def card(
        self,
        usage: str,
        *,
        library: str = "lightning-zoo",
        net: str | None = None,
        parameters: int | None = None,
    ) -> ModelCard:
        """Return its card; see :func:`~zoo.run.card.model_card`."""
        count = parameters or sum(p.numel() for p in self.task.net.parameters())
        return model_card(
            self.checkpoint,
            self.known,
            self.name,
            usage,
            library=library,
            net=net or type(self.task.net).__name__,
            parameters=count,
        )
