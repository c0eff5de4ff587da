"""What the runs of a task log: what a dashboard may show of them."""

from __future__ import annotations

from typing import NamedTuple

from zoo.metrics.names import FigureName


class Logged(NamedTuple):
    """What runs of a task log, beside the learning rate and the time, by name.

    Figures that data or net may not have (``top5`` of few classes, bits of a tokenizer that cannot
    be reversed) are among them; those named after the data's classes are not.

    Attributes:
        train: Figures behind ``train/``, at log points, and with ``_epoch`` at the ends of epochs.
        val: Figures behind ``val/``.
        test: Figures behind ``test/``.
        time: Figures of speed behind ``time/``, at log points.
        pictures: Behind ``pictures/``.
        charts: That W&B draws itself, behind ``charts/``.
        tables: Of W&B.
    """

    train: tuple[FigureName, ...] = ("loss",)
    val: tuple[FigureName, ...] = ("loss",)
    test: tuple[FigureName, ...] = ("loss",)
    time: tuple[str, ...] = ("samples_per_s",)
    pictures: tuple[str, ...] = ("curves",)
    charts: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
