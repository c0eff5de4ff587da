import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import PromptInputs, TextCorpus
from datamodules.core import text_file
from datamodules.core.errors import UserError
from datamodules.core.protocols import IGNORE_INDEX
from datamodules.language import corpus as text_windows
from datamodules.language import documents
from datamodules.language.batch import TokenBatch
from datamodules.language.tokenizer import LanguageTokenizer
from datamodules.text.tokenizer import pretrained

PROJECT = Path(__file__).resolve().parents[3]
REAL = Path(os.environ.get("ZOO_TEST_DATA", PROJECT.parent / "shared" / "data"))
RNG = np.random.default_rng(3)
WORDS = ["ship", "sea", "wind", "sail", "storm", "calm", "바다", "Ahoy!", "it's", "7"]
STORIES = [" ".join(RNG.choice(WORDS, RNG.integers(2, 30))) + f"\n{n} ends." for n in range(150)]
ODD = "  two  spaces\n\n\tΩ 🎬 e\u0301 한국어\r\n[END] <|endoftext|> "


@pytest.fixture
def real() -> Path:
    """The folder of real data, if there is one."""
    if not REAL.is_dir():
        pytest.skip(f"no real data: {REAL} does not exist (ZOO_TEST_DATA)")
    return REAL


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., TextCorpus]:
    """A corpus of 150 stories in one file, or of other texts."""

    def build(text: str = "\n\n".join(STORIES), **kwargs) -> TextCorpus:
        path = tmp_path / "stories.txt"
        path.write_bytes(text.encode())
        options = {"tokenizer": "word", "max_length": 16, "batch_size": 4, **kwargs}
        return TextCorpus(str(path), **options)

    return build


def stories(**kwargs) -> dict:
    return {"document_separator": "\n\n", **kwargs}


def stream(data: TextCorpus, split: str) -> list[int]:
    return data.split(split).store.tokens.tolist()


def predicted(batches: list[TokenBatch]) -> list[int]:
    """All labels that count, in the order of the windows."""
    rows = [(int(i), row) for b in batches for i, row in zip(b.index, b.labels, strict=True)]
    rows.sort(key=lambda pair: pair[0])
    return [label for _, row in rows for label in row.tolist() if label != IGNORE_INDEX]


def as_process(data: TextCorpus, rank: int, world_size: int) -> TextCorpus:
    data._shard = lambda: (rank, world_size)
    return data


@pytest.mark.parametrize(("kind", "size"), [("char", 66), ("byte", 257), ("bpe", 512)])
def test_shakespeare(real: Path, kind: str, size: int) -> None:
    path = real / "text" / "tinyshakespeare" / "input.txt"
    data = TextCorpus(str(path), tokenizer=kind, vocab_size=512, val_fraction=0.1)
    assert (data.vocab_size, data.end_id, data.stop_ids) == (size, None, [])
    data.setup()
    text = path.read_text()
    parts = [data.decode(stream(data, split)) for split in ("train", "test", "val")]
    assert "".join(parts) == text
    # nanoGPT's validation text, give or take a rounded character
    assert text[int(0.9 * len(text)) :][-len(parts[2]) :] == parts[2]
    assert len(parts[2]) == pytest.approx(0.1 * len(text), abs=1)
    assert len(parts[1]) == pytest.approx(0.05 * len(text), abs=1)
    assert predicted(list(data.val_dataloader())) == stream(data, "val")[1:]
    sizes = data.token_sizes()
    assert sizes is not None
    assert sizes[stream(data, "test")].sum(dim=0).tolist() == [len(parts[1])] * 2


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_every_text_comes_back(corpus, kind: str) -> None:
    data = corpus("\n\n".join([ODD, *STORIES]), tokenizer=kind, **stories(vocab_size=400))
    for text in (ODD, " ", "\n", "a  b ", *STORIES[:20]):
        if kind != "char" or set(text) <= set("".join([*STORIES, ODD])):
            assert data.decode(data.encode_prompt(text)) == text
    assert data.decode([data.end_id, *data.encode_prompt("sea"), data.pad_id]) == "sea"
    sizes = data.token_sizes()
    assert sizes is not None
    total = sizes[data.encode_prompt(ODD)].sum(dim=0).tolist()
    assert total == [len(ODD.encode()), len(ODD)]
    assert sizes[data.end_id].tolist() == [0, 0]


def test_words_do_not_come_back(corpus) -> None:
    assert corpus().token_sizes() is None


def test_an_empty_prompt(corpus) -> None:
    several, one = corpus(**stories()), corpus(tokenizer="byte")
    assert several.encode_prompt("") == [several.end_id] == several.stop_ids
    assert one.encode_prompt("") == [ord("\n")]
    assert one.default_prompts() == [""]


def test_the_older_form_of_gpt2(real: Path) -> None:
    from transformers import GPT2Tokenizer

    folder = real / "tokenizers" / "gpt2"
    ours = LanguageTokenizer(pretrained(str(folder), nfc=False))
    theirs = GPT2Tokenizer.from_pretrained(str(folder))
    text = (real / "text" / "tinystories" / "tiny_stories.txt").read_text()[:50_000] + ODD[:-14]
    assert ours.encode_text(text) == theirs(text)["input_ids"]
    assert ours.decode(ours.encode_text(text)) == text
    assert (ours.vocab_size, ours.end_token) == (50257, "<|endoftext|>")
    sizes = ours.token_sizes()
    assert sizes is not None
    assert sizes[ours.encode_text(text)].sum(dim=0).tolist() == [len(text.encode()), len(text)]


def test_documents_stand_apart(corpus) -> None:
    data = corpus(**stories(respect_documents=True, deduplicate=False))
    data.setup()
    end = data.end_id
    for split, texts in (("train", STORIES[:134]), ("val", STORIES[142:])):
        expected = [t for text in texts for t in [end, *data.encode_prompt(text)]] + [end]
        assert stream(data, split) == expected
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        for row in zip(
            batch.tokens, batch.labels, batch.position_ids, batch.segment_ids, strict=True
        ):
            tokens, labels, position_ids, segment_ids = (part.tolist() for part in row)
            place, document = 0, 0
            for number, token in enumerate(tokens):
                if segment_ids[number] == -1:  # behind the last token of all
                    assert (token, labels[number]) == (data.pad_id, IGNORE_INDEX)
                    assert position_ids[number] == 0
                    continue
                if token == end and number > 0 and labels[number] != IGNORE_INDEX:
                    place, document = 0, document + 1
                assert (position_ids[number], segment_ids[number]) == (place, document)
                place += 1
    assert predicted(list(data.val_dataloader())) == stream(data, "val")[1:]


def test_documents_without_a_token_between(corpus, tmp_path) -> None:
    """What nothing foretells is not asked for."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted({w for text in STORIES for w in text.split()})
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="7"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    options = {"tokenizer": str(tmp_path), "deduplicate": False}
    data = corpus(**stories(respect_documents=True, **options))
    data.setup()
    assert data.end_id is None
    dropped = len(stream(data, "val")) - len(predicted(list(data.val_dataloader())))
    assert dropped == 8  # the first word of each document


def test_batches_are_shifted_by_one(corpus) -> None:
    data = corpus()
    data.setup()
    tokens = stream(data, "train")
    for batch in data.train_dataloader():
        assert batch.tokens.dtype == batch.labels.dtype == batch.index.dtype == torch.int64
        assert batch.position_ids is batch.segment_ids is None
        for row, labels, start in zip(*batch[:3], strict=True):
            assert row.tolist() == tokens[start : start + 16]
            assert labels.tolist() == tokens[start + 1 : start + 17]
    assert len(data.train_dataloader()) == (len(tokens) - 1) // 16 // 4
    few = corpus(windows_per_epoch=3, batch_size=1)
    few.setup("fit")
    assert len(list(few.train_dataloader())) == 3


@pytest.mark.parametrize("windows", ["random", "sequential"])
def test_evaluation_is_complete_over_processes(corpus, windows: str) -> None:
    data = corpus(windows=windows, val_fraction=0.2)
    data.setup()
    shards = [list(as_process(data, rank, 3).val_dataloader()) for rank in range(3)]
    numbers = sorted(int(i) for shard in shards for batch in shard for i in batch.index)
    assert numbers == list(range(len(data.split("val"))))
    assert predicted([b for shard in shards for b in shard]) == stream(data, "val")[1:]


@pytest.mark.parametrize("windows", ["random", "sequential"])
def test_training_is_shared_evenly(corpus, windows: str) -> None:
    data = corpus(windows=windows)
    data.setup()
    whole = [batch.index.tolist() for batch in data.train_dataloader()]
    halves = [
        [batch.index.tolist() for batch in as_process(data, rank, 2).train_dataloader()]
        for rank in range(2)
    ]
    for together, first, second in zip(whole, *halves, strict=True):
        assert together[::2] == first
        assert together[1::2] == second


def test_sequential_windows_go_on(corpus) -> None:
    data = corpus(windows="sequential")
    data.setup()
    for rank, world_size in ((0, 1), (1, 2)):
        batches = list(as_process(data, rank, world_size).train_dataloader())
        assert len({tuple(batch.tokens.shape) for batch in batches}) == 1
        for before, batch in pairwise(batches):
            assert batch.tokens[:, 0].equal(before.labels[:, -1])
            assert batch.index.equal(before.index + 16)
        evaluated = list(data.val_dataloader())
        for before, batch in pairwise(evaluated):
            assert batch.index.equal(before.index[: len(batch.index)] + 1)


def test_order_is_a_function_of_seed_and_epoch(corpus) -> None:
    for windows in ("random", "sequential"):
        data = corpus(windows=windows, seed=4)
        data.setup("fit")

        def batches(at: tuple[int, int], data: TextCorpus = data) -> list[list[int]]:
            data._position = lambda: at
            return [batch.index.tolist() for batch in data.train_dataloader()]

        assert batches((3, 5)) == batches((3, 0))[5:]
        assert any(batches((epoch, 0)) != batches((3, 0)) for epoch in range(3))
        other = corpus(windows=windows, seed=5)
        other.setup("fit")
        assert any(batches((e, 0)) != batches((e, 0), other) for e in range(3))


def test_random_windows_reach_every_place(corpus) -> None:
    data = corpus("a b c d e f g h " * 10, max_length=4, windows_per_epoch=2000)
    data.setup("fit")
    starts = {int(i) for batch in data.train_dataloader() for i in batch.index}
    assert starts == set(range(len(stream(data, "train")) - 4))


def test_long_texts_are_read_in_pieces(corpus, monkeypatch) -> None:
    text = "\n\n".join(STORIES)
    whole = corpus(text, tokenizer="bpe", **stories(vocab_size=400))
    one = corpus(text, tokenizer="bpe", vocab_size=400)
    for data in (whole, one):
        data.setup()
    monkeypatch.setattr(documents, "CHUNK_CHARACTERS", 40)
    monkeypatch.setattr(text_file, "_BLOCK_BYTES", 7)
    monkeypatch.setenv("ZOO_CACHE", os.environ["ZOO_CACHE"] + "_two")
    pieces = list(documents.TextFiles([Path(whole.path)], "\n\n").chunks())
    assert max(len(piece.text) for piece in pieces) < 120
    assert len(pieces) > 2 * len(STORIES)
    told = "".join(piece.text + "\n\n" * piece.last for piece in pieces)
    assert told.removesuffix("\n\n") == text
    for data, options in ((whole, stories()), (one, {})):
        again = corpus(text, tokenizer=data.tokenizer, **options)
        again.setup()
        for split in ("train", "val", "test"):
            assert stream(again, split) == stream(data, split)


@pytest.mark.parametrize("separator", ["\n\n", "\n---\n", "<|endoftext|>"])
def test_a_separator_may_come_in_two_blocks(tmp_path, monkeypatch, separator: str) -> None:
    path = tmp_path / "texts.txt"
    path.write_text(separator.join([*STORIES[:20], "", " ", *STORIES[20:40]]))
    monkeypatch.setattr(documents, "CHUNK_CHARACTERS", 5)
    for block in range(1, 20):
        monkeypatch.setattr(text_file, "_BLOCK_BYTES", block)
        found = [""]
        for piece in documents.TextFiles([path], separator).chunks():
            found[-1] += piece.text
            found += [""] * piece.last
        assert found == [*STORIES[:40], ""]


def test_held_out_tails(corpus) -> None:
    data = corpus(tokenizer="char", val_fraction=0.2, test_fraction=0.1)
    data.setup()
    text = "\n\n".join(STORIES)
    parts = [data.decode(stream(data, split)) for split in ("train", "test", "val")]
    assert "".join(parts) == text
    assert [len(part) for part in parts[1:]] == [round(len(text) * 0.1), round(len(text) * 0.2)]


def test_repeated_documents(corpus) -> None:
    data = corpus("\n\n".join([*STORIES, STORIES[0], *STORIES[148:]]), **stories())
    data.setup()
    assert data.duplicates == 3
    assert sum(stream(data, s).count(data.end_id) - 1 for s in ("train", "val", "test")) == 150


def test_a_folder_with_splits(tmp_path) -> None:
    for name, part in (("train", STORIES[:9]), ("valid", STORIES[9:12])):
        (tmp_path / name).mkdir()
        for number, text in enumerate(part):
            (tmp_path / name / f"{number:02}.txt").write_text(text)
    (tmp_path / "test.txt").write_text(STORIES[12])
    data = TextCorpus(str(tmp_path), tokenizer="char", max_length=8)
    data.setup()
    end = data.text_tokenizer.token(data.end_id)
    texts = {"train": STORIES[:9], "val": STORIES[9:12], "test": STORIES[12:13]}
    for split, part in texts.items():
        tokens = [data.text_tokenizer.token(token) for token in stream(data, split)]
        known = [sign for text in part for sign in [end, *text]] + [end]
        assert [k for t, k in zip(tokens, known, strict=True) if t not in (k, "[UNK]")] == []


@pytest.mark.parametrize("form", ["csv", "jsonl", "folder"])
def test_rows_are_documents(tmp_path, form: str) -> None:
    import csv

    if form == "jsonl":
        path = tmp_path / "texts.jsonl"
        path.write_text("".join(json.dumps({"body": text}) + "\n" for text in STORIES))
    elif form == "csv":
        path = tmp_path / "texts.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["n", "body"], *enumerate(STORIES)])
    else:
        path = tmp_path / "texts"
        path.mkdir()
        for number, text in enumerate(STORIES):
            (path / f"{number:03}.txt").write_text(text)
    data = TextCorpus(str(path), text_column="body", tokenizer="char", max_length=8)
    data.setup()
    assert data.decode(stream(data, "train")) == "".join(STORIES[:134])
    assert data.decode(stream(data, "test")) == "".join(STORIES[134:142])
    assert data.decode(stream(data, "val")) == "".join(STORIES[142:])


def test_the_film_reviews_are_drawn(tmp_path, monkeypatch) -> None:
    import csv

    path = tmp_path / "reviews.csv"
    with path.open("w", newline="") as file:
        rows = [[text, "imdb"] for text in STORIES] + [["tomato", "rotten_tomatoes"]]
        csv.writer(file).writerows([["text", "source"], *rows])
    monkeypatch.setattr(text_windows, "packaged_reviews", lambda: path)
    held_out = []
    for seed in (0, 0, 1):
        data = TextCorpus(tokenizer="char", max_length=8, split_seed=seed)
        data.setup()
        texts = [data.decode(stream(data, split)) for split in ("train", "val", "test")]
        assert sorted("".join(texts)) == sorted("".join(STORIES))
        held_out.append(texts[1:])
    assert held_out[0] == held_out[1] != held_out[2]
    assert held_out[0] != ["".join(STORIES[142:]), "".join(STORIES[134:142])]


def test_it_is_built_again_from_what_it_found_out(corpus) -> None:
    data = corpus(tokenizer="bpe", **stories(vocab_size=300))
    spec = json.loads(json.dumps(data.resolved()))
    assert spec["class_path"] == "datamodules.TextCorpus"
    again = TextCorpus(**spec["init_args"])
    facts = ("vocab_size", "pad_id", "end_id", "tokenizer", "max_length", "stop_ids")
    assert [getattr(again, f) for f in facts] == [getattr(data, f) for f in facts]
    for module in (data, again):
        module.setup()
    assert stream(data, "test") == stream(again, "test")


def test_prompts(corpus, tmp_path) -> None:
    data = corpus(tokenizer="bpe", **stories(vocab_size=300))
    spec = data.inputs_spec()
    assert spec["class_path"] == "datamodules.PromptInputs"
    (tmp_path / "p.txt").write_text("a storm\nat sea\n")
    given = PromptInputs(inputs=["Ahoy! it's", str(tmp_path / "p.txt")], **spec["init_args"])
    assert given.prompts == ["Ahoy! it's", "a storm\nat sea\n"]
    assert not given.is_chat
    assert (given.vocab_size, given.stop_ids) == (data.vocab_size, data.stop_ids)
    for prompt in given.prompts:
        assert given.encode_prompt(prompt) == data.encode_prompt(prompt)
        assert given.decode(given.encode_prompt(prompt)) == prompt
    with pytest.raises(UserError, match=r"'no\.txt' does not exist"):
        PromptInputs(inputs=["no.txt"], **spec["init_args"])
    # Without inputs they are asked for later.
    assert PromptInputs(inputs=[], **spec["init_args"]).prompts == []


BAD = [
    ({"max_length": 10**5}, "max_length is 100000; .* do not fit into the"),
    ({"windows": "shuffled"}, "windows is 'shuffled'; give one of random, sequential"),
    ({"windows": "sequential", "windows_per_epoch": 3}, "windows_per_epoch is 3; leave it out"),
    (
        {"windows": "sequential", "batch_size": 1000},
        "batch_size is 1000; .* sequences of 16 tokens",
    ),
    ({"windows_per_epoch": 0}, "option windows_per_epoch is 0; give 1 or more"),
    ({"val_fraction": 0.5, "test_fraction": 0.5}, "would leave none to train on"),
    ({"tokenizer": "chars"}, "did you mean 'char'"),
    ({"tokenizer": "bpe", "vocab_size": 200}, "vocab_size is 200; give 258 or more"),
    ({"end_token": "</s>"}, "end_token is '</s>'; leave it out"),
    ({"document_separator": ""}, "document_separator is ''; give one"),
    ({"splits": {"train": "a.txt"}}, "splits is .*; give the folder"),
    ({"val_fraction": 0}, "val split is empty; give a larger val_fraction"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options(corpus, options: dict, message: str) -> None:
    def use() -> None:
        data = corpus(**options)
        data.setup()
        data.train_dataloader()

    with pytest.raises(UserError, match=message):
        use()


def test_bad_texts(corpus, tmp_path) -> None:
    with pytest.raises(UserError, match=r"stories\.txt' holds no text"):
        corpus(" \n\n ", **stories())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty' holds no texts; give a folder with \.txt files"):
        TextCorpus(str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"path is '\./nothing'; give a file or folder"):
        TextCorpus("./nothing")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\x81 au lait")
    with pytest.raises(UserError, match=r"is not text in UTF-8: byte 3 \(0x81\) in line 1"):
        TextCorpus(str(latin))


def test_a_run_goes_on_with_the_tokenizer_that_its_recipe_names(tmp_path) -> None:
    (tmp_path / "text.txt").write_text("|".join(f"to be {n} or not to be" for n in range(200)))
    path = str(tmp_path / "text.txt")
    first = TextCorpus(path, document_separator="|", tokenizer="byte", max_length=8)
    kept = first.resolved()["init_args"] | {"tokenizer": "byte"}
    assert kept["end_token"] == "[END]"
    assert TextCorpus(**kept).tokenizer == first.tokenizer
