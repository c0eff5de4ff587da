"""What all data of language models share: a tokenizer, and how a prompt becomes tokens."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from datamodules.core.arrays import ArrayData
from datamodules.core.options import plain
from datamodules.language.chat_template import ChatTemplate
from datamodules.language.conversations import Message
from datamodules.language.tokenizer import LanguageTokenizer


class LanguageData(ArrayData):
    """Tokens that a language model goes on from.

    All facts are right as soon as the object is built.
    """

    vocab_size: int
    """Return how many tokens there are."""
    pad_id: int
    """The token that stands behind a row that is shorter than others of its batch."""
    end_id: int | None
    """The token that ends a text, or what the assistant says in a chat, if one does."""
    end_token: str | None
    """The same, as it is written in the vocabulary."""
    max_length: int
    """Tokens that a row has at most."""
    tokenizer: str
    """The tokenizer as JSON text, the content of a tokenizer.json."""
    text_tokenizer: LanguageTokenizer
    chat_template: str | None = None
    """The jinja template that makes a text of a chat; none where texts are no chats."""
    _template: ChatTemplate | None = None

    def _set_tokenizer(
        self, tokenizer: LanguageTokenizer, template: ChatTemplate | None = None
    ) -> None:
        self.text_tokenizer = tokenizer
        self.tokenizer = tokenizer.json
        self.vocab_size, self.pad_id = tokenizer.vocab_size, tokenizer.pad_id
        self.end_id = tokenizer.end_id if template is None else template.end_id
        self.end_token = None if self.end_id is None else tokenizer.token(self.end_id)
        if template is not None:
            self._template, self.chat_template = template, template.text

    @property
    def is_chat(self) -> bool:
        """Whether a prompt is a user's message, not the beginning of a text."""
        return self._template is not None

    @property
    def stop_ids(self) -> list[int]:
        """Tokens with which a text ends."""
        return [] if self.end_id is None else [self.end_id]

    def encode_prompt(self, prompt: str | Sequence[Message]) -> list[int]:
        """Return the tokens that a net is to go on from.

        Args:
            prompt: The beginning of a text; an empty one begins with what stands before each text,
                or else with a new line. Of a chat the user's message, or all messages so far.
        """
        if self._template is not None:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            return self._template.prompt(messages)
        text = prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt)
        tokens = self.text_tokenizer.encode_text(text)
        if tokens:
            return tokens
        if self.end_id is not None:
            return [self.end_id]
        return self.text_tokenizer.encode_text("\n") or [self.pad_id]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text that tokens stand for, special ones left out."""
        return self.text_tokenizer.decode(tokens)

    def token_sizes(self) -> Tensor | None:
        """How much text each token stands for.

        Returns:
            int64 (vocab_size, 2), bytes and characters, where a character counts with its first
            byte; None where texts do not come back from their tokens as they were.
        """
        return self.text_tokenizer.token_sizes()

    def default_prompts(self) -> list[str]:
        """Return what a net writes on from where no prompts are given."""
        return [""]

    def inputs_spec(self) -> dict[str, Any]:
        """Return the ``PromptInputs`` that reads prompts as this object does, less ``inputs``."""
        names = ("tokenizer", "end_token", "chat_template", "max_length")
        return {
            "class_path": "datamodules.PromptInputs",
            "init_args": {name: plain(getattr(self, name)) for name in names},
        }
