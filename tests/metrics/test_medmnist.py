"""Area under the curve and accuracy are those of MedMNIST's own evaluator."""

from typing import Any

import numpy as np
import pytest
import torch

from zoo.metrics.collectors import auc_and_accuracy

TASKS = {
    "binary": ("binary-class", 2),
    "multiclass": ("multi-class", 9),
    "multilabel": ("multi-label, binary-class", 14),
    "ordinal": ("ordinal-regression", 5),
}


@pytest.fixture
def evaluator(monkeypatch, tmp_path) -> Any:
    monkeypatch.setenv("HOME", str(tmp_path))  # medmnist makes a folder there
    pytest.importorskip("medmnist")
    from medmnist import evaluator

    return evaluator


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", TASKS)
def test_both_are_the_evaluators(kind, seed, ties, evaluator):
    rng = np.random.default_rng(seed)
    task, classes = TASKS[kind]
    if kind == "multilabel":
        labels = (rng.random((500, classes)) < 0.2).astype(int)
        scores = rng.random((500, classes))
    else:
        labels = rng.permutation(np.arange(500) % classes)[:, None]
        scores = rng.dirichlet(np.ones(classes), size=500)
    if ties:
        scores = scores.round(1)
    plain = labels if kind == "multilabel" else labels[:, 0]
    found = auc_and_accuracy(torch.from_numpy(scores), torch.from_numpy(plain), kind)
    given = scores[:, 1:] if kind == "binary" else scores
    assert found["auroc"] == pytest.approx(evaluator.getAUC(labels, given, task), abs=1e-12)
    assert found["acc"] == pytest.approx(evaluator.getACC(labels, given, task), abs=1e-12)


def test_a_class_without_a_curve_is_left_out():
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    assert auc_and_accuracy(scores, torch.tensor([0, 1, 0]), "multiclass")["auroc"] == 1
    assert "auroc" not in auc_and_accuracy(scores, torch.zeros(3).long(), "multiclass")
