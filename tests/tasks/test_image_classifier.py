from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_auroc

from datamodules import Digits
from zoo import GoogLeNet, ImageClassifier, ResNet
from zoo.callbacks.checkpoints import Checkpoints
from zoo.errors import NonFiniteLoss, UserError
from zoo.nets.googlenet import GoogLeNetOutputs


class Tiny(nn.Module):
    """A net that does not record how it was made."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(images).flatten(1))
        return logits


def trainer(folder: Path, **options: Any) -> L.Trainer:
    settings: dict[str, Any] = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 1,
        "callbacks": [Checkpoints()],
    }
    return L.Trainer(**{**settings, **options})


def test_whitening_filters_are_those_of_training_images_before_the_first_step(
    tmp_path: Path,
) -> None:
    """As in cifar10/speedrun, whose images it takes from the data module."""
    torch.manual_seed(0)
    data = Digits(batch_size=100, resident=True)
    net = ResNet(1, 10, whiten=True, activation="gelu", image_size=8)
    expected = deepcopy(net)

    class FirstFilters(L.Callback):
        seen: Tensor

        def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
            assert net.whitening is not None
            self.seen = net.whitening.weight.clone()

    first = FirstFilters()
    options: dict[str, Any] = {"optimizer": "muon", "weight_decay": 0.02}
    fit = trainer(tmp_path, max_steps=1, limit_val_batches=0, callbacks=[first])
    fit.fit(ImageClassifier(net, **options), data)
    assert expected.whitening is not None
    assert not torch.allclose(first.seen, expected.whitening.weight)
    expected.init_whitening(data.sample_images(5000))
    assert torch.equal(first.seen, expected.whitening.weight)
    assert net.whitening is not None
    assert torch.equal(first.seen, net.whitening.weight)


def test_whitening_needs_images_to_compute_it_from(tmp_path: Path) -> None:
    net = ResNet(1, 10, whiten=True, image_size=8)
    with pytest.raises(UserError, match="whiten is true; leave it out, or take a data module"):
        first_loss(tmp_path, net, torch.randn(4, 1, 8, 8), torch.arange(4))


def test_test_figures_are_those_of_the_whole_set(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task, data = ImageClassifier(Tiny()), Digits(batch_size=100)
    found = trainer(tmp_path).test(task, data, verbose=False)[0]
    task.eval()
    batches = [data.prepare_batch(b, training=False, epoch=0) for b in data.test_dataloader()]
    with torch.no_grad():
        logits = torch.cat([task(batch.image) for batch in batches])
    labels = torch.cat([batch.label for batch in batches])
    assert found["test/loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-6)
    accuracy = multiclass_accuracy(logits, labels, 10, average="micro")
    assert found["test/acc"] == pytest.approx(accuracy.item())
    assert found["test/auroc"] == pytest.approx(multiclass_auroc(logits.softmax(1), labels, 10))
    assert {"test/f1", "test/top5", "test/ece"} < found.keys()


def test_no_top5_for_five_classes() -> None:
    five, six = (
        ImageClassifier(Tiny(classes), num_classes=classes).build_metrics("test").keys()
        for classes in (5, 6)
    )
    assert "test/top5" not in five
    assert "test/top5" in six


class Recorder(ImageClassifier):
    """Keeps the losses that training sees."""

    losses: list[float]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.item())
        return loss


def first_loss(
    tmp_path: Path, net: nn.Module, images: Tensor, labels: Tensor, **options: Any
) -> float:
    task = Recorder(net, **options)
    task.losses = []
    loader = DataLoader(TensorDataset(images, labels), batch_size=len(labels))
    trainer(tmp_path, callbacks=[]).fit(task, loader)
    return task.losses[0]


def test_loss_is_cross_entropy_with_smoothing_and_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, images, labels = Tiny(4), torch.randn(12, 1, 8, 8), torch.arange(12) % 4
    with torch.no_grad():
        logits = deepcopy(net)(images)
    weights = [1.0, 2.0, 3.0, 4.0]
    own = torch.tensor(weights)[labels]  # torch's `weight` acts on the smoothing too
    losses = F.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none")
    expected = (own * losses).sum() / own.sum()
    found = first_loss(
        tmp_path, net, images, labels, label_smoothing=0.2, class_weights=weights, num_classes=4
    )
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_auxiliary_heads_add_their_weighted_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    head, first, second = torch.randn(3, 6, 4).unbind(0)
    labels = torch.arange(6) % 4

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, images: Tensor) -> GoogLeNetOutputs:
            return GoogLeNetOutputs(head * self.scale, second * self.scale, first * self.scale)

    parts = [F.cross_entropy(logits, labels).item() for logits in (head, first, second)]
    images = torch.zeros(6, 1, 8, 8)
    found = first_loss(tmp_path, Fixed(), images, labels, num_classes=4, aux_weight=0.25)
    assert found == pytest.approx(parts[0] + 0.25 * (parts[1] + parts[2]), rel=1e-5)


@pytest.mark.parametrize("options", [{"mixup_alpha": 1.0}, {"cutmix_alpha": 1.0}])
def test_mixing_changes_the_targets(tmp_path: Path, options: dict[str, float]) -> None:
    """The loss of a mixed batch is that of torchvision's own mixing with the step's seed."""
    torch.manual_seed(0)
    net, images, labels = Tiny(), torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    plain = F.cross_entropy(deepcopy(net)(images), labels).item()
    mixed = first_loss(tmp_path, deepcopy(net), images, labels, **options)
    assert mixed != pytest.approx(plain, rel=1e-4)
    assert mixed == first_loss(tmp_path, deepcopy(net), images, labels, **options)


def test_a_checkpoint_made_in_python_rebuilds_its_net(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = ImageClassifier(GoogLeNet(1, 10, image_size=8, dropout=0.25), optimizer="sgd", lr=0.05)
    fit = trainer(tmp_path, limit_train_batches=2)
    fit.fit(task, Digits(batch_size=100))
    path = str(tmp_path / "checkpoints" / "last.ckpt")
    again = ImageClassifier.load_from_checkpoint(path)
    general = L.LightningModule.load_from_checkpoint(path, weights_only=True)
    images = torch.randn(4, 1, 8, 8)
    for found in (again, general):
        assert isinstance(found, ImageClassifier)
        assert torch.equal(found.eval()(images), task.eval()(images))
        assert (found.lr, found.optimizer_name) == (0.05, "sgd")
    assert again.net._hub_mixin_config["dropout"] == 0.25


def test_a_foreign_net_is_handed_in_again(tmp_path: Path) -> None:
    task = ImageClassifier(Tiny(), lr=0.05)
    trainer(tmp_path, limit_train_batches=2).fit(task, Digits(batch_size=100))
    path = str(tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match="net="):
        ImageClassifier.load_from_checkpoint(path)
    again = ImageClassifier.load_from_checkpoint(path, net=Tiny())
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(again.eval()(images), task.eval()(images))
    assert again.lr == 0.05


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    class Broken(Tiny):
        calls = 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += self.training
            return super().forward(images) * (float("nan") if self.calls == 4 else 1.0)

    fit = trainer(tmp_path, log_every_n_steps=100)
    with pytest.raises(NonFiniteLoss, match="train/loss is not finite at step 4"):
        fit.fit(ImageClassifier(Broken()), Digits(batch_size=100))
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_label_outside_the_classes_is_named(tmp_path: Path) -> None:
    labels = torch.tensor([0, 1, 7, 2])
    with pytest.raises(UserError, match="label 7"):
        first_loss(tmp_path, Tiny(4), torch.randn(4, 1, 8, 8), labels, num_classes=4)


def test_this_runs_lr_wins_over_the_checkpoints(tmp_path: Path) -> None:
    """Lightning restores the old rate and decay with the optimiser's state."""

    class Rates(L.Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[float, float]] = []

        def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
            group = trainer.optimizers[0].param_groups[0]
            self.seen.append((group["lr"], group["weight_decay"]))

    data = Digits(batch_size=400)  # 4 steps an epoch
    options: dict[str, Any] = {"schedule": "linear", "warmup_steps": 0}
    first = ImageClassifier(Tiny(), lr=0.1, weight_decay=0.5, **options)
    trainer(tmp_path, max_epochs=1).fit(first, data)
    path = str(tmp_path / "checkpoints" / "last.ckpt")
    rates = Rates()
    second = ImageClassifier(Tiny(), lr=0.4, weight_decay=0.25, **options)
    trainer(tmp_path, max_epochs=2, callbacks=[rates]).fit(
        second, Digits(batch_size=400), ckpt_path=path, weights_only=True
    )
    total, done = 2 * len(rates.seen), len(rates.seen)
    expected = [0.4 * (1 - (done + k) / total) for k in range(done)]
    assert [lr for lr, _ in rates.seen] == pytest.approx(expected)
    assert {decay for _, decay in rates.seen} == {0.25}


def test_another_optimizer_cannot_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    data = Digits(batch_size=400)
    trainer(tmp_path).fit(ImageClassifier(Tiny(), optimizer="adamw"), data)
    path = str(tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match="'adamw'"):
        trainer(tmp_path, max_epochs=2).fit(
            ImageClassifier(Tiny(), optimizer="muon"), data, ckpt_path=path, weights_only=True
        )


def test_the_average_is_what_is_saved(tmp_path: Path) -> None:
    task = ImageClassifier(Tiny(), ema_decay=0.5, lr=0.1)
    trainer(tmp_path, limit_train_batches=3).fit(task, Digits(batch_size=100))
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    name = "net.head.weight"
    assert not torch.equal(saved["state_dict"][name], saved["current_model_state"][name])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"lr": -1.0}, "lr"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"ema_decay": 1.5}, "ema_decay"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"mixup_alpha": -0.1}, "mixup_alpha"),
        ({"class_weights": [1.0, 2.0]}, "class_weights"),
        ({"class_weights": [-1.0] * 10}, "class_weights"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ImageClassifier(Tiny(), **options)


def test_classes_have_to_be_known() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        ImageClassifier(nn.Linear(2, 2))


def test_a_schedule_needs_an_end(tmp_path: Path) -> None:
    fit = trainer(tmp_path, max_epochs=-1, max_steps=-1)
    with pytest.raises(UserError, match="max_epochs"):
        fit.fit(ImageClassifier(Tiny(), schedule="cosine"), Digits(batch_size=100))


@pytest.mark.parametrize("labels", [torch.tensor([2]), torch.tensor([[1, 0, 1]])])
def test_a_split_of_one_sample(labels: Tensor, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.copy_(torch.tensor([1.0, -1.0, 2.0]))  # says 2, or 0 and 2
    kind = "multilabel" if labels.ndim == 2 else "multiclass"
    task = ImageClassifier(net, num_classes=3, label_kind=kind)
    loader = DataLoader(TensorDataset(torch.ones(1, 1, 2, 2), labels), batch_size=4)
    trainer = L.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    (figures,) = trainer.test(task, loader, verbose=False)
    assert figures["test/acc"] == 1
    assert figures["test/f1"] == 1
