"""Prompts to write on from."""

from pathlib import Path
from typing import Any

from datamodules.core.errors import DataError, at_least
from datamodules.core.sampling import PositionedLoader
from datamodules.core.text_file import check_encoding, read_text
from datamodules.language.base import LanguageData
from datamodules.language.chat_template import ChatTemplate
from datamodules.language.tokenizer import LanguageTokenizer


class PromptInputs(LanguageData):
    """Prompts that a trained net is to go on from, read as its own texts were.

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
        inputs: list[str],
        tokenizer: str,
        end_token: str | None = None,
        chat_template: str | None = None,
        max_length: int = 256,
        encoding: str | None = None,
    ) -> None:
        super().__init__(batch_size=1)
        self.inputs = [str(given) for given in inputs]
        self.max_length = at_least("max_length", max_length, 1)
        known = LanguageTokenizer(tokenizer, end_token)
        template = None if chat_template is None else ChatTemplate(chat_template, known)
        self._set_tokenizer(known, template)
        self.encoding = check_encoding(encoding)
        self.prompts: list[str] = [_prompt(given, encoding) for given in self.inputs]
        """The texts themselves."""

    def default_prompts(self) -> list[str]:
        """Return the prompts."""
        return self.prompts

    def predict_dataloader(self) -> PositionedLoader:
        """Return each prompt's tokens."""
        dataset: Any = [self.encode_prompt(prompt) for prompt in self.prompts]
        return self._prediction_loader(dataset)


def _prompt(given: str, encoding: str | None) -> str:
    path = Path(given).expanduser()
    if path.suffix != ".txt" or any(map(str.isspace, given)):
        return given
    if not path.is_file():
        raise DataError(f"{given!r} does not exist; give prompts or .txt files")
    return read_text(path, encoding)
