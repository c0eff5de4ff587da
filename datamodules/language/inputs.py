"""Prompts to write on from."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.core.errors import DataError, at_least
from datamodules.core.inputs import Inputs, described
from datamodules.core.sampling import PositionedLoader
from datamodules.core.text_file import check_encoding, read_text
from datamodules.language.base import LanguageData
from datamodules.language.chat_template import ChatTemplate
from datamodules.language.tokenizer import LanguageTokenizer


class PromptInputs(LanguageData, Inputs):
    """Prompts that a trained net is to go on from, read as its own texts were.

    In Python a prompt may be a chat, too: its messages so far, each a mapping of ``role`` and
    ``content``.

    Args:
        inputs: Prompts as they are, and paths of .txt files, each of which is one prompt; none
            where they are asked for later.
        tokenizer: The tokenizer as JSON text.
        end_token: The token that ends a text.
        chat_template: The jinja template that makes a text of a chat; without one, a prompt is the
            beginning of a text, with one a user's message.
        max_length: Tokens that a row had at most when the net was trained.
        encoding: What .txt files are in, by Python's name; by default what their bytes tell.

    Raises:
        DataError: If a file is not there or will not do.
    """

    def __init__(
        self,
        inputs: list[str] | None,
        tokenizer: str,
        end_token: str | None = None,
        chat_template: str | None = None,
        max_length: int = 256,
        encoding: str | None = None,
    ) -> None:
        super().__init__(batch_size=1)
        self.inputs = None if inputs is None else [str(given) for given in inputs]
        self.max_length = at_least("max_length", max_length, 1)
        known = LanguageTokenizer(tokenizer, end_token)
        template = None if chat_template is None else ChatTemplate(chat_template, known)
        self._set_tokenizer(known, template)
        self.encoding = check_encoding(encoding)
        self.prompts: list[Any] = []
        """The texts themselves, or messages."""
        self._take(self.inputs or [])

    def _wanted(self) -> str:
        return "prompts, chats of messages or .txt files"

    def _apart(self, given: Any) -> tuple[list[Any], bool]:
        if isinstance(given, list | tuple) and given and all(map(_is_message, given)):
            return [list(given)], True
        return super()._apart(given)

    def _take(self, inputs: Sequence[Any]) -> None:
        self.prompts = [self._prompt(given, number) for number, given in enumerate(inputs)]
        self.names = [
            prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
            for prompt in self.prompts
        ]

    def _prompt(self, given: Any, number: int) -> Any:
        if isinstance(given, str | os.PathLike):
            return _prompt(os.fspath(given), self.encoding)
        if isinstance(given, list | tuple) and given and all(map(_is_message, given)):
            return [dict(message) for message in given]
        raise DataError(
            f"input {number} is {described(given)}, which is no prompt; give {self._wanted()}"
        )

    def default_prompts(self) -> list[str]:
        """Return the prompts."""
        return self.prompts

    def predict_dataloader(self) -> PositionedLoader:
        """Return each prompt's tokens."""
        dataset: Any = [self.encode_prompt(prompt) for prompt in self.prompts]
        return self._prediction_loader(dataset)


def _is_message(given: object) -> bool:
    """Return whether it is a message of a chat."""
    return isinstance(given, Mapping) and all(
        isinstance(given.get(part), str) for part in ("role", "content")
    )


def _prompt(given: str, encoding: str | None) -> str:
    path = Path(given).expanduser()
    if path.suffix != ".txt" or any(map(str.isspace, given)):
        return given
    if not path.is_file():
        raise DataError(f"{given!r} does not exist; give prompts or .txt files")
    return read_text(path, encoding)
