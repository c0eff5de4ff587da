"""What ``predict`` does with a language model: it writes on, or chats, in the terminal."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from datamodules.core.files import nearby
from zoo.errors import UserError
from zoo.inference.generation import fitted, pieces
from zoo.model.model import Model, cut, unseen
from zoo.run.folder import RunFolder


def write_texts(folder: RunFolder, model: Model, data: Any) -> None:
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
            history = model.remembered(data, history)
        tokens = model.tokens_of(data, history if data.is_chat else prompt)
        for said in (
            cut(len(tokens), len(fitted(model.net, tokens))),
            unseen(tokens, data.pad_id),
        ):
            if said is not None:
                print(said, file=sys.stderr, flush=True)  # the text itself goes on
        new = model.write(tokens, data.stop_ids)
        if not asks:
            print(f"> {prompt}" if data.is_chat else prompt, end="\n" if data.is_chat else "")
        text = _stream(new, data)
        if data.is_chat:
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


def _stream(tokens: Iterable[int], data: Any) -> str:
    """Print a text as its tokens come, and return it."""
    written: list[int] = []

    def noted() -> Iterator[int]:
        for token in tokens:
            written.append(token)
            yield token

    for piece in pieces(noted(), data.decode):
        print(piece, end="", flush=True)
    print(flush=True)
    text: str = data.decode(written)
    return text
