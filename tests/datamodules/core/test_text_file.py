import gzip
from pathlib import Path

import pytest

from datamodules.core.errors import UserError
from datamodules.core.json_file import json_rows
from datamodules.core.text_file import (
    check_encoding,
    form_of,
    guess_encoding,
    lines,
    read_text,
    sniff_delimiter,
)

KOREAN = [
    "좋은 영화",
    "굳 ㅋ",
    "안녕하세요",
    "오늘 서울 날씨 어때?",
    "배송이 늦어요… 환불해 주세요ㅠㅠ",
]
WESTERN = ["café", "Über den Wolken", "Ärger", "naïve façade", "Año nuevo", "ÇA VA", "it’s “fine”"]
OTHERS = {
    "shift_jis": ["こんにちは世界", "text,label\nよい,1"],
    "euc_jp": ["今日は天気がいいですね"],
    "gbk": ["今天天气很好", "我喜欢这部电影"],
    "big5": ["今天天氣很好"],
    "cp1251": ["Привет мир", "text,label\nхорошо,1\nплохо,0"],
}


def put(folder: Path, content: bytes, name: str = "t.txt") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("text", KOREAN + WESTERN)
def test_what_utf_8_and_utf_16_hold_is_told(tmp_path: Path, text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        content = f"{text}\nand more\n"
        assert read_text(put(tmp_path, content.encode(encoding), encoding)) == content


@pytest.mark.parametrize("text", KOREAN)
def test_short_korean_texts_in_cp949_are_told(text: str) -> None:
    assert guess_encoding(text.encode("cp949")) == "cp949"
    assert guess_encoding(f"text,label\n{text},1\n".encode("cp949")) == "cp949"


@pytest.mark.parametrize("text", WESTERN)
def test_western_texts_are_latin_1(text: str) -> None:
    assert guess_encoding(text.encode("cp1252")) == "cp1252"


@pytest.mark.parametrize("encoding", OTHERS)
def test_other_encodings_are_not_taken_for_these(tmp_path: Path, encoding: str) -> None:
    for text in OTHERS[encoding]:
        path = put(tmp_path, text.encode(encoding))
        with pytest.raises(UserError, match=r"not text in UTF-8: byte \d.*say by encoding"):
            read_text(path)
        assert read_text(path, encoding) == text


def test_a_fault_in_utf_8_makes_no_other_encoding_of_it(tmp_path: Path) -> None:
    path = put(tmp_path, "좋은 영화\n또 하나 ".encode() + b"\xff\n")
    with pytest.raises(UserError, match=r"not text in UTF-8: byte 25 \(0xff\) in line 2; save"):
        list(lines(path))


def test_what_comes_late_is_told_too(tmp_path: Path) -> None:
    content = b"a film\n" * 200_000 + "좋은 영화\n".encode("cp949")
    assert form_of(put(tmp_path, content)).encoding == "cp949"


def test_a_line_longer_than_what_is_looked_at(tmp_path: Path) -> None:
    for encoding in ("utf-8", "cp949"):
        for lead in ("", "a"):  # of one of them the end falls within a letter
            content = lead + "좋은영화" * 2**19
            assert form_of(put(tmp_path, content.encode(encoding))).encoding == encoding


def test_gzip_is_told_by_its_bytes(tmp_path: Path) -> None:
    text = "좋은 영화\n" * 3
    for name in ("t.txt", "t.txt.gz"):
        path = put(tmp_path, gzip.compress(text.encode("cp949")), name)
        assert list(lines(path)) == ["좋은 영화\n"] * 3
        assert str(form_of(path)) == "cp949, packed by gzip"
    path = put(tmp_path, gzip.compress(b"text " * 999)[:-12])
    with pytest.raises(UserError, match=r"cannot be read .*whole"):
        read_text(path)


def test_encodings_that_there_are_not() -> None:
    for name in ("utf-9", "base64"):
        with pytest.raises(UserError, match=f"encoding is '{name}'; give utf-8, utf-16, cp949"):
            check_encoding(name)


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("text,label\na; b; c,1\n", ","),
        ("text;label\na, b, c;1\nd, e;0\n", ";"),
        ("text\tlabel\na, b\t1\n", "\t"),
        ("text|label\na|1\n", "|"),
        ('text,label\n"a\nb; c",1\n', ","),
        ("text\na; b\n", ","),
        ("Class Index,Title,Text\n1,a;b,c;d\n", ","),
        ("", ","),
    ],
)
def test_the_delimiter_is_what_fits_the_header(
    tmp_path: Path, content: str, delimiter: str
) -> None:
    assert sniff_delimiter(put(tmp_path, content.encode(), "t.csv")) == delimiter


@pytest.mark.parametrize(
    "content",
    [
        '[{"a": 1}, {"a": 2}]',
        '[\n  {"a": 1},\n  {"a": 2}\n]\n',
        '{"a": 1}\n\n{"a": 2}\n',
    ],
)
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_json_in_any_order(tmp_path: Path, name: str, content: str) -> None:
    rows = json_rows(put(tmp_path, content.encode(), name))
    assert [row for _, row in rows] == [{"a": 1}, {"a": 2}]
