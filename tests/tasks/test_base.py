"""What all tasks share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from datamodules import Digits
from zoo import MLP, ImageClassifier
from zoo.callbacks.train_log import TrainLog
from zoo.errors import NonFiniteLoss


def figures_of(trainer: L.Trainer) -> dict[str, float]:
    (log,) = [callback for callback in trainer.callbacks if isinstance(callback, TrainLog)]
    return {name: value for name, value in log.latest.items() if name.startswith("train/")}


@pytest.mark.parametrize("factor", [1.0, float("nan")])
def test_a_second_training_counts_anew(
    trainer: Callable[..., L.Trainer], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a loss of the first was not finite, and where it ended between two log points."""
    task = ImageClassifier(MLP(1, 10, image_size=8, widths=[8]), lr=0.0, weight_decay=0.0)
    data, options = Digits(batch_size=100), {"log_every_n_steps": 2, "limit_train_batches": 3}

    def loss(self: ImageClassifier, outputs: Any, targets: Tensor) -> Tensor:
        return 0 * outputs.sum() + 5 * factor

    with monkeypatch.context() as patch:
        patch.setattr(ImageClassifier, "total_loss", loss)
        if factor == 1:
            trainer(**options).fit(task, data)
        else:
            with pytest.raises(NonFiniteLoss):
                trainer(**options).fit(task, data)
    again, fresh = trainer(**options), trainer(**options)
    again.fit(task, data)
    same = ImageClassifier(MLP(1, 10, image_size=8, widths=[8]), lr=0.0, weight_decay=0.0)
    same.load_state_dict(task.state_dict())
    fresh.fit(same, data)
    assert figures_of(again) == figures_of(fresh)
    assert torch.isfinite(torch.tensor(list(figures_of(again).values()))).all()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, []),
        ({"loss": "cross_entropy", "mixup_alpha": 0.0}, []),
        ({"loss": "focal", "label_smoothing": 0.0}, ["loss"]),
        (
            {"label_smoothing": 0.1, "class_weights": [2.0] * 10, "cutmix_alpha": 1.0},
            ["label_smoothing", "class_weights", "cutmix_alpha"],
        ),
    ],
)
def test_options_that_change_the_training_loss_alone_are_known(
    options: dict[str, Any], names: list[str]
) -> None:
    task = ImageClassifier(MLP(1, 10, image_size=8, widths=[8]), **options)
    assert task.training_loss_options() == names


def test_auxiliary_heads_change_the_training_loss(trainer: Callable[..., L.Trainer]) -> None:
    class TwoHeads(MLP):
        def forward(self, x: Tensor) -> Any:
            logits = super().forward(x)
            return (logits, logits) if self.training else logits

    net = TwoHeads(1, 10, image_size=8, widths=[8])
    for weight, names in ((0.0, []), (0.3, ["aux_weight"])):
        task = ImageClassifier(net, aux_weight=weight)
        trainer(limit_train_batches=1, limit_val_batches=0).fit(task, Digits(batch_size=2))
        assert task.training_loss_options() == names


class Rates(L.Callback):
    """Keeps the rate of each step, and a checkpoint of each epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch + 1}.ckpt")


@pytest.mark.parametrize(
    ("schedule", "after", "epochs", "lr", "said"),
    [
        ("one_cycle", 2, 4, 0.01, "one_cycle now ends at step 20, not 10: "),
        ("step", 2, 4, 0.01, "step now ends at step 20, not 10: "),
        ("cosine", 1, 2, 0.5, ""),
        ("cosine", 1, 2, 0.01, None),
        ("constant", 2, 4, 0.01, None),
    ],
)
def test_a_run_that_goes_on_says_how_its_schedule_changes(
    trainer: Callable[..., L.Trainer],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    schedule: Any,
    after: int,
    epochs: int,
    lr: float,
    said: str | None,
) -> None:
    data, net = Digits(batch_size=256), MLP(1, 10, image_size=8, widths=[8])  # 5 steps an epoch
    first = ImageClassifier(net, lr=0.01, schedule=schedule)
    trainer(max_epochs=2, callbacks=[Rates(tmp_path)]).fit(first, data)
    path = tmp_path / f"{after}.ckpt"
    group = torch.load(path, weights_only=True)["optimizer_states"][0]["param_groups"][0]
    rates = Rates(tmp_path)
    capfd.readouterr()
    trainer(max_epochs=epochs, callbacks=[rates]).fit(
        ImageClassifier(net, lr=lr, schedule=schedule), data, ckpt_path=path, weights_only=True
    )
    goes_on = f"the learning rate goes on at {rates.seen[0]:.3g}"
    expected = [] if said is None else [f"{said}{goes_on}, where it had come to {group['lr']:.3g}"]
    assert [line for line in capfd.readouterr().out.splitlines() if "rate" in line] == expected
