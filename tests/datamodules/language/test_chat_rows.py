import json
from pathlib import Path

import pytest

from datamodules.language.conversations import instructions
from datamodules.language.records import find_records

ASKED = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}
FORMS = {
    "ShareGPT": (
        {"id": "a_1", "conversations": [{"from": "human", "value": "Hi"},
                                        {"from": "gpt", "value": "Hello"}]},
        [ASKED, ANSWER],
    ),
    "OpenAI": (
        {"messages": [{"role": "system", "content": "Be short"}, ASKED, {**ANSWER, "weight": 1}]},
        [{"role": "system", "content": "Be short"}, ASKED, ANSWER],
    ),
    "OpenAI in parts": (
        {"messages": [{"role": "developer", "content": "Be short"},
                      {"role": "user", "content": [{"type": "text", "text": "Hi"}]}, ANSWER]},
        [{"role": "system", "content": "Be short"}, ASKED, ANSWER],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
@pytest.mark.parametrize("listed", [True, False])
def test_chat_rows(tmp_path: Path, form: str, name: str, listed: bool) -> None:
    row, messages = FORMS[form]
    text = json.dumps([row, row]) if listed else f"{json.dumps(row)}\n" * 2
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = list(instructions(find_records(str(tmp_path / name))["train"].rows()))
    assert [chat.messages for _, (chat,) in found] == [messages] * 2
