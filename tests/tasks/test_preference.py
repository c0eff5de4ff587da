"""DPO: the loss, the base model's part in it, figures, and what is refused."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.core.protocols import IGNORE_INDEX
from datamodules.language.batch import TokenBatch
from zoo import GPT, PreferenceTuning
from zoo.callbacks.train_log import TrainLog
from zoo.errors import UserError
from zoo.metrics.intervals import wilson
from zoo.nets import PretrainedCausalLM

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

BETA = 0.3


def make_net(folder: Path, *, trained: bool = True, **options: Any) -> PretrainedCausalLM:
    torch.manual_seed(0)
    net = PretrainedCausalLM(str(folder), lora=True, lora_rank=2, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad and trained:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net


def draw_pairs(count: int, length: int = 12) -> TokenBatch:
    """Pairs whose answers begin at the same place and end at different ones."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(3, 300, (2 * count, length + 1), generator=generator)
    ends = torch.randint(6, length + 1, (2 * count,), generator=generator)
    place = torch.arange(length)
    labels = rows[:, 1:].masked_fill((place < 4) | (place >= ends[:, None]), IGNORE_INDEX)
    tokens = rows[:, :-1].masked_fill(place > ends[:, None], 0)
    tokens[count:, :4] = tokens[:count, :4]
    return TokenBatch(tokens, labels, torch.arange(2 * count))


def log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each token by itself, ``(2 B, T)``."""
    found = logits.log_softmax(dim=-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return found * (labels != IGNORE_INDEX)


def restated_trl(policy: Tensor, base: Tensor, loss_type: str, smoothing: float) -> Tensor:
    """The loss of each pair in the words of trl's DPOTrainer."""
    policy_chosen_logps, policy_rejected_logps = policy.chunk(2)
    ref_chosen_logps, ref_rejected_logps = base.chunk(2)
    logratios = policy_chosen_logps - policy_rejected_logps
    ref_logratios = ref_chosen_logps - ref_rejected_logps
    logits = logratios - ref_logratios
    if loss_type == "ipo":
        return (logits - 1 / (2 * BETA)) ** 2
    return -F.logsigmoid(BETA * logits) * (1 - smoothing) - F.logsigmoid(-BETA * logits) * smoothing


@pytest.mark.parametrize(("loss", "smoothing"), [("sigmoid", 0.0), ("sigmoid", 0.2), ("ipo", 0.0)])
@pytest.mark.parametrize("plain_head", [True, False])
def test_loss_and_gradient_are_trls(tiny_llama, monkeypatch, loss, smoothing, plain_head):
    net = make_net(tiny_llama)
    net._plain_head = plain_head
    monkeypatch.setattr("zoo.losses.tokens.MOST_LOGITS", 300 * 5)  # several pieces
    task = PreferenceTuning(net, beta=BETA, loss=loss, label_smoothing=smoothing)
    batch = draw_pairs(3)
    compared = task.compare(batch, label_smoothing=smoothing)
    trained = [p for p in net.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(compared.losses.sum(), trained)

    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama)
    sums = []
    for logits in (net(batch.tokens), base(batch.tokens).logits.detach()):
        tokens = log_probs(logits, batch.labels)
        counts = (batch.labels != IGNORE_INDEX).sum(dim=1)
        sums.append(tokens.sum(dim=1) / (counts if loss == "ipo" else 1))
    expected = restated_trl(*sums, loss, smoothing).sum()
    torch.testing.assert_close(compared.losses.sum(), expected, rtol=1e-5, atol=1e-5)
    gains = sums[0] - sums[1]
    torch.testing.assert_close(compared.margins, (BETA * (gains[:3] - gains[3:])).detach())
    wanted = torch.autograd.grad(expected, trained)
    for got, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_by_hand(tiny_llama):
    """One pair whose log-probabilities are given: m = 0.3 * ((-1 + 2) - (-4 + 3)) = 0.6."""
    task = PreferenceTuning(make_net(tiny_llama), beta=BETA)
    answers = iter([torch.tensor([-2.0, -3.0]), torch.tensor([-1.0, -4.0])])  # base, then net
    task._log_probs = lambda batch: next(answers)  # type: ignore[method-assign]
    compared = task.compare(draw_pairs(1))
    assert compared.margins.tolist() == pytest.approx([0.6])
    assert float(compared.losses.sum().detach()) == pytest.approx(math.log(1 + math.exp(-0.6)))


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_an_untrained_adapter_prefers_nothing(tiny_llama, loss):
    net = make_net(tiny_llama, trained=False, lora_dropout=0.5)
    task = PreferenceTuning(net, beta=BETA, loss=loss)
    compared = task.compare(draw_pairs(3))
    expected = math.log(2) if loss == "sigmoid" else (1 / (2 * BETA)) ** 2
    assert float(compared.losses.sum().detach()) == pytest.approx(3 * expected, rel=1e-5)
    assert compared.margins.abs().max() < 1e-5
    assert all(module.training for module in net.modules())
    assert any(p.requires_grad for p in net.parameters())


def split(batch: TokenBatch, count: int) -> list[TokenBatch]:
    """The same pairs as several batches."""
    halves = [[half.chunk(count) for half in part.chunk(2)] for part in batch[:3]]
    return [
        TokenBatch(*(torch.cat([chosen[n], rejected[n]]) for chosen, rejected in halves))
        for n in range(count)
    ]


def test_accumulated_batches_have_the_gradient_of_one_big_batch(tiny_llama, trainer):
    batch = draw_pairs(4)
    seen, losses = [], []

    class Watched(PreferenceTuning):
        def on_before_optimizer_step(self, optimizer):
            super().on_before_optimizer_step(optimizer)
            seen.append([p.grad.clone() for p in self.net.parameters() if p.requires_grad])

    for count in (1, 4):
        task = Watched(make_net(tiny_llama), beta=BETA, lr=0.0, sample_tokens=0)
        runner = trainer(accumulate_grad_batches=count)
        runner.fit(task, torch.utils.data.DataLoader(split(batch, count), batch_size=None))
        log = next(c for c in runner.callbacks if isinstance(c, TrainLog))
        losses.append(log.latest["train/loss_epoch"])
        assert {"train/reward_accuracy_epoch", "train/reward_margin_epoch"} <= set(log.latest)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    net = make_net(tiny_llama)
    mean = PreferenceTuning(net, beta=BETA).compare(batch).losses.sum() / 4
    wanted = torch.autograd.grad(mean, [p for p in net.parameters() if p.requires_grad])
    for gradients in seen:
        for got, want in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)


def test_learns_what_is_preferred_and_leaves_the_base_alone(tiny_llama, trainer):
    batch = draw_pairs(4)
    net = make_net(tiny_llama, trained=False)
    base = {n: copy.deepcopy(p) for n, p in net.named_parameters() if not p.requires_grad}
    task = PreferenceTuning(net, beta=BETA, lr=0.02, schedule="constant", sample_tokens=0)
    loader = torch.utils.data.DataLoader([batch] * 20, batch_size=None)
    held = torch.utils.data.DataLoader(split(batch, 2), batch_size=None)
    runner = trainer(max_epochs=1)
    runner.fit(task, loader)
    (figures,) = runner.validate(task, held, verbose=False)
    assert set(figures) == {"val/loss", "val/reward_accuracy", "val/reward_margin"}
    assert figures["val/reward_accuracy"] == 1.0
    assert figures["val/reward_margin"] > 0.5
    compared = task.compare(batch)
    assert figures["val/loss"] == pytest.approx(float(compared.losses.sum().detach()) / 4, rel=1e-4)
    assert figures["val/reward_margin"] == pytest.approx(float(compared.margins.mean()), rel=1e-4)
    (figures,) = runner.test(task, held, verbose=False)
    found = task.test_intervals
    assert found is not None
    assert found.samples == 4
    assert found.of["reward_accuracy"] == wilson(1.0, 4)
    assert found.of["loss"].low < figures["test/loss"] < found.of["loss"].high
    spread = found.of["reward_margin"]
    assert compared.margins.min() <= spread.low < spread.high <= compared.margins.max()
    for name, parameter in net.named_parameters():
        if name in base:
            assert torch.equal(parameter, base[name])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beta": 0.0}, r"beta is 0\.0; give a number above 0"),
        ({"loss": "hinge"}, "loss is 'hinge'; give one of sigmoid, ipo"),
        ({"label_smoothing": 0.5}, r"label_smoothing is 0\.5; give less than 0\.5"),
        (
            {"loss": "ipo", "label_smoothing": 0.1},
            r"label_smoothing is 0\.1; leave it out with loss ipo, as it belongs to sigmoid",
        ),
        ({"z_loss": 0.1}, r"z_loss is 0\.1; leave it out, as it means nothing to preferences"),
    ],
)
def test_refuses_what_does_not_fit(tiny_llama, options, said):
    with pytest.raises(ValueError, match=said):
        PreferenceTuning(make_net(tiny_llama), **options)


def test_refuses_a_net_without_an_adapter_and_data_without_pairs(tiny_llama):
    for net in (PretrainedCausalLM(str(tiny_llama)), GPT(20, 8, embedding_dim=8, num_heads=2)):
        with pytest.raises(ValueError, match="take PretrainedCausalLM with lora: true"):
            PreferenceTuning(net)
    task = PreferenceTuning(make_net(tiny_llama))
    batch = draw_pairs(2)
    odd = TokenBatch(*(part[:3] for part in batch[:3]))
    packed = batch._replace(segment_ids=torch.zeros_like(batch.tokens))
    for wrong in (odd, packed):
        with pytest.raises(UserError, match="not pairs of answers; take the data module Preferenc"):
            task.compare(wrong)
