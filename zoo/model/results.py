"""What a model answers, one object an input."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.core.protocols import HasClassNames, HasLabelKind, HasTargetName

#: Classes that a notebook shows.
_MOST_SHOWN = 10


@dataclass(frozen=True)
class ClassResult:
    """The class of a sample.

    Args:
        label: The likeliest class.
        probability: Its probability, from 0 to 1.
        probabilities: That of each class.
        input: What the sample is called, a file's path say.
    """

    label: str
    probability: float
    probabilities: dict[str, float] = field(repr=False)
    input: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return what ``zoo predict`` prints."""
        return f"{self.label}  {self.probability:.4f}"

    def _repr_html_(self) -> str:
        return _bars(self.input, self.probabilities)


@dataclass(frozen=True)
class LabelsResult:
    """The labels of a sample that may have several.

    Args:
        labels: Those that are more likely there than not.
        probabilities: How likely each label is there, from 0 to 1.
        input: What the sample is called.
    """

    labels: tuple[str, ...]
    probabilities: dict[str, float] = field(repr=False)
    input: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return what ``zoo predict`` prints."""
        there = (f"{name} {self.probabilities[name]:.4f}" for name in self.labels)
        return "  ".join(there) or "none"

    def _repr_html_(self) -> str:
        return _bars(self.input, self.probabilities)


@dataclass(frozen=True, eq=False)
class MaskResult:
    """The class of each pixel of an image.

    Args:
        mask: The classes' numbers, uint8 (H, W).
        shares: The share of the pixels of each class.
        input: What the image is called.
    """

    mask: npt.NDArray[np.uint8] = field(repr=False)
    shares: dict[str, float]
    input: str = ""

    def __str__(self) -> str:
        """Return what ``zoo predict`` prints."""
        return "  ".join(f"{name} {share:.1%}" for name, share in self.shares.items())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the mask as a palette PNG: pixels are class numbers, and viewers show colours."""
        from datamodules.core.plot import write_mask

        write_mask(Path(path), self.mask)

    def _repr_png_(self) -> bytes:
        from datamodules.core.plot import mask_image

        file = BytesIO()
        mask_image(self.mask).save(file, format="png")
        return file.getvalue()


@dataclass(frozen=True)
class NumberResult:
    """A number that is predicted.

    Args:
        value: In its own unit.
        name: What it is.
        input: What the sample is called.
    """

    value: float
    name: str = "prediction"
    input: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return what ``zoo predict`` prints."""
        return repr(self.value)

    def __float__(self) -> float:
        """Return the number."""
        return self.value

    def _repr_html_(self) -> str:
        return _pair(self.input, self.name, f"{self.value:.6g}")


@dataclass(frozen=True)
class TextResult:
    """What a language model writes.

    Args:
        text: What follows the prompt.
        input: The prompt, or its last message.
    """

    text: str
    input: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_html_(self) -> str:
        return _pair("", self.input, self.text)


#: What a call of a model gives for an input.
Result = ClassResult | LabelsResult | MaskResult | NumberResult | TextResult


#: What is predicted of a batch, as a task's ``predict_step`` names it.
KINDS = ("probabilities", "masks", "prediction")


def kind_of(predicted: Mapping[str, Any]) -> str:
    """Return which of ``KINDS`` a batch of predictions holds."""
    return next(kind for kind in KINDS if kind in predicted)


def results_of(kind: str, predicted: Any, names: Sequence[str], data: object) -> Iterator[Result]:
    """Yield a result for each sample of a batch.

    Args:
        kind: What is predicted, one of ``KINDS``.
        predicted: Of each sample, on the CPU.
        names: What each sample is called.
        data: What prepared them, which knows the classes' names and the target's, and whether a
            sample has any number of labels.
    """
    several = isinstance(data, HasLabelKind) and data.label_kind == "multilabel"
    target = data.target_name if isinstance(data, HasTargetName) else "prediction"
    classes = data.class_names if isinstance(data, HasClassNames) else ()
    for name, value in zip(names, predicted, strict=True):
        if kind == "masks":
            yield _mask(value, list(classes), name)
        elif kind == "probabilities":
            labels = classes or [*map(str, range(len(value)))]
            values = dict(zip(labels, value.tolist(), strict=True))
            if several:
                yield LabelsResult(tuple(k for k, p in values.items() if p > 0.5), values, name)
            else:
                label = max(values, key=values.__getitem__)
                yield ClassResult(label, values[label], values, name)
        else:
            yield NumberResult(float(value), target, name)


def _mask(mask: Any, classes: list[str], name: str) -> MaskResult:
    counts = mask.flatten().bincount(minlength=len(classes))
    classes = classes or [*map(str, range(len(counts)))]
    shares = (counts.double() / mask.numel()).tolist()
    pixels: npt.NDArray[np.uint8] = mask.numpy().astype(np.uint8)
    return MaskResult(pixels, dict(zip(classes, shares, strict=True)), name)


def _pair(caption: str, name: str, text: str) -> str:
    """Return a table of one row; line breaks of the text stay."""
    above = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    style = "text-align:left;white-space:pre-wrap"
    cells = "".join(f"<td style='{style}'>{html.escape(each)}</td>" for each in (name, text))
    return f"<table>{above}<tr>{cells}</tr></table>"


def _bars(name: str, probabilities: dict[str, float]) -> str:
    """Return a table of the likeliest classes, each with a bar."""
    likeliest = sorted(probabilities.items(), key=lambda item: -item[1])[:_MOST_SHOWN]
    rows = "".join(
        f"<tr><td>{html.escape(label)}</td><td>{value:.4f}</td><td style='min-width:10em'>"
        f"<div style='background:#4c72b0;height:.8em;width:{value:.1%}'></div></td></tr>"
        for label, value in likeliest
    )
    caption = f"<caption>{html.escape(name)}</caption>" if name else ""
    return f"<table>{caption}{rows}</table>"
