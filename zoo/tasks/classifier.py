"""What classifiers of images and of texts share."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MultilabelAccuracy

from datamodules.core.errors import refuse, refuse_unused
from zoo.errors import UserError
from zoo.inference.outputs import ClassAnswers, probabilities_of
from zoo.losses.base import LabelKind, TargetKind
from zoo.losses.classification import ClassificationLoss, classification_loss
from zoo.metrics.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    fit_temperature,
    reliability_bins,
    scores,
)
from zoo.metrics.classes import confusion_counts, f1, mean_over_classes, recall
from zoo.metrics.collectors import Collected, auc_and_accuracy, in_order
from zoo.metrics.intervals import Intervals, intervals
from zoo.metrics.names import CALIBRATION
from zoo.metrics.resampled import classification
from zoo.nets.outputs import main_logits
from zoo.tasks.base import Stage, Task, given_weights, numbered, numbers_of, weights_of_data
from zoo.tasks.logged import Logged
from zoo.tasks.net_spec import known_classes


class Classifier(Task):
    """Puts a sample into one of several classes, or gives it any number of labels.

    The net gives logits ``(B, num_classes)``: the loss's softmax (for ``multilabel`` its sigmoid)
    would squash probabilities a second time. A batch starts with what the net takes and the labels:
    integers ``(B,)``, for ``multilabel`` zeros and ones ``(B, num_classes)``.

    ``balanced_acc``, the mean recall of the classes, and ``f1``, the mean of their F1, leave out a
    class for which they would be 0 / 0; see :mod:`zoo.metrics.classes`.

    Validation and test losses are the plain cross-entropy, without smoothing or class weights.

    At the end of each validation one temperature is fitted to its logits (arXiv 1706.04599) and
    kept in the checkpoints; see :mod:`zoo.metrics.calibration`. Predicted probabilities are those
    at this temperature. A test gives calibration error, negative log-likelihood (at temperature 1
    it is the loss) and mean entropy at temperature 1 and, as ``*_scaled``, at the fitted one.

    Args:
        net: The network.
        num_classes: Taken from the data by the command line; in Python from the net's attribute of
            that name where it is left out.
        label_kind: Taken from the data by the command line.
        loss: Left out: ``cross_entropy``, for ``multilabel`` data ``binary_cross_entropy``.
        label_smoothing: Share of the target that is spread evenly over all classes, whatever their
            weights (arXiv 1512.00567).
        class_weights: One factor a class on its samples' loss; ``auto`` takes factors inverse to
            the classes' frequencies in the training split.
        focal_gamma: Exponent of ``focal`` (arXiv 1708.02002): how far easy samples count less.
        gce_q: Exponent of ``generalized_cross_entropy`` (arXiv 1805.07836), above 0 (cross-entropy)
            up to 1 (mean absolute error, which wrong labels disturb least).
        kwargs: The options of :class:`~zoo.tasks.base.Task`.

    Raises:
        OptionError: If an option lies outside what it may be, or the loss does not fit the
            labels.
    """

    monitor: ClassVar[str] = "val/acc"
    mode: ClassVar[Literal["min", "max"]] = "max"
    logged: ClassVar[Logged] = Logged(
        train=("loss", "acc"),
        val=("loss", "acc", "balanced_acc", "f1", "top5"),
        test=("loss", "acc", "balanced_acc", "f1", "top5", "auroc", *CALIBRATION),
        pictures=("curves", "confusion", "roc", "reliability"),
        charts=("confusion", "roc", "pr"),
        tables=("classes",),
    )

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int | None = None,
        label_kind: TargetKind = "multiclass",
        loss: ClassificationLoss | None = None,
        label_smoothing: float = 0.0,
        class_weights: list[float] | Literal["auto"] | None = None,
        focal_gamma: float = 2.0,
        gce_q: float = 0.7,
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        if label_kind == "continuous" or label_kind == "mask":
            task = "Regressor" if label_kind == "continuous" else "ImageSegmenter"
            raise refuse(
                "label_kind", label_kind, f"choose the task {task}, as a classifier needs classes"
            )
        classes = known_classes(num_classes, net)
        self.num_classes = classes
        self.label_kind: LabelKind = label_kind
        self.multilabel = label_kind == "multilabel"
        self.derived_names = ("f1",) if self.multilabel else ("balanced_acc", "f1")
        self.weigh_classes = class_weights == "auto"
        plain: ClassificationLoss = "binary_cross_entropy" if self.multilabel else "cross_entropy"
        self.loss = classification_loss(
            loss or plain,
            label_kind=label_kind,
            label_smoothing=label_smoothing,
            class_weights=given_weights(class_weights, classes),
            focal_gamma=focal_gamma,
            gce_q=gce_q,
        )
        self.label_smoothing = label_smoothing
        refuse_unused("focal_gamma", focal_gamma, 2.0, loss or plain, "focal")
        refuse_unused("gce_q", gce_q, 0.7, loss or plain, "generalized_cross_entropy")
        self.plain_loss = classification_loss(plain, label_kind=label_kind)
        self.temperature = 1.0

    def training_loss_options(self) -> list[str]:
        """Return the options by which the training loss is no plain cross-entropy."""
        other = self.loss.function is not self.plain_loss.function
        options = {"loss": other, "label_smoothing": self.label_smoothing}
        weighted = self.loss.class_weights is not None
        return [name for name, given in {**options, "class_weights": weighted}.items() if given]

    # ---------------------------------------------------------------- figures

    def build_metrics(self, stage: Stage) -> MetricCollection:
        """Return accuracies, plain and of more than five classes top-5.

        A test's accuracy, and what is a mean over classes, come with :meth:`derived_metrics`.
        """
        classes = self.num_classes
        metrics: dict[str, Any] = {}
        if classes > 5 and not self.multilabel:
            metrics["top5"] = MulticlassAccuracy(classes, average="micro", top_k=5)
        if stage == "val":
            metrics["acc"] = (
                MultilabelAccuracy(classes, average="micro")
                if self.multilabel
                else MulticlassAccuracy(classes, average="micro")
            )
        # Groups found by comparing states would join metrics that a batch without a mistake makes
        # look alike.
        return MetricCollection(metrics, prefix=f"{stage}/", compute_groups=False)

    def build_collectors(self, stage: Stage) -> dict[str, Metric]:
        """Return the logits of a stage, which calibration and means over classes are about."""
        return {"logits": Collected(3)}

    def derived_metrics(self, stage: Stage, artifacts: dict[str, Any]) -> dict[str, float]:
        """Fit the temperature after a validation; return a test's figures at that temperature."""
        logits, labels, numbers = artifacts.pop("logits")
        numbers, logits, labels = in_order(numbers, logits, labels)
        labels = labels.reshape(logits.shape if self.multilabel else (len(logits),))
        if self.multilabel:
            found, there = logits > 0, labels > 0
            hits, predicted, true = (x.sum(0) for x in (found & there, found, there))
            means = {f"{stage}/f1": mean_over_classes(f1(hits, predicted, true))}
            artifacts["labels"] = torch.stack([hits, predicted, true])
        else:
            counts = confusion_counts(logits.argmax(1), labels, self.num_classes)
            hits, predicted, true = counts.diagonal(), counts.sum(0), counts.sum(1)
            means = {
                f"{stage}/balanced_acc": mean_over_classes(recall(hits, true)),
                f"{stage}/f1": mean_over_classes(f1(hits, predicted, true)),
            }
            artifacts["confusion"] = counts
        if stage == "val":
            if not self.trainer.sanity_checking:
                self.temperature = fit_temperature(logits, labels, label_kind=self.label_kind)
            return means
        kind, temperature = self.label_kind, self.temperature
        if temperature in (LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE):
            rank_zero_warn(
                f"the temperature that was fitted is {temperature:g}, as far as it may go: on the "
                "validation split the net's logits say next to nothing, and ece_scaled as little"
            )
        plain = scores(logits, labels, label_kind=kind)
        scaled = scores(logits, labels, temperature, label_kind=kind)
        artifacts["reliability"] = [
            reliability_bins(self.probabilities(logits, t), labels, label_kind=kind)
            for t in (1.0, temperature)
        ]
        artifacts["roc"] = self.probabilities(logits), labels
        artifacts["classes"] = {
            "index": numbers,
            "label": labels,
            "probabilities": self.probabilities(logits, temperature),
        }
        artifacts["logits"] = logits
        exact = auc_and_accuracy(self.probabilities(logits.double()), labels, kind)
        return {
            **means,
            **{f"test/{name}": value for name, value in exact.items()},
            "test/ece": plain["ece"],
            "test/entropy": plain["entropy"],
            "test/temperature": temperature,
            **{f"test/{name}_scaled": value for name, value in scaled.items()},
        }

    def intervals(self, figures: dict[str, float], artifacts: dict[str, Any]) -> Intervals:
        """Return the intervals of a test's figures, Wilson's of shares of the samples."""
        logits, labels = artifacts.pop("logits"), artifacts["classes"]["label"]
        losses = self.plain_loss(logits, labels, "none")
        of_resamples = classification(logits, labels, self.temperature, self.label_kind, losses)
        shares = () if self.multilabel else ("acc", "top5")
        count, columns = logits.shape
        return intervals(of_resamples, figures, count, shares=shares, columns=columns)

    def probabilities(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return softmax (``multilabel``: sigmoid) of logits ``(B, C)`` over a temperature."""
        return probabilities_of(logits, temperature, several=self.multilabel)

    def answers(self) -> ClassAnswers:
        """Return how predictions are made of logits."""
        return ClassAnswers(self.label_kind, self.temperature)

    def on_fit_start(self) -> None:
        """Take the classes' weights from the training split where that is asked for."""
        if self.weigh_classes:
            self.loss.class_weights = weights_of_data(self.trainer, self.num_classes, self.device)

    # ---------------------------------------------------------------- steps

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return what of a batch the net takes."""
        return (batch[0],)

    def mix(self, inputs: tuple[Tensor, ...], labels: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return inputs and targets of a training batch; for tasks that mix samples."""
        return inputs, labels

    def total_loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the training loss of what the net gave."""
        loss: Tensor = self.loss(main_logits(outputs, self.net), targets)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        labels = batch[1]
        first = self.global_step == 0 and batch_idx == 0
        if first:
            self._check_labels(labels)
        inputs, targets = self.mix(self.inputs(batch), labels)
        outputs = self.net(*inputs)
        logits = main_logits(outputs, self.net)
        if first:
            self.check_logits(logits, self.label_kind, (self.num_classes,))
        loss = self.total_loss(outputs, targets)
        correct = {}
        if targets is labels:
            right = (logits > 0) == (labels > 0) if self.multilabel else logits.argmax(1) == labels
            hits = right.sum()
            correct["acc"] = hits / self.num_classes if self.multilabel else hits
        weight = self.loss.weight(logits, targets)
        self.log_training(loss, len(labels), weight, **correct)
        return self.share_of_step(loss, weight)

    def _check_labels(self, labels: Tensor) -> None:
        if self.multilabel:
            if labels.shape[1:] != (self.num_classes,):
                raise UserError(
                    f"labels have the shape {tuple(labels.shape)}, but label_kind is multilabel; "
                    f"give a matrix of (samples, {self.num_classes})"
                )
        elif int(labels.max()) >= self.num_classes or int(labels.min()) < 0:
            raise UserError(
                f"the data has a label {int(labels.max())} (smallest {int(labels.min())}), but "
                f"num_classes is {self.num_classes}; labels run from 0 to {self.num_classes - 1}"
            )

    def add_batch(self, stage: Stage, batch: Any) -> None:
        """Add one batch to the figures of a stage, and to what temperature and pictures need."""
        labels, meters = batch[1], self.meters[stage]
        logits = self(*self.inputs(batch)).float()
        probabilities = self.probabilities(logits)
        meters.loss.update(self.plain_loss(logits, labels, "none"))
        meters.metrics.update(probabilities, labels)
        for name, collector in meters.collectors.items():
            collector.update(*self.collector_inputs(name, logits, probabilities, labels, batch))

    def collector_inputs(
        self, name: str, logits: Tensor, probabilities: Tensor, labels: Tensor, batch: Any
    ) -> tuple[Tensor, ...]:
        """Return what an evaluated batch adds to a collector."""
        if name == "logits":
            return logits, labels, numbers_of(batch, logits)
        return probabilities, labels

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return probabilities ``(B, num_classes)``, and sample numbers where there are any."""
        logits = self(*self.inputs(batch))
        answers = self.answers()
        return numbered(batch, **{answers.kind: answers.of_logits(logits)})

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the temperature."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["zoo"]["temperature"] = self.temperature

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the temperature."""
        super().on_load_checkpoint(checkpoint)
        self.temperature = checkpoint.get("zoo", {}).get("temperature", 1.0)
