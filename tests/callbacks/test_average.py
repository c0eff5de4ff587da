"""The moving average of the weights: its values, its place, its cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from zoo import GPT, GoogLeNet, ImageClassifier, LanguageModel
from zoo.callbacks.average import WeightAverage


class Tied(nn.Module):
    """A batch norm, and one weight under two names."""

    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.norm(self.first(images.flatten(1))))
        return logits


def data(count: int = 96) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 1, 2, 2, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(count) % 4), batch_size=8)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


class Watch(L.Callback):
    """What is in the net after each step, in validation, and at the start of the next step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []
        self.started: list[dict[str, Tensor]] = []
        self.saved: dict[str, Any] = {}

    def on_train_batch_start(self, trainer: L.Trainer, task: Any, *args: Any) -> None:
        self.started.append(state_of(task))

    def on_train_batch_end(self, trainer: L.Trainer, task: Any, *args: Any) -> None:
        if trainer.global_step > len(self.steps):
            self.steps.append(state_of(task))

    def on_validation_batch_start(self, trainer: L.Trainer, task: Any, *args: Any) -> None:
        self.validated.append(state_of(task))
        path = Path(trainer.default_root_dir) / "within.ckpt"
        trainer.save_checkpoint(path)
        self.saved = torch.load(path, weights_only=True)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
def test_it_averages_weights_and_keeps_buffers(trainer: Callable[..., L.Trainer], precision: str):
    torch.manual_seed(0)
    watch, decay = Watch(), 0.5
    fit = trainer(accumulate_grad_batches=2, callbacks=[watch], precision=precision)
    task = ImageClassifier(Tied(), ema_decay=decay, lr=0.1, schedule="constant")
    fit.fit(task, data(), DataLoader(data().dataset, batch_size=96))
    assert len(watch.steps) == 6
    expected = {name: value.double() for name, value in watch.steps[0].items()}
    for before, state in enumerate(watch.steps[1:], start=1):
        share = min(decay, (1 + before) / (10 + before))
        for name, value in state.items():
            expected[name] = share * expected[name] + (1 - share) * value.double()
    live = watch.steps[-1]
    (validated,) = watch.validated
    weights = {name for name, _ in task.named_parameters(remove_duplicate=False)}
    assert {"net.first.weight", "net.last.weight"} < weights < set(live)
    for name, value in live.items():
        average = expected[name] if name in weights else value
        torch.testing.assert_close(validated[name], average.to(value.dtype))
        torch.testing.assert_close(task.state_dict()[name], average.to(value.dtype))
        # Also a file that is saved while the average is in the weights' place has both.
        torch.testing.assert_close(watch.saved["current_model_state"][name], value)
        wide = torch.promote_types(value.dtype, torch.float32) if name in weights else value.dtype
        torch.testing.assert_close(watch.saved["state_dict"][name], average.to(wide))


def test_training_does_not_see_it(trainer: Callable[..., L.Trainer]) -> None:
    runs = []
    for decay in (None, 0.9):
        torch.manual_seed(0)
        watch = Watch()
        fit = trainer(callbacks=[watch], max_epochs=2, num_sanity_val_steps=1)
        fit.fit(ImageClassifier(Tied(), ema_decay=decay, lr=0.1), data(), data(16))
        runs.append(watch.started)
    assert len(runs[0]) == 24
    for plain, averaged in zip(*runs, strict=True):
        assert all(torch.equal(plain[name], averaged[name]) for name in plain)


def test_an_error_in_validation_leaves_the_trained_weights(trainer: Callable[..., L.Trainer]):
    class Broken(Watch):
        def on_validation_batch_start(self, trainer: L.Trainer, task: Any, *args: Any) -> None:
            raise RuntimeError("broken")

    watch, task = Broken(), ImageClassifier(Tied(), ema_decay=0.9, lr=0.1)
    with pytest.raises(RuntimeError, match="broken"):
        trainer(callbacks=[watch]).fit(task, data(), data())
    for name, value in task.state_dict().items():
        assert torch.equal(value, watch.steps[-1][name])


def test_a_step_costs_one_call(trainer: Callable[..., L.Trainer]) -> None:
    """A call for each of GoogLeNet's 198 weights and 147 buffers is what it could cost."""

    class Calls(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            self.names.append(func.name())
            return func(*args, **(kwargs or {}))

    task, average = ImageClassifier(GoogLeNet(1, 10)), WeightAverage(0.9)
    fit = trainer()
    fit.strategy.connect(task)
    average.on_fit_start(fit, task)
    fit.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = 3
    assert fit.global_step == 3
    with Calls() as calls:
        average.on_train_batch_end(fit, task, None, None, 0)
    assert calls.names == ["aten::_foreach_lerp_.Scalar"]


def test_samples_are_written_with_the_weights_that_are_saved(trainer, tmp_path):
    from datamodules import TextCorpus

    (tmp_path / "corpus.txt").write_text("to be or not to be, that is the question. " * 60)
    text = TextCorpus(
        path=str(tmp_path / "corpus.txt"),
        tokenizer="char",
        max_length=16,
        batch_size=8,
        windows_per_epoch=48,
        val_fraction=0.1,
        test_fraction=0.1,
    )
    torch.manual_seed(0)
    net = GPT(text.vocab_size, 16, embedding_dim=16, num_layers=1, num_heads=2)
    task = LanguageModel(net, ema_decay=0.9, lr=0.1, prompts=["to"], sample_tokens=4)
    wrote, write = [], task.write

    def watched(*args: Any, **kwargs: Any) -> Any:
        wrote.append(state_of(task))
        return write(*args, **kwargs)

    task.write = watched
    fit = trainer()
    fit.fit(task, text)
    (used,) = wrote
    for name, value in task.state_dict().items():  # the average, after training
        assert torch.equal(used[name], value)
