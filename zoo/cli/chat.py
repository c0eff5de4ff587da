"""What ``predict`` does with a language model: it writes on, or chats, in the terminal."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from datamodules.core.errors import blamed
from datamodules.core.files import nearby
from zoo.errors import UserError
from zoo.inference.generation import fitted
from zoo.nets.protocols import LimitsLength
from zoo.run.folder import RunFolder

if TYPE_CHECKING:
    from zoo.tasks.language_model import LanguageModel

_PART_OF_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def write_texts(folder: RunFolder, task: LanguageModel, data: Any) -> None:
    """Write on from each prompt, to the terminal as it comes, and into ``predictions.csv``.

    Prompts are the data's own, or without these the lines of the standard input. Of a chat each is
    a message of one conversation, whose history is kept; the oldest messages are forgotten where
    the net's context ends. Of a prompt that is longer than that the end is read, which is said.

    Raises:
        UserError: If there are no prompts, or one is empty.
    """
    history: list[dict[str, str]] = []
    rows: list[list[str]] = []
    asks = not data.prompts and sys.stdin.isatty()
    for prompt in data.prompts or _lines(asks):
        if data.is_chat:
            history.append({"role": "user", "content": prompt})
            tokens = _fitting(task, data, history)
        else:
            tokens = data.encode_prompt(prompt)
        _tell_cut(len(tokens), len(fitted(task.net, tokens)))
        try:
            new = task.write(tokens, stop_ids=data.stop_ids)
        except ValueError as error:
            raise blamed("inputs", error) from error
        if not asks:
            print(f"> {prompt}" if data.is_chat else prompt, end="\n" if data.is_chat else "")
        text = _stream(new, data)
        history.append({"role": "assistant", "content": text})
        rows.append([prompt, text])
    if not rows:
        raise UserError("nothing was given to write on from; give --inputs, or lines of input")
    path = folder.path / "predictions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["prompt", "text"], *rows])
    print(f"written to {nearby(path)}", flush=True)


def _lines(asks: bool) -> Iterator[str]:
    """Yield line by line what a person types, up to an empty one, or another program gives."""
    if not asks:
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        return
    print("Write a line to go on from; an empty one ends.", flush=True)
    while line := input("> ").strip():
        yield line


def _fitting(task: LanguageModel, data: Any, history: list[dict[str, str]]) -> list[int]:
    """Return the conversation's tokens, without the oldest messages where they are too many."""
    longest = task.net.max_length if isinstance(task.net, LimitsLength) else None
    while True:
        tokens: list[int] = data.encode_prompt(history)
        if longest is None or len(tokens) < longest or len(history) < 3:
            return tokens
        del history[:2]  # a message and its answer


def _tell_cut(count: int, read: int) -> None:
    """Say how much of a prompt is not read, on stderr: the text itself goes on."""
    if read < count:
        print(
            f"the prompt has {count:,} tokens and the net's context {read:,}: its first "
            f"{count - read:,} are left out",
            file=sys.stderr,
            flush=True,
        )


def _stream(tokens: Iterable[int], data: Any) -> str:
    """Print a text as its tokens come, and return it."""
    written: list[int] = []
    shown = ""
    for token in tokens:
        written.append(token)
        text: str = data.decode(written)
        # A character may take several tokens.
        if text.startswith(shown) and not text.endswith(_PART_OF_A_CHARACTER):
            print(text[len(shown) :], end="", flush=True)
            shown = text
    text = data.decode(written)
    print(text[len(shown) :] if text.startswith(shown) else "", flush=True)
    return text
