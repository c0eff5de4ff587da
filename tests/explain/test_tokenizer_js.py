"""The page's tokenizer in JavaScript against the library that made the tokenizer."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from datamodules.text.tokenizer import TextTokenizer, Vocabulary, train

PAGE = Path(__file__).parents[2] / "zoo" / "explain" / "page"

#: Runs in node: reads {tokenizers, texts}, writes numbers, texts again and shown tokens.
SCRIPT = """
import { Tokenizer } from "%s";
import { readFileSync } from "node:fs";
const { tokenizers, unknown, texts } = JSON.parse(readFileSync(0, "utf8"));
const found = tokenizers.map((spec, i) => {
  const tokenizer = new Tokenizer(JSON.parse(spec), unknown[i]);
  return texts.map((text) => {
    const ids = tokenizer.encode(text);
    return [ids, tokenizer.decode(ids)];
  });
});
process.stdout.write(JSON.stringify(found));
"""

SENTENCES = [
    "It's a film that we'd've liked; they'll say 3.14 times 1,000 is π × 10³!",
    "  two  spaces\tand a tab\nand lines\r\n\r\n  indented",
    "no\u00a0break\u3000wide \u0085next\ufeff mark",
    "오늘 저녁에 뭐 먹을까요? 한국어 문장입니다 ㅋㅋㅋ ㅠㅠ",
    "배고파 배고파",  # letters that are not composed
    "ΟΔΥΣΣΕΥΣ İstanbul STRASSE ß ﬁne Ǆ",
    "👩‍👩‍👧‍👦 🇰🇷 👍🏽 naïve café e\u0301 ½ ² Ⅷ ٣ snake_case a‿b zero\u200dwidth",
    "[PAD] [UNK] <|endoftext|> are words here",
    "",
    " ",
    "\ud800 half",
]


def _drawn(count: int) -> list[str]:
    draw = random.Random(0)
    ranges = [(0x20, 0x7E), (0x80, 0x24F), (0x370, 0x3FF), (0x1100, 0x11FF), (0xAC00, 0xD7A3)]
    ranges += [(0x2000, 0x206F), (0x3040, 0x30FF), (0x1F300, 0x1F64F), (0x0900, 0x097F), (9, 13)]
    letters = [chr(draw.randint(*draw.choice(ranges))) for _ in range(count * 12)]
    return ["".join(draw.choices(letters, k=draw.randint(1, 24))) for _ in range(count)]


def _kinds() -> list[str]:
    texts = SENTENCES * 3 + _drawn(300)
    return [
        train(texts, Vocabulary("bpe", 500, 2, lowercase=False, nfc=False)),
        train(texts, Vocabulary("bpe", 700, 2, lowercase=True, nfc=True, prefix_space=False)),
        train(texts, Vocabulary("byte", 0, 1, False, False, ("<|endoftext|>",), False)),
        train(texts, Vocabulary("word", 400, 1, lowercase=True, nfc=True)),
        train(texts, Vocabulary("char", 400, 2, lowercase=False, nfc=True)),
    ]


def _run(tokenizers: list[TextTokenizer], texts: list[str]) -> list[list[tuple[list[int], str]]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    given = {
        "tokenizers": [each.json for each in tokenizers],
        "unknown": [each.unk_id for each in tokenizers],
        "texts": texts,
    }
    script = SCRIPT % (PAGE / "tokenizer.js").as_uri()
    done = subprocess.run(
        [node, "--input-type=module", "-e", script],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[list[tuple[list[int], str]]] = json.loads(done.stdout)
    return found


def test_every_kind_gives_the_librarys_numbers_and_texts():
    tokenizers = [TextTokenizer(text) for text in _kinds()]
    texts = SENTENCES + _drawn(2000)
    for tokenizer, rows in zip(tokenizers, _run(tokenizers, texts), strict=True):
        for text, (ids, again) in zip(texts, rows, strict=True):
            expected = tokenizer.encode([[text]]).tokens.tolist()
            assert ids == expected, text
            assert again == tokenizer.decode(expected), text


def test_real_reviews_in_two_languages(real_data: Path):
    korean = (real_data / "text/nsmc/ratings_train.txt").read_text("utf-8").split("\n")[1:2001]
    english = (real_data / "text/sst2/train.tsv").read_text("utf-8").split("\n")[:2000]
    texts = [line.split("\t")[-2 if "\t" in line and line[0].isdigit() else 0] for line in korean]
    texts += [line.split("\t")[0] for line in english]
    tokenizers = [
        TextTokenizer(train(texts, Vocabulary("bpe", 4000, 2, lowercase=True, nfc=True))),
        TextTokenizer(train(texts, Vocabulary("word", 4000, 2, lowercase=True, nfc=True))),
    ]
    for tokenizer, rows in zip(tokenizers, _run(tokenizers, texts), strict=True):
        encoded = tokenizer.encode([texts])
        assert [len(ids) for ids, _ in rows] == encoded.lengths.tolist()
        assert [number for ids, _ in rows for number in ids] == encoded.tokens.tolist()
