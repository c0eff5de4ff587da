"""What loggers hold beside figures, each in its own way."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger


def log_picture(logger: Logger, name: str, path: Path, step: int) -> None:
    """Hand a picture to a logger that can hold pictures; others are left alone.

    Args:
        logger: One of Lightning's, or W&B's of a run.
        name: The picture's.
        path: Its PNG file.
        step: The optimiser step that it is of.
    """
    if isinstance(logger, WandbLogger):
        logger.log_image(f"pictures/{name}", [str(path)], step=step)
    elif isinstance(logger, TensorBoardLogger):
        import numpy as np
        from PIL import Image

        pixels = np.asarray(Image.open(path).convert("RGB"))
        writer = logger.experiment
        writer.add_image(f"pictures/{name}", pixels, step, dataformats="HWC")
        writer.flush()
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_artifact(logger.run_id, str(path), "pictures")
