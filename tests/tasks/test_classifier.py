"""Label kinds, calibration and the refusal of probabilities."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules import SyntheticCellTypes
from zoo import ImageClassifier
from zoo.callbacks.checkpoints import Checkpoints
from zoo.errors import UserError


class Linear(nn.Module):
    def __init__(self, classes: int, *, last: nn.Module | None = None) -> None:
        super().__init__()
        self.num_classes = classes
        self.fc = nn.Linear(16, classes)
        self.last = last or nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.fc(images.flatten(1)))


def noisy(count: int, seed: int) -> DataLoader:
    """Two classes that overlap, with a fifth of the labels wrong: nobody can be sure of them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=generator)
    images = torch.randn(count, 1, 4, 4, generator=generator) + 0.5 * labels[:, None, None, None]
    wrong = torch.rand(count, generator=generator) < 0.2
    return DataLoader(TensorDataset(images, torch.where(wrong, 1 - labels, labels)), batch_size=64)


def over_trained(trainer: Any, **options: Any) -> tuple[ImageClassifier, Any]:
    """Trained far beyond what 60 samples teach, hence much too sure."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 2))
    task = ImageClassifier(net, num_classes=2, lr=0.01, weight_decay=0.0, schedule="constant")
    runner = trainer(max_epochs=150, check_val_every_n_epoch=150, **options)
    runner.fit(task, noisy(60, 0), noisy(500, 1))
    return task, runner


def test_temperature_calibrates_and_changes_no_prediction(trainer):
    task, runner = over_trained(trainer)
    assert task.temperature > 1.5
    (found,) = runner.test(task, noisy(500, 2), verbose=False)
    assert found["test/ece_scaled"] < 0.5 * found["test/ece"]
    assert found["test/nll_scaled"] < found["test/loss"]
    assert found["test/entropy_scaled"] > found["test/entropy"]
    assert found["test/temperature"] == pytest.approx(task.temperature)
    images = next(iter(noisy(500, 2)))[0]
    logits = task(images)
    scaled = task.predict_step((images,), 0)["probabilities"]
    torch.testing.assert_close(scaled, (logits / task.temperature).softmax(1))
    assert torch.equal(scaled.argmax(1), logits.argmax(1))


def test_scaled_figures_are_those_of_scaled_logits(trainer):
    task, runner = over_trained(trainer)
    test = noisy(500, 2)
    (found,) = runner.test(task, test, verbose=False)
    with torch.no_grad():
        logits = torch.cat([task(images) for images, _ in test])
    labels = torch.cat([labels for _, labels in test])
    for suffix, temperature in (("", 1.0), ("_scaled", task.temperature)):
        probabilities = (logits / temperature).double().softmax(1)
        name = f"test/nll{suffix}" if suffix else "test/loss"
        expected = log_loss(labels, probabilities, labels=[0, 1])
        assert found[name] == pytest.approx(expected, rel=1e-5)
        entropy = -(probabilities * probabilities.log()).sum(1).mean().item()
        assert found[f"test/entropy{suffix}"] == pytest.approx(entropy, rel=1e-4)


def test_temperature_survives_the_checkpoint(trainer, tmp_path):
    task, _ = over_trained(trainer, enable_checkpointing=True, callbacks=[Checkpoints()])
    path = tmp_path / "checkpoints" / "best.ckpt"
    again = ImageClassifier.load_from_checkpoint(path, net=task.net)
    assert again.temperature == task.temperature


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.Sigmoid()])
def test_a_net_that_gives_probabilities_is_refused(trainer, last):
    kind = "multilabel" if isinstance(last, nn.Sigmoid) else "multiclass"
    labels = torch.randint(2, (64, 4)).float() if kind == "multilabel" else torch.arange(64) % 4
    data = DataLoader(TensorDataset(torch.randn(64, 1, 4, 4), labels), batch_size=32)
    with pytest.raises(UserError, match="probabilities"):
        trainer().fit(ImageClassifier(Linear(4, last=last), label_kind=kind), data)
    task = ImageClassifier(Linear(4), label_kind=kind)
    before = task.net.fc.weight.clone()
    trainer().fit(task, data)
    assert not torch.equal(task.net.fc.weight, before)


def test_multilabel_learns_and_is_measured(trainer):
    torch.manual_seed(0)
    images = torch.randn(300, 1, 4, 4)
    labels = (images.flatten(1)[:, :3] > 0).long()
    data = DataLoader(TensorDataset(images, labels), batch_size=50)
    task = ImageClassifier(Linear(3), label_kind="multilabel", lr=0.05)
    runner = trainer(max_epochs=20)
    runner.fit(task, data, data)
    (found,) = runner.test(task, data, verbose=False)
    with torch.no_grad():
        probabilities = task(images).sigmoid()
    assert found["test/acc"] == pytest.approx(((probabilities > 0.5) == labels).float().mean())
    assert found["test/acc"] > 0.9
    assert found["test/auroc"] == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-6)
    expected = F.binary_cross_entropy(probabilities, labels.float()).item()
    assert found["test/loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", ["focal", "generalized_cross_entropy"])
def test_losses_by_name_train(trainer, loss):
    torch.manual_seed(0)
    data = noisy(200, 0)
    task = ImageClassifier(Linear(2), loss=loss, lr=0.05)
    trainer(max_epochs=10).fit(task, data, noisy(200, 1))
    right = torch.cat([task(images).argmax(1) == labels for images, labels in data])
    assert right.float().mean() > 0.6


def test_a_loss_that_does_not_fit_the_labels():
    with pytest.raises(ValueError, match=r"binary_cross_entropy.*multiclass"):
        ImageClassifier(Linear(3), loss="binary_cross_entropy")


def test_views_are_averaged():
    torch.manual_seed(0)
    net, images = Linear(3), torch.randn(5, 1, 4, 4)
    plain = [net(images), net(images.flip(3))]
    both = ImageClassifier(net, tta="flip", channels_last=False)(images)
    torch.testing.assert_close(both, (plain[0] + plain[1]) / 2)
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    moved = [padded[..., :4, :4], padded[..., 2:, 2:]]
    shifted = [(net(view) + net(view.flip(3))) / 2 for view in moved]
    task = ImageClassifier(net, tta="flip_shift", channels_last=False)
    torch.testing.assert_close(task(images), both / 2 + (shifted[0] + shifted[1]) / 4)
    with pytest.raises(UserError, match=r"model\.tta is 'flip_shift'; .* of 1 x 4 pixels cannot"):
        task(images[:, :, :1])


def test_weights_of_classes_from_the_data(trainer):
    data = SyntheticCellTypes(count=200, image_size=16, batch_size=50)
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    task = ImageClassifier(net, num_classes=4, class_weights="auto", lr=0.0)
    trainer(limit_train_batches=1).fit(task, data)
    counts = np.bincount(data.split("train").labels[data.split("train").rows], minlength=4)
    expected = counts.sum() / (4 * counts)
    assert task.loss.class_weights.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
