"""Corpora, rows and prompts in whatever encoding they are, or are said to be."""

import json
from pathlib import Path

import pytest

from datamodules.core.errors import UserError
from datamodules.language.corpus import TextCorpus
from datamodules.language.inputs import PromptInputs
from datamodules.language.instructions import Instructions
from datamodules.language.preferences import Preferences

#: Russian, in an encoding that no guess fits.
TEXT = "Привет, мир. Это короткий текст, и он повторяется. " * 20
ROWS = [{"instruction": f"Что это: {n}?", "output": f"Это число {n}."} for n in range(20)]
PAIRS = [{"prompt": f"Что это: {n}?", "chosen": "Число.", "rejected": "Слово."} for n in range(20)]
UNKNOWN = r"option encoding is 'cp9999'; give utf-8, utf-16, cp949, latin-1 or another"


def written(path: Path, text: str, encoding: str) -> str:
    path.write_bytes(text.encode(encoding))
    return str(path)


def lines(rows: list[dict[str, str]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


@pytest.mark.parametrize("name", ["t.txt", "t.csv"])
def test_a_corpus(tmp_path: Path, name: str) -> None:
    text = TEXT if name == "t.txt" else f'text\n"{TEXT}"\n'
    path = written(tmp_path / name, text, "cp1251")
    data = TextCorpus(path, tokenizer="char", max_length=16, encoding="cp1251")
    data.setup()
    assert set(data.text_tokenizer.vocabulary()) > set(TEXT.replace(" ", ""))
    assert "in cp1251" in data.describe().facts[0].text
    assert data.resolved()["init_args"]["encoding"] == "cp1251"
    with pytest.raises(UserError, match=r"is not text in UTF-8: .* or say by encoding what it is"):
        TextCorpus(path, tokenizer="char", max_length=16)
    with pytest.raises(UserError, match=UNKNOWN):
        TextCorpus(path, tokenizer="char", encoding="cp9999")


@pytest.mark.parametrize(("cls", "rows"), [(Instructions, ROWS), (Preferences, PAIRS)])
def test_rows(tmp_path: Path, tiny_llama: Path, cls, rows) -> None:
    path = written(tmp_path / "t.jsonl", lines(rows), "cp1251")
    options = {"tokenizer": str(tiny_llama), "chat_template": "plain", "max_length": 512}
    data = cls(path, encoding="cp1251", **options)
    data.setup()
    assert data.describe().facts[0].text == "json in cp1251"
    assert data.default_prompts()[0] in {f"Что это: {n}?" for n in range(20)}
    with pytest.raises(UserError, match=r"t\.jsonl' is not text in UTF-8"):
        cls(path, **options)
    with pytest.raises(UserError, match=UNKNOWN):
        cls(path, encoding="cp9999", **options)


def test_a_prompt(tmp_path: Path) -> None:
    path = written(tmp_path / "t.txt", TEXT, "cp1251")
    corpus = TextCorpus(path, tokenizer="char", max_length=16, encoding="cp1251")
    spec = corpus.inputs_spec()["init_args"]
    assert PromptInputs([path], **spec, encoding="cp1251").prompts == [TEXT]
    with pytest.raises(UserError, match=r"t\.txt' is not text in UTF-8"):
        PromptInputs([path], **spec)
    with pytest.raises(UserError, match=UNKNOWN):
        PromptInputs(["a prompt"], **spec, encoding="cp9999")
