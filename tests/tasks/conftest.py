from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    """A quiet Trainer of one epoch on the CPU."""

    def make(**options: Any) -> L.Trainer:
        settings: dict[str, Any] = {
            "default_root_dir": tmp_path,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "max_epochs": 1,
        }
        return L.Trainer(**{**settings, **options})

    return make
