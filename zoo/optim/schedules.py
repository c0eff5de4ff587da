"""How the learning rate falls."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from datamodules.core.private import set_last_lr

ScheduleName = Literal["constant", "cosine", "linear", "one_cycle", "step"]
"""How the learning rate goes on after the warm-up.

Names:
    constant: Stays as it is.
    cosine: Falls along a cosine to zero at the last step.
    linear: Falls on a straight line to zero at the last step.
    one_cycle: Rises for 30 % of the run and falls along a cosine (arXiv 1708.07120).
    step: Falls by ``gamma`` at each of the ``milestones``.
"""


def lr_factor(
    name: ScheduleName,
    step: int,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    milestones: tuple[float, ...] = (0.5, 0.75),
    gamma: float = 0.1,
) -> float:
    """Return the factor on the learning rate at a step, counted from 0.

    A pure function of its arguments, so that a resumed run needs no state of the schedule.
    All schedules rise linearly for ``warmup_steps`` first; then

    * ``constant`` stays,
    * ``cosine`` and ``linear`` fall to zero at ``total_steps``,
    * ``step`` falls by ``gamma`` at each of the ``milestones`` (fractions of the run),
    * ``one_cycle`` (arXiv 1708.07120) rises along a cosine from 1/25 instead, for ``warmup_steps``
      or, where that is 0, for its customary 30 % of the run, and falls along a cosine to 4e-6: the
      curve of torch's ``OneCycleLR``. Deviation: the momentum does not cycle.

    >>> [round(lr_factor("cosine", step, total_steps=4, warmup_steps=1), 2) for step in range(4)]
    [0.5, 1.0, 0.75, 0.25]
    """
    if name == "one_cycle":
        rise = (warmup_steps or 0.3 * total_steps) - 1
        if step <= rise:
            return _cosine_between(1 / 25, 1.0, step / rise if rise > 0 else 1.0)
        fall = max(1, total_steps - 1 - rise)
        return _cosine_between(1.0, 4e-6, min(1.0, (step - rise) / fall))
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    if name == "cosine":
        return _cosine_between(1.0, 0.0, done)
    if name == "linear":
        return 1.0 - done
    if name == "step":
        return gamma ** sum(step >= milestone * total_steps for milestone in milestones)
    return 1.0


def _cosine_between(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def restore_hyperparameters(
    optimizer: Optimizer, schedule: LambdaLR, configured: list[dict[str, Any]]
) -> None:
    """Put this run's hyperparameters over those that came with a checkpoint's optimiser state.

    A checkpoint keeps each group's learning rate and decay beside the momenta. What the recipe or
    the command line says now has to win; where nothing changed, the result is the same number,
    because the schedule is a function of the step alone.

    Args:
        optimizer: The optimiser after its state was loaded.
        schedule: Its schedule, whose position was loaded.
        configured: Every group (without ``params``) as this run configured it.
    """
    schedule.base_lrs = [group["initial_lr"] for group in configured]
    for group, fresh in zip(optimizer.param_groups, configured, strict=True):
        factor = schedule.lr_lambdas[0](schedule.last_epoch)
        group.update({**fresh, "lr": fresh["initial_lr"] * factor})
    set_last_lr(schedule, [group["lr"] for group in optimizer.param_groups])
