"""Optimisers and learning rate schedules, chosen by name and set by plain numbers."""

from zoo.optim.muon import MuonAdamW, orthogonalise
from zoo.optim.optimizers import (
    OptimizerName,
    build_optimizer,
    clip_adaptively,
    parameter_groups,
)
from zoo.optim.schedules import ScheduleName, lr_factor, restore_hyperparameters

__all__ = [
    "MuonAdamW",
    "OptimizerName",
    "ScheduleName",
    "build_optimizer",
    "clip_adaptively",
    "lr_factor",
    "orthogonalise",
    "parameter_groups",
    "restore_hyperparameters",
]
