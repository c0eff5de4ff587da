"""Texts that a language model learns to write: corpora, instructions, preferences."""

from datamodules.language.corpus import TextCorpus
from datamodules.language.inputs import PromptInputs
from datamodules.language.instructions import Instructions
from datamodules.language.preferences import Preferences

__all__ = ["Instructions", "Preferences", "PromptInputs", "TextCorpus"]
