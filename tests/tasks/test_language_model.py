"""Language modelling: the loss of an optimiser step, figures, and what is carried on."""

import csv
import math
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datamodules import TextCorpus
from datamodules.core.protocols import IGNORE_INDEX
from datamodules.language.batch import TokenBatch
from zoo import GPT, LanguageModel, RNNLanguageModel
from zoo.callbacks.train_log import TrainLog
from zoo.errors import UserError
from zoo.losses.tokens import MOST_LOGITS
from zoo.metrics.intervals import weights_of
from zoo.optim.muon import MuonAdamW

VOCAB, LENGTH = 12, 10


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Builds a corpus of counting, which is quickly learned."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{number} " for number in range(2000)), encoding="utf-8")

    def make(**options: Any) -> TextCorpus:
        settings = {"tokenizer": "char", "max_length": 16, "batch_size": 8, "windows_per_epoch": 64}
        return TextCorpus(str(path), **{**settings, **options})

    return make


def gpt(vocab_size: int = VOCAB, length: int = LENGTH, **options: Any) -> GPT:
    torch.manual_seed(0)
    net = GPT(vocab_size, length, embedding_dim=16, num_layers=2, num_heads=2, **options)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def uneven_batch(rows: int) -> TokenBatch:
    """Rows of very unequal length."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, VOCAB, (rows, LENGTH + 1), generator=generator)
    labels = tokens[:, 1:].clone()
    for row in range(rows):
        labels[row, 1 + row * row % LENGTH :] = IGNORE_INDEX
    return TokenBatch(tokens[:, :-1], labels, torch.arange(rows))


def parts(batch: TokenBatch, count: int) -> list[TokenBatch]:
    pieces = [part.chunk(count) for part in batch[:3]]
    return [TokenBatch(*each) for each in zip(*pieces, strict=True)]


def test_accumulated_batches_have_the_gradient_of_one_big_batch(trainer):
    batch = uneven_batch(32)
    net = gpt()
    expected = F.cross_entropy(net(batch.tokens).flatten(0, 1), batch.labels.flatten())
    wanted = torch.autograd.grad(expected, list(net.parameters()))
    seen: list[dict[str, torch.Tensor]] = []

    class Watched(LanguageModel):
        def on_before_optimizer_step(self, optimizer):
            super().on_before_optimizer_step(optimizer)
            seen.append({name: p.grad.clone() for name, p in self.net.named_parameters()})

    for count in (1, 4):
        task = Watched(gpt(), lr=0.0, sample_tokens=0)
        runner = trainer(accumulate_grad_batches=count)
        runner.fit(task, torch.utils.data.DataLoader(parts(batch, count), batch_size=None))
        log = next(c for c in runner.callbacks if isinstance(c, TrainLog))
        assert log.latest["train/loss_epoch"] == pytest.approx(float(expected.detach()), abs=1e-6)
    assert len(seen) == 2
    for gradients in seen:
        for got, want in zip(gradients.values(), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_the_last_step_of_an_epoch_may_have_fewer_batches(trainer):
    batches = parts(uneven_batch(32), 4)[:3]
    tokens, labels = (torch.cat([getattr(b, n) for b in batches[2:]]) for n in ("tokens", "labels"))
    net = gpt()
    expected = F.cross_entropy(net(tokens).flatten(0, 1), labels.flatten())
    wanted = torch.autograd.grad(expected, list(net.parameters()))
    seen = []

    class Watched(LanguageModel):
        def on_before_optimizer_step(self, optimizer):
            super().on_before_optimizer_step(optimizer)
            seen.append([p.grad.clone() for p in self.net.parameters()])

    task = Watched(gpt(), lr=0.0, sample_tokens=0)
    runner = trainer(accumulate_grad_batches=2)
    runner.fit(task, torch.utils.data.DataLoader(batches, batch_size=None))
    assert len(seen) == 2
    for got, want in zip(seen[1], wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


class Bigrams(nn.Module):
    """The least net that has an output layer."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 4)
        self.output_layer = nn.Linear(4, vocab_size, bias=False)

    def features(self, tokens, position_ids=None, segment_ids=None, shared_prefix_len=0):
        return self.embedding(tokens)

    def forward(self, tokens):
        return self.output_layer(self.features(tokens))


def test_half_precision_has_the_figures_of_full_precision(trainer):
    torch.manual_seed(0)
    net, tokens = Bigrams(512), torch.randint(0, 512, (64, 521))
    places = tokens[:, :-1]
    assert places.numel() * 512 > MOST_LOGITS
    with torch.no_grad():
        exact = F.cross_entropy(net(places).flatten(0, 1), tokens[:, 1:].flatten()).item()
    batch = TokenBatch(places, tokens[:, 1:], torch.arange(64))
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    task = LanguageModel(net, lr=0.0, sample_tokens=0)
    runner = trainer(precision="bf16-mixed")
    runner.fit(task, loader, loader)
    log = next(c for c in runner.callbacks if isinstance(c, TrainLog))
    found = {name: log.latest[name] for name in ("train/loss_epoch", "val/loss")}
    found |= runner.test(task, loader, verbose=False)[0]
    for name in ("train/loss_epoch", "val/loss", "test/loss"):
        assert found[name] == pytest.approx(exact, rel=1e-3), name


def test_figures_are_of_all_tokens_once(trainer, corpus):
    data = corpus(batch_size=5)
    task = LanguageModel(gpt(data.vocab_size, data.max_length), sample_tokens=0)
    (figures,) = trainer().validate(task, data, verbose=False)
    store = data.split("val").store
    text = torch.from_numpy(store.tokens[:].astype("int64"))
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(text) - 1, data.max_length):
            piece = text[start : start + data.max_length + 1]
            logits = task.net(piece[None, :-1])[0]
            total += float(F.cross_entropy(logits, piece[1:], reduction="sum"))
            count += len(piece) - 1
    assert figures["val/loss"] == pytest.approx(total / count, rel=1e-5)
    assert figures["val/perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    # a character is a token, and a byte
    for size in ("char", "byte"):
        assert figures[f"val/bits_per_{size}"] == pytest.approx(
            total / count / math.log(2), rel=1e-5
        )


def test_a_tests_figures_have_intervals_over_its_windows(trainer, corpus):
    """Of the figures that a plain bootstrap finds; of one window nothing can be said."""
    data = corpus(batch_size=5, test_fraction=0.1)
    task = LanguageModel(gpt(data.vocab_size, data.max_length), sample_tokens=0)
    (figures,) = trainer().test(task, data, verbose=False)
    text = torch.from_numpy(data.split("test").store.tokens[:].astype("int64"))
    pieces = [text[n : n + data.max_length + 1] for n in range(0, len(text) - 1, data.max_length)]
    with torch.no_grad():
        losses = [
            F.cross_entropy(task.net(piece[None, :-1])[0], piece[1:], reduction="sum").double()
            for piece in pieces
        ]
    tokens = torch.tensor([float(len(piece) - 1) for piece in pieces])
    summed = torch.stack(losses)
    assert figures["test/loss"] == pytest.approx(float(summed.sum() / tokens.sum()), rel=1e-5)
    found = task.test_intervals
    assert found is not None
    assert (found.samples, found.resamples) == (len(pieces), 1000)
    (weights,) = map(torch.from_numpy, weights_of(len(pieces), 1000, 0))
    resampled = (weights @ summed) / (weights @ tokens.double())
    low, high = resampled.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    for name, of in {
        "loss": lambda loss: loss,
        "perplexity": math.exp,
        "bits_per_byte": lambda loss: loss / math.log(2),
        "bits_per_char": lambda loss: loss / math.log(2),
    }.items():
        interval = found.of[name]
        assert interval[:2] == pytest.approx([of(low), of(high)], rel=1e-3), name
        assert interval.low < figures[f"test/{name}"] < interval.high
    alone = LanguageModel(gpt(data.vocab_size, data.max_length), sample_tokens=0)
    trainer(limit_test_batches=1).test(alone, corpus(batch_size=1), verbose=False)
    assert alone.test_intervals is not None
    assert not alone.test_intervals.of


def test_it_learns_and_shows_what_it_writes(trainer, corpus, capsys, tmp_path):
    data = corpus()
    task = LanguageModel(
        gpt(data.vocab_size, data.max_length), lr=0.02, sample_tokens=8, prompts=["12 13 ", "9"]
    )
    runner = trainer(max_epochs=3)
    before = runner.validate(task, data, verbose=False)[0]["val/loss"]
    runner.fit(task, data)
    assert float(runner.callback_metrics["val/loss"]) < before - 0.2
    rows = list(csv.reader((tmp_path / "samples.csv").open(encoding="utf-8")))
    assert rows[0] == ["step", "prompt", "text"]
    assert [row[:2] for row in rows[1:]] == [
        [str(step), prompt] for step in (8, 16, 24) for prompt in ("12 13 ", "9")
    ]
    assert all(len(row[2]) == 8 for row in rows[1:])
    printed = capsys.readouterr().out
    assert printed.count("sample:") == 6
    assert rows[-1][2].rstrip() in printed


class SavedAt(L.Callback):
    """Saves a checkpoint at a step."""

    def __init__(self, step: int, path: str) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_a_carried_state_is_taken_up_where_a_run_goes_on(trainer, corpus, tmp_path):
    path = str(tmp_path / "stop.ckpt")

    def run(**options: Any) -> LanguageModel:
        data = corpus(windows="sequential", windows_per_epoch=None)
        torch.manual_seed(0)
        net = RNNLanguageModel(data.vocab_size, embedding_dim=8, hidden_size=8, dropout=0.2)
        task = LanguageModel(net, carry_state=True, sample_tokens=0, schedule="constant")
        runner = trainer(max_steps=7, callbacks=[SavedAt(3, path)])
        runner.fit(task, data, weights_only=True, **options)
        return task

    whole = run()
    resumed = run(ckpt_path=path)
    for one, other in zip(whole.net.parameters(), resumed.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_carried_state_lowers_the_loss_of_evaluation(trainer, corpus):
    data = corpus(windows="sequential", windows_per_epoch=None, max_length=2, batch_size=32)
    torch.manual_seed(0)
    net = RNNLanguageModel(data.vocab_size, embedding_dim=24, hidden_size=24, num_layers=1)
    task = LanguageModel(net, carry_state=True, sample_tokens=0, lr=0.01)
    trainer(max_epochs=2).fit(task, data)
    losses = []
    for carry in (True, False):
        task.carry_state = carry
        losses.append(trainer().test(task, data, verbose=False)[0]["test/loss"])
    assert losses[0] < losses[1] - 0.05


def test_muon_takes_the_matrices_within_the_net(trainer, corpus):
    data = corpus()
    net = gpt(data.vocab_size, data.max_length)
    runner = trainer(max_steps=1)
    runner.fit(LanguageModel(net, optimizer="muon", sample_tokens=0), data)
    optimizer = runner.optimizers[0]
    assert isinstance(optimizer, MuonAdamW)
    by_muon = {id(p) for g in optimizer.param_groups if g["muon"] for p in g["params"]}
    names = {name for name, p in net.named_parameters() if id(p) in by_muon}
    matrices = {n for n, p in net.named_parameters() if p.ndim == 2}
    assert names == matrices - {"embedding.weight", "head.weight"}


def test_tokens_that_the_net_does_not_know(trainer, corpus):
    data = corpus()
    task = LanguageModel(gpt(5, data.max_length), sample_tokens=0)
    with pytest.raises(UserError, match=r"token 1\d, but the net's vocab_size is 5"):
        trainer().fit(task, data)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"z_loss": -1.0}, "z_loss is -1.0"),
        ({"carry_state": True}, "GPT has no state to carry"),
        ({"sample_tokens": -1}, "sample_tokens is -1"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        LanguageModel(gpt(), **options)
