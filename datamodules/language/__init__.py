"""Texts that a language model learns to write: corpora, instructions, preferences."""

from typing import TYPE_CHECKING, Any

from datamodules.core.lazy import attribute

if TYPE_CHECKING:
    from datamodules.language.corpus import TextCorpus
    from datamodules.language.inputs import PromptInputs
    from datamodules.language.instructions import Instructions
    from datamodules.language.preferences import Preferences

__all__ = ["Instructions", "Preferences", "PromptInputs", "TextCorpus"]

#: In which module each of them is.
_HOMES = {
    "TextCorpus": "corpus",
    "PromptInputs": "inputs",
    "Instructions": "instructions",
    "Preferences": "preferences",
}


def __getattr__(name: str) -> Any:
    return attribute(__name__, _HOMES, name)
