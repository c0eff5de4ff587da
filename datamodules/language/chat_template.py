"""Chats as the text that a model knows, and which of it the assistant says."""

import json
import re
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.core.errors import DataError, nearest, refuse
from datamodules.core.text_file import read_text
from datamodules.language.conversations import Conversation, Message
from datamodules.language.tokenizer import LanguageTokenizer

#: Templates that may be called by a name.
NAMED_TEMPLATES = {
    # OpenAI's form, which many open models have taken over
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    # as Stanford's Alpaca was trained (github.com/tatsu-lab/stanford_alpaca); an input stands in
    # the instruction; further turns go on alike
    "alpaca": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
        "{% else %}{{ 'Below is an instruction that describes a task. Write a response that "
        "appropriately completes the request.' }}{% endif %}"
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}"
        "{{ '\\n\\n### Instruction:\\n' + message['content'] }}"
        "{% elif message['role'] == 'assistant' %}"
        "{{ '\\n\\n### Response:\\n' + message['content'] + eos_token }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\n\\n### Response:\\n' }}{% endif %}"
    ),
    # for nets that are trained from nothing: as few tokens as there can be
    "plain": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        "{{ '\\nAnswer: ' + message['content'] + eos_token }}"
        "{% elif loop.first %}{{ 'Question: ' + message['content'] }}"
        "{% else %}{{ '\\nQuestion: ' + message['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\nAnswer: ' }}{% endif %}"
    ),
}

_VARIABLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token")

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
_SAID = re.compile(r"<\|\w+\|>")

# Put into what looks like a special token in a message, which thereby stays ordinary text; from
# the private use area, and taken out again before anything becomes a token.
_BREAK = "\ue0b7"


class Spans(NamedTuple):
    """A chat as text.

    Attributes:
        text: All of it.
        spans: Where what the assistant says begins and ends, its end-of-turn token included.
    """

    text: str
    spans: list[tuple[int, int]]


class ChatTemplate:
    """A jinja template that turns a chat into text, as transformers renders it, in a sandbox.

    Args:
        text: The template; every variable but the messages is set in it.
        tokenizer: What makes tokens of its text, special ones included.

    Raises:
        DataError: If it is no template, or cannot render a chat.
    """

    def __init__(self, text: str, tokenizer: LanguageTokenizer) -> None:
        self.text, self.tokenizer = text, tokenizer
        specials = sorted(tokenizer.special_tokens(), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, specials)) or r"(?!)")
        probe = Conversation([_message("user", "a"), _message("assistant", "b")], 0)
        ((tokens, learned),) = self.encode([("a chat of two messages", probe)])
        said = [token for token, mark in zip(tokens, learned, strict=True) if mark]
        ends = bool(said) and tokenizer.token(said[-1]) in specials
        self.end_id = said[-1] if ends else tokenizer.end_id
        """The token that ends what the assistant says."""

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens that the assistant goes on from."""
        text = self._render(list(messages), "the prompt", prompt=True)
        (pieces,) = self.tokenizer.encode_pieces([text.split(_BREAK)])
        return list(chain.from_iterable(pieces))

    def encode(
        self, chats: Sequence[tuple[str, Conversation]]
    ) -> list[tuple[list[int], list[int]]]:
        """Return the tokens of chats, and for each 1 where it is to be learned, else 0.

        The text before an answer and the answer become tokens apart from each other, as they do
        when the model answers.

        Args:
            chats: Chats, each with its place as messages say it.
        """
        cut = [self._pieces(*self.spans(chat, place)) for place, chat in chats]
        encoded = self.tokenizer.encode_pieces([[piece for piece, _ in row] for row in cut])
        return [
            (
                list(chain.from_iterable(tokens)),
                [mark for own, (_, mark) in zip(tokens, row, strict=True) for _ in own],
            )
            for tokens, row in zip(encoded, cut, strict=True)
        ]

    def _pieces(self, text: str, spans: list[tuple[int, int]]) -> list[tuple[str, int]]:
        """Return the text cut where the assistant's turns and broken special tokens are."""
        bounds = [0, *chain.from_iterable(spans), len(text)]
        return [
            (part, number % 2)
            for number, (first, last) in enumerate(pairwise(bounds))
            for part in text[first:last].split(_BREAK)
            if part
        ]

    def spans(self, chat: Conversation, place: str) -> Spans:
        """Return a chat as text, and where in it the assistant speaks.

        By the template's own marks ({% generation %}), where it has them. Else what the chat adds
        to the prompt that goes before it, found by rendering both. Where a template changes earlier
        turns, as those do that leave out what a model has thought, what goes on from the prompt to
        the next special token; and where the prompt changes, too, the answer as it is written.

        Raises:
            DataError: If that is not to be found.
        """
        text = self._render(chat.messages, place)
        turns = [
            number for number, message in enumerate(chat.messages) if message["role"] == "assistant"
        ]
        if _MARKED.search(self.text):
            marked = self._render_marked(chat.messages, place)
            if len(marked) != len(turns):
                raise DataError(
                    f"the chat template marks {len(marked)} of the assistant's {len(turns)} turns "
                    f"of {place}; mark each by generation and endgeneration"
                )
            found = marked
        else:
            found, stop = [], 0
            for number in turns:
                first, stop = self._turn(chat.messages, number, text, stop, place)
                found.append((first, stop))
        spans = [
            self._with_end(text, *span)
            for number, span in zip(turns, found, strict=True)
            if number >= chat.learned and chat.messages[number]["content"].strip()
        ]
        return Spans(text, spans)

    def _turn(
        self, messages: list[Message], number: int, text: str, after: int, place: str
    ) -> tuple[int, int]:
        """Return where one of the assistant's turns begins and ends."""
        prompt = self._render(messages[:number], place, prompt=True)
        so_far = self._render(messages[: number + 1], place)
        if text.startswith(so_far) and so_far.startswith(prompt):
            return len(prompt), len(so_far)
        if text.startswith(prompt) and (end := self._special.search(text, len(prompt))):
            return len(prompt), end.end()
        content = self._broken(messages[number]["content"].strip())
        first = text.find(content, after)
        if first < 0:
            raise DataError(
                f"what the chat template makes of the assistant's turn in {place} is not to be "
                "found again; mark it by generation and endgeneration in the template"
            )
        return first, first + len(content)

    def _with_end(self, text: str, first: int, last: int) -> tuple[int, int]:
        """Return what the assistant says.

        With the token that ends its turn and nothing behind that.
        """
        specials = list(self._special.finditer(text, first, last))
        if specials and not text[specials[-1].end() : last].strip():
            return first, specials[-1].end()
        end = self._special.match(text, last)
        return first, last if end is None else end.end()

    def _render(self, messages: list[Message], place: str, *, prompt: bool = False) -> str:
        (text,), _ = self._call(messages, place, add_generation_prompt=prompt)
        return str(text)

    def _render_marked(self, messages: list[Message], place: str) -> list[tuple[int, int]]:
        _, (indices,) = self._call(messages, place, return_assistant_tokens_mask=True)
        return [(int(first), int(last)) for first, last in indices]

    def _call(self, messages: list[Message], place: str, **options: bool) -> tuple[Any, Any]:
        import jinja2
        from transformers.utils.chat_template_utils import render_jinja_template

        broken = [{**message, "content": self._broken(message["content"])} for message in messages]
        try:
            render: Any = render_jinja_template  # its types are not those that it returns
            texts, indices = render([broken], chat_template=self.text, **options)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"the chat template cannot be applied to {place} ({reason}); mend it, or give "
                f"{_others()}"
            ) from None
        return texts, indices

    def _broken(self, content: str) -> str:
        """Return the content with every special token broken in two."""
        return self._special.sub(
            lambda found: f"{found[0][:1]}{_BREAK}{found[0][1:]}", content.replace(_BREAK, "")
        )


def read_template(given: str | None, folder: Path | None, tokenizer: LanguageTokenizer) -> str:
    """Return a template's text, in which the tokens that it names are set.

    So that it needs nothing else.

    Args:
        given: Its name, file or text; None for the model's own.
        folder: Where the tokenizer is from.
        tokenizer: What makes tokens of its text.

    Raises:
        DataError: If there is none.
    """
    named = {} if folder is None else _named_tokens(folder)
    if tokenizer.end_token is not None:
        named["eos_token"] = tokenizer.end_token
    text = _template(given, folder)
    if given in NAMED_TEMPLATES:
        needed = _SAID.findall(text)
        absent = [token for token in needed if tokenizer.number(token) is None]
        if "eos_token" in text and "eos_token" not in named:
            absent.append("a token that ends a text (end_token)")
        if absent:
            remedy = f"give {_others()}, as the tokenizer lacks {absent[0]}"
            raise refuse("chat_template", given, remedy)
    setting = "".join(
        f"{{% set {name} = {json.dumps(named.get(name, ''))} %}}"
        for name in _VARIABLES
        if re.search(rf"\b{name}\b", text) and f"set {name} =" not in text
    )
    # the line feed behind a setting is not rendered
    return f"{setting}\n{text}" if setting else text


def _template(given: str | None, folder: Path | None) -> str:
    if given is None:
        text = None if folder is None else _own_template(folder)
        if text is None:
            source = "the tokenizer" if folder is None else repr(str(folder))
            remedy = f"give {_others()}, as {source} has none of its own"
            raise refuse("chat_template", None, remedy)
        return text
    if given in NAMED_TEMPLATES:
        return NAMED_TEMPLATES[given]
    if "{{" in given or "{%" in given:
        return given
    path = Path(given).expanduser()
    if not path.is_file():
        near = nearest(given, NAMED_TEMPLATES)
        remedy = f"did you mean {near!r}?" if near else f"give {_others()}"
        raise refuse("chat_template", given, remedy)
    return read_text(path)


def _others() -> str:
    return f"{', '.join(map(repr, NAMED_TEMPLATES))}, or the path of a .jinja file"


def _own_template(folder: Path) -> str | None:
    """Return the template that a model's folder holds, in one of the places where it may be."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = _json(folder / name).get("chat_template")
        if isinstance(found, list):  # several with names
            named = {each.get("name"): each.get("template") for each in found}
            found = named.get("default")
        if isinstance(found, str):
            return found
    return None


def _named_tokens(folder: Path) -> dict[str, str]:
    """Return the special tokens that a model's folder names, as templates call them."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        for key, token in _json(folder / name).items():
            content = token.get("content") if isinstance(token, dict) else token
            if key in _VARIABLES and isinstance(content, str):
                found[key] = content
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
