"""Pictures reach the loggers that can hold them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from zoo.run.loggers import log_picture


def made(kind: Any, **attributes: Any) -> Any:
    """A logger whose library need not be installed."""
    logger = object.__new__(type(kind.__name__, (kind,), {"experiment": None, "run_id": "42"}))
    for name, value in attributes.items():
        setattr(logger, name, value)
    return logger


def test_each_logger_gets_a_picture_as_it_takes_one(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    Image.fromarray(pixels).save(path)
    calls: list[Any] = []

    def note(*args: Any, **options: Any) -> None:
        calls.append((args, options))

    board = SimpleNamespace(add_image=note, flush=lambda: calls.append("flushed"))
    log_picture(made(TensorBoardLogger, experiment=board), "curves", path, 7)
    (name, image, step), options = calls[0]
    assert (name, step, options) == ("pictures/curves", 7, {"dataformats": "HWC"})
    assert (image == pixels).all()
    assert calls[1] == "flushed"

    log_picture(made(MLFlowLogger, experiment=SimpleNamespace(log_artifact=note)), "c", path, 7)
    assert calls[2] == (("42", str(path), "pictures"), {})

    log_picture(made(WandbLogger, log_image=note), "curves", path, 7)
    assert calls[3] == (("pictures/curves", [str(path)]), {"step": 7})

    log_picture(CSVLogger(tmp_path), "curves", path, 7)
    assert len(calls) == 4
