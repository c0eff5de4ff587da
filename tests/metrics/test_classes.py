"""Macro figures are scikit-learn's, absent classes included; the confusion is counted cheaply."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    roc_auc_score,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from zoo import ImageClassifier, ImageSegmenter
from zoo.metrics.classes import Confusion, confusion_counts, f1, iou, mean_over_classes, recall

CLASSES = 5
#: Which classes the truth has, and which are predicted.
CASES = {
    "all": (range(5), range(5)),
    "absent but predicted": ((0, 1, 3), range(5)),
    "absent and not predicted": ((0, 1, 3), (0, 1, 3)),
    "never predicted": (range(5), (0, 1)),
    "one class": ((2,), (2, 4)),
}


def drawn(case: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    of_truth, of_guess = CASES[case]
    truth, guess = rng.choice(of_truth, 300), rng.choice(of_guess, 300)
    kept = (rng.random(300) < 0.5) & np.isin(truth, of_guess)
    return truth, np.where(kept, truth, guess)


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@pytest.mark.parametrize("case", CASES)
def test_means_over_classes_are_scikit_learns(case):
    truth, guess = drawn(case)
    counts = confusion_counts(torch.from_numpy(guess), torch.from_numpy(truth), CLASSES)
    assert np.array_equal(counts, confusion_matrix(truth, guess, labels=range(CLASSES)))
    each = counts.diagonal(), counts.sum(0), counts.sum(1)
    expected = balanced_accuracy_score(truth, guess)
    assert mean_over_classes(recall(each[0], each[2])) == pytest.approx(expected, abs=1e-12)
    for function, reference in ((f1, f1_score), (iou, jaccard_score)):
        expected = reference(truth, guess, average="macro")
        assert mean_over_classes(function(*each)) == pytest.approx(expected, abs=1e-12)


def test_nothing_there_and_nothing_said_is_right():
    assert mean_over_classes(torch.tensor([math.nan, math.nan])) == 1


class Said(nn.Module):
    """Gives the logits that it is shown."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.num_classes = classes
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.factor * images


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@pytest.mark.parametrize("case", CASES)
def test_a_classifiers_macro_figures(trainer, case):
    truth, guess = drawn(case)
    images = nn.functional.one_hot(torch.from_numpy(guess), CLASSES).float()
    loader = DataLoader(TensorDataset(images, torch.from_numpy(truth)), batch_size=64)
    task = ImageClassifier(Said(CLASSES), channels_last=False)
    for verb, stage in (("validate", "val"), ("test", "test")):
        (found,) = getattr(trainer(), verb)(task, loader, verbose=False)
        expected = balanced_accuracy_score(truth, guess)
        assert found[f"{stage}/balanced_acc"] == pytest.approx(expected, abs=1e-6)
        expected = f1_score(truth, guess, average="macro")
        assert found[f"{stage}/f1"] == pytest.approx(expected, abs=1e-6)


def test_a_label_that_is_nowhere_is_left_out_of_the_mean_of_many(trainer):
    rng = np.random.default_rng(0)
    truth, guess = rng.random((60, 4)) < 0.4, rng.random((60, 4)) < 0.4
    truth[:, 2:] = False  # one label absent, but predicted
    guess[:, 3] = False  # one neither
    loader = DataLoader(
        TensorDataset(torch.from_numpy(guess) * 2.0 - 1.0, torch.from_numpy(truth).long()),
        batch_size=16,
    )
    task = ImageClassifier(Said(4), label_kind="multilabel", channels_last=False)
    (found,) = trainer().test(task, loader, verbose=False)
    expected = f1_score(truth, guess, average="macro", zero_division=np.nan)
    assert found["test/f1"] == pytest.approx(expected, abs=1e-6)
    expected = roc_auc_score(truth[:, :2], guess[:, :2], average="macro")
    assert found["test/auroc"] == pytest.approx(expected, abs=1e-6)


def test_a_class_without_a_sample_has_no_curve(trainer):
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(60, 4)), rng.choice([0, 1, 3], 60)
    loader = DataLoader(TensorDataset(torch.from_numpy(scores).float(), torch.from_numpy(truth)))
    (found,) = trainer().test(ImageClassifier(Said(4), channels_last=False), loader, verbose=False)
    probabilities = torch.from_numpy(scores).softmax(1).numpy()
    areas = [roc_auc_score(truth == own, probabilities[:, own]) for own in (0, 1, 3)]
    assert found["test/auroc"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_a_segmenters_macro_figures_leave_out_what_is_nowhere(trainer):
    rng = np.random.default_rng(0)
    truth, guess = rng.choice([0, 1, 2, 255], (4, 8, 8)), rng.choice([0, 1, 3], (4, 8, 8))
    images = nn.functional.one_hot(torch.from_numpy(guess), 5).movedim(3, 1).float()
    loader = DataLoader(TensorDataset(images, torch.from_numpy(truth)), batch_size=3)
    task = ImageSegmenter(Said(5), class_names=list("abcde"), channels_last=False)
    (found,) = trainer().test(task, loader, verbose=False)
    kept = truth != 255
    for name, reference in (("dice", f1_score), ("iou", jaccard_score)):
        each = reference(truth[kept], guess[kept], average=None, labels=[0, 1, 2, 3])
        assert found[f"test/{name}"] == pytest.approx(each[1:].mean(), abs=1e-6)
        of_classes = [found[f"test/{name}_{of}"] for of in "abcd"]
        assert of_classes == pytest.approx(each.tolist(), abs=1e-6)
        assert f"test/{name}_e" not in found
    assert found["test/acc"] == pytest.approx((truth == guess)[kept].mean())


def test_a_deterministic_count_takes_no_more_memory():
    """Of 65,536 pixels and 50 classes, torchmetrics' takes 65,536 x 2,500 x 9 bytes."""

    class Largest(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.bytes = max(self.bytes, result.nbytes)
            return result

    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(50, (1, 256, 256), generator=generator)
    truth[0, 0] = 255
    guess = truth.roll(3, 2).clamp(max=49)
    metric = Confusion(50, ignore_index=255)
    torch.use_deterministic_algorithms(True)
    try:
        with Largest() as largest:
            metric.update(guess, truth)
    finally:
        torch.use_deterministic_algorithms(False)
    kept = truth != 255
    expected = confusion_matrix(truth[kept], guess[kept], labels=range(50))
    assert np.array_equal(metric.compute(), expected)
    assert largest.bytes <= 8 * truth.numel()
