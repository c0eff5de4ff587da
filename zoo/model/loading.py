"""From the name of weights to a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from datamodules.core.errors import refuse
from datamodules.core.protocols import HasClassNames
from zoo.model.build import answers_of, build_inputs, build_net, build_task, options_of
from zoo.model.find import find_weights
from zoo.model.model import Model
from zoo.nets.protocols import Classifies
from zoo.run.checkpoint import check_weights, read_checkpoint
from zoo.run.precision import choose_precision
from zoo.run.runs import RUNS

if TYPE_CHECKING:  # which takes as long to import as torch
    from lightning.pytorch import Callback


def load(
    name: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    trust: Sequence[str] = (),
    root: str | os.PathLike[str] = RUNS,
) -> Model:
    """Return a trained net that takes images, texts, rows or prompts.

    Only plain data is read of the file, and nothing that it names is imported but what a recipe may
    name.

    Args:
        name: A checkpoint file; a run's folder, whose best checkpoint is meant; ``last`` or
            ``best`` of the run that was begun last, or, as ``RECIPE:best``, of that recipe's; the
            name of weights that come with the package (``zoo list weights``); or
            ``hf:owner/name`` of a repository on the hub, perhaps with ``@COMMIT``.
        device: Where it computes: ``auto`` is the best that this machine has; ``cpu``, ``cuda:1``.
        trust: Packages of yours whose classes the file may name, too.
        root: Where runs are kept, as ``trainer.default_root_dir`` says.

    Raises:
        UserError: If there are no such weights, or they cannot be used.
    """
    path = find_weights(name, root)
    checkpoint = read_checkpoint(path)
    weights = checkpoint.pop("state_dict")
    facts = checkpoint.get("zoo") or {}
    options = options_of(checkpoint, str(path))
    answers = answers_of(options, facts, str(path))
    net = build_net(options, str(path)) if answers is not None else None
    whole_file = {**checkpoint, "state_dict": weights}
    task = build_task(options, whole_file, str(path), None, trust) if net is None else None
    whole = nn.ModuleDict({"net": net}) if net is not None else task
    assert whole is not None
    strict = task is None or task.strict_loading
    check_weights(weights, whole.state_dict(), str(path), strict=strict)
    whole.load_state_dict(weights, strict=strict)
    net = task.net if task is not None else net
    assert net is not None
    how = answers or task
    assert how is not None  # a task without answers is built whole
    data = build_inputs(facts, str(path))
    _check_classes(data, net, str(path))
    place = choose_device(device)
    precision = choose_precision(net, place.type, facts.get("precision"), goes_on=False)
    return Model(
        net,
        data,
        how,
        device=place,
        precision=precision,
        name=str(options["_class_path"]).rpartition(".")[2],
        make_task=lambda: task or build_task(options, checkpoint, str(path), net, trust),
    )


def _check_classes(data: object, net: nn.Module, path: str) -> None:
    """Refuse names of classes that are not those of a net's outputs.

    Raises:
        OptionError: If there are more or fewer.
    """
    ours = type(net).__module__.startswith("zoo.")
    if ours and isinstance(data, HasClassNames) and isinstance(net, Classifies):
        named, given = len(data.class_names), net.num_classes
        if named and named != given:
            why = f"it names {named} classes, and its net has {given}: give a file that `fit` saved"
            raise refuse("ckpt_path", path, why)


def model_of_task(
    task: Any,
    data: Any,
    device: torch.device,
    precision: str,
    callbacks: Sequence[Callback] = (),
) -> Model:
    """Return the model of a task that is built and has its weights.

    Args:
        task: A task of the zoo, whose answers are known; of any other one ``predict_step`` answers.
        data: What prepares what is predicted.
        device: Where it computes.
        precision: In which precision.
        callbacks: Lightning's, called where batches are predicted.
    """
    how: Any = task
    if hasattr(task, "writing"):
        how = task.writing()
    elif type(task).__module__.startswith("zoo.") and hasattr(task, "answers"):
        how = task.answers()
    return Model(
        getattr(task, "net", task),
        data,
        how,
        device=device,
        precision=precision,
        name=type(task).__name__,
        make_task=lambda: task,
        seed=getattr(task, "seed", 0),
        callbacks=callbacks,
    )


def choose_device(device: str | torch.device) -> torch.device:
    """Return the device that is meant.

    Raises:
        OptionError: If there is none.
    """
    best = torch.accelerator.current_accelerator(check_available=True)
    if device == "auto":
        return best if best is not None else torch.device("cpu")
    known = ["auto", "cpu"] if best is None else ["auto", "cpu", best.type]
    remedy = f"give one of {', '.join(known)}"
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise refuse("device", str(device), remedy) from error
    if chosen.type == "cpu":
        return chosen
    count = torch.accelerator.device_count() if best is not None else 0
    if best is None or chosen.type != best.type or (chosen.index or 0) >= count:
        raise refuse("device", str(device), f"{remedy}, which this machine has")
    return chosen
