"""Rows of a data set as conversations, in the forms that are usual."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from datamodules.core.errors import DataError
from datamodules.language.records import Record

#: One message of a chat: its role and its content.
Message = dict[str, str]

_ROLES = ("system", "user", "assistant")
# as ShareGPT has it, and OpenAI's newer rows
_ALIASES = {
    **{"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"},
    "developer": "system",
}


class Conversation(NamedTuple):
    """A chat.

    Attributes:
        messages: Perhaps the system's first; then the user and the assistant in turn.
        learned: From which message on the assistant's are to be learned.
    """

    messages: list[Message]
    learned: int


def instructions(rows: Iterable[Record]) -> Iterator[tuple[str, list[Conversation]]]:
    """Yield each row's place and its one conversation.

    Raises:
        DataError: If the columns make none, or a row lacks one or holds something else in it.
    """
    form: tuple[str, ...] = ()
    for place, values in rows:
        form = form or _form(
            values, place, (*_CHATS, ("instruction", "output"), ("prompt", "completion"))
        )
        if form in _CHATS:
            yield place, [_checked(_messages(values, form[0], place), 0, place)]
            continue
        asked, answer = (_either(values, column, place) for column in form)
        if isinstance(asked, str):
            given = _text(values.get("input") or "", "input", place) if form[1] == "output" else ""
            asked = [{"role": "user", "content": "\n\n".join(filter(None, (asked, given)))}]
        yield place, [_answered(asked, answer, place)]


_CHATS = (("messages",), ("conversations",))


def preferences(rows: Iterable[Record]) -> Iterator[tuple[str, list[Conversation]]]:
    """Yield each row's place and two conversations: with the answer to be chosen and the other.

    Raises:
        DataError: As for ``instructions``.
    """
    form: tuple[str, ...] = ()
    for place, values in rows:
        form = form or _form(
            values, place, (("prompt", "chosen", "rejected"), ("chosen", "rejected"))
        )
        answers = [_either(values, column, place) for column in form[-2:]]
        if form[0] == "prompt":
            asked = _either(values, "prompt", place)
            if isinstance(asked, str):
                asked = [{"role": "user", "content": asked}]
            yield place, [_answered(asked, answer, place) for answer in answers]
        else:
            yield place, [_last_learned(answer, place) for answer in answers]


def _last_learned(answer: str | list[Message], place: str) -> Conversation:
    """Return a whole conversation whose last message is the answer."""
    if isinstance(answer, str):
        raise DataError(f"{place} has answers that are texts and no 'prompt'; add what they answer")
    return _checked(answer, len(answer) - 1, place)


def _answered(asked: list[Message], answer: str | list[Message], place: str) -> Conversation:
    if isinstance(answer, str):
        answer = [{"role": "assistant", "content": answer}]
    if answer[: len(asked)] == asked and len(answer) > len(asked):  # it repeats what it answers
        answer = answer[len(asked) :]
    return _checked([*asked, *answer], len(asked), place)


def _form(
    values: Mapping[str, Any], place: str, forms: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    """Return the first form whose columns are all there."""
    for form in forms:
        if all(column in values for column in form):
            return form
    ways = [" and ".join(map(repr, form)) for form in forms]
    held = ", ".join(map(repr, values)) or "none"
    raise DataError(
        f"{place} has the columns {held}, which make no sample; give {', or '.join(ways)}"
    )


def _value(values: Mapping[str, Any], column: str, place: str) -> Any:
    if values.get(column) is None:
        raise DataError(f"{place} lacks {column!r}; add it or remove the row")
    return values[column]


def _text(value: Any, column: str, place: str) -> str:
    if not isinstance(value, str):
        raise DataError(
            f"{place} holds {str(value)[:60]!r} as {column!r}, which is no text; mend it or remove "
            "the row"
        )
    return value


def _either(values: Mapping[str, Any], column: str, place: str) -> str | list[Message]:
    """Return a text or messages."""
    value = _value(values, column, place)
    return (
        _messages(values, column, place) if isinstance(value, list) else _text(value, column, place)
    )


def _messages(values: Mapping[str, Any], column: str, place: str) -> list[Message]:
    value = _value(values, column, place)
    if not isinstance(value, list):
        raise DataError(
            f"{place} holds {str(value)[:60]!r} as {column!r}, which is no list of messages; mend "
            "it or remove the row"
        )
    found = []
    for message in value:
        given = message if isinstance(message, dict) else {}
        role = given.get("role", given.get("from"))
        content = _joined(given.get("content", given.get("value")))
        if not isinstance(role, str) or not isinstance(content, str):
            raise DataError(
                f"{place} holds {str(message)[:60]!r} among the messages of {column!r}, which is "
                "no role with a content; mend it or remove the row"
            )
        found.append({"role": _ALIASES.get(role, role), "content": content})
    return found


def _joined(content: Any) -> Any:
    """Return the text of a content in parts, as OpenAI writes it; what is not of text alone stays.

    >>> _joined([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}])
    'one two'
    """
    if not isinstance(content, list):
        return content
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if texts and len(texts) == len(parts) else content


def _checked(messages: list[Message], learned: int, place: str) -> Conversation:
    """Refuse roles that are not in turn."""
    expected = "user"
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if role not in _ROLES:
            raise DataError(
                f"{place} has the role {role!r}, which is unknown; give {', '.join(_ROLES)}"
            )
        if role == "system" and number == 1:
            continue
        if role != expected:
            raise DataError(
                f"{place} has roles out of order: message {number} is the {role}'s where the "
                f"{expected}'s is due; mend it or remove the row"
            )
        expected = "assistant" if role == "user" else "user"
    return Conversation(messages, learned)
