"""Whole numbers of 8 bits in place of floats: a smaller and often faster file."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.export.check import Array, Runner
from zoo.export.whole import Feed, Whole
from zoo.metrics.classes import confusion_counts, f1, mean_over_classes


def quantize(whole: Whole, source: Path, target: Path, calibration: list[Feed]) -> None:
    """Write an ONNX file anew with weights of 8 bits.

    Convolutions are quantised statically: their inputs' ranges are measured on calibration inputs
    and weights scaled channel by channel. All other nets are quantised dynamically: the weights of
    linear and recurrent layers and of embeddings, inputs as they come.

    Args:
        whole: What was exported.
        source: The ONNX file.
        target: The file to write.
        calibration: Real inputs, none of them of the test split.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = whole.inputs

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # has no types
        def __init__(self) -> None:
            self.feeds = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            feed = next(self.feeds, None)
            if feed is None:
                return None
            return {name: part.numpy() for name, part in zip(names, feed, strict=True)}

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            if is_static(whole):
                quantize_static(
                    str(prepared),
                    str(target),
                    Reader(),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                )
            else:
                quantize_dynamic(
                    str(prepared), str(target), per_channel=True, weight_type=QuantType.QInt8
                )
    finally:
        logging.disable(before)


def is_static(whole: Whole) -> bool:
    """Whether a net is quantised with measured ranges: one of convolutions over images."""
    return any(isinstance(module, torch.nn.Conv2d) for module in whole.module.modules())


def figure(whole: Whole, run: Runner, batches: list[Any]) -> tuple[str, float]:
    """Return the name and the value of the test figure that a file reaches.

    The share of right classes (of several labels, of right labels), the mean Dice of the classes
    but the first over all pixels, the mean absolute error, or of a language model the loss of the
    last token of each row.

    Args:
        whole: What was exported.
        run: Runs the file.
        batches: Test batches, as a loader gave them.
    """
    outputs = [torch.from_numpy(run(whole.feed(batch))[0]) for batch in batches]
    task = whole.facts["task"]
    if task == "segmentation":
        return "dice", _dice(outputs, batches, len(whole.facts["class_names"]))
    if task == "language modelling":
        logits = torch.cat(outputs)
        labels = torch.cat([batch.labels[:, -1] for batch in batches])
        return "loss of each row's last token", float(
            torch.nn.functional.cross_entropy(logits, labels)
        )
    answers, truth = torch.cat(outputs), torch.cat([batch[1] for batch in batches])
    if task == "regression":
        return "mae", float((answers - truth).abs().mean())
    if truth.ndim == 2:
        right = (answers > whole.facts["threshold"]) == (truth > 0)
    else:
        right = answers.argmax(dim=1) == truth
    return "acc", float(right.double().mean())


def _dice(masks: list[Tensor], batches: list[Any], classes: int) -> float:
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for mask, batch in zip(masks, batches, strict=True):
        truth = batch.mask.long()
        height, width = (min(a, b) for a, b in zip(mask.shape[1:], truth.shape[1:], strict=True))
        found = mask[:, :height, :width].long()
        counts += confusion_counts(found, truth[:, :height, :width], classes, 255)
    of_classes = f1(counts.diagonal(), counts.sum(0), counts.sum(1))
    return float(np.float64(mean_over_classes(of_classes[1:])))
