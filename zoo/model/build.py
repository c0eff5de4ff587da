"""Net, inputs and answers of a checkpoint, built by what it says and nothing else.

The command line builds them through Lightning's parser, which takes longer to import than torch.
What a checkpoint of the zoo's own nets says is plain data that our own constructors check, so that
it needs no parser; whatever names a class of somebody else's goes through that parser all the same.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from datamodules.core.errors import OptionError, refuse
from datamodules.core.inputs import Inputs
from zoo import nets
from zoo.errors import UserError
from zoo.inference.generation import Writing
from zoo.inference.outputs import (
    Answers,
    ImageClassAnswers,
    MaskAnswers,
    NumberAnswers,
    TextClassAnswers,
)
from zoo.nets.pretrained.builders import build_torchvision
from zoo.run.checkpoint import check_weights
from zoo.run.typed import check_arguments

if TYPE_CHECKING:  # which brings Lightning
    from zoo.tasks.base import Task

#: What each task makes of logits.
_ANSWERS: dict[str, type[Answers]] = {
    "ImageClassifier": ImageClassAnswers,
    "TextClassifier": TextClassAnswers,
    "ImageSegmenter": MaskAnswers,
    "Regressor": NumberAnswers,
}
#: The tasks that write on.
_WRITING = ("LanguageModel", "PreferenceTuning")
#: The tasks whose images may lie in the memory order that convolutions like best.
_OF_IMAGES = ("ImageClassifier", "ImageSegmenter")
_INPUTS = ("ImageInputs", "MaskInputs", "TableInputs", "TextInputs", "PromptInputs")
_TORCHVISION = "torchvision.models."
_SAVED = "give a file that `fit` saved"


def options_of(checkpoint: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the arguments of a checkpoint's task, with the task's class as ``_class_path``.

    Raises:
        OptionError: If it does not say how it was made.
    """
    options = checkpoint.get("hyper_parameters")
    if not isinstance(options, dict) or not isinstance(options.get("_class_path"), str):
        raise refuse("ckpt_path", path, f"it does not say which task it is of: {_SAVED}")
    net = options.get("net")
    if not isinstance(net, dict) or not isinstance(net.get("init_args") or {}, dict):
        remedy = (
            "it was saved around a net that does not record how it was made: build that net again "
            "and pass it to the task's load_from_checkpoint(path, net=...)"
        )
        raise refuse("ckpt_path", path, remedy)
    return options


def answers_of(
    options: dict[str, Any], facts: dict[str, Any], path: str
) -> Answers | Writing | None:
    """Return what a task of the zoo makes of logits; None of another task.

    Args:
        options: The task's arguments.
        facts: What training found out.
        path: The checkpoint, for the message.

    Raises:
        OptionError: If one of them is of another type than it should be.
    """
    name = _zoo_name(options["_class_path"])
    if name in _ANSWERS:
        return _ANSWERS[name].of_options(_typed(_ANSWERS[name], {**options, **facts}, path), {})
    if name in _WRITING:
        given = _typed(Writing, options, path)
        known = inspect.signature(Writing).parameters
        return Writing(**{option: given[option] for option in known if option in given})
    return None


def _typed(target: Any, given: dict[str, Any], path: str) -> dict[str, Any]:
    """Return arguments that are of the types which are declared.

    Raises:
        OptionError: If one is not.
    """
    try:
        check_arguments(target, given)
    except TypeError as error:
        raise refuse("ckpt_path", path, f"what it says does not fit ({error}): {_SAVED}") from error
    return given


def _zoo_name(class_path: str) -> str:
    """Return the name of a class that the zoo exports; "" of any other path."""
    package, _, name = class_path.rpartition(".")
    return name if package == "zoo" else ""


def build_net(options: Mapping[str, Any], path: str) -> nn.Module | None:
    """Return a checkpoint's net without its weights; None where another library's class is named.

    torch's generators are left alone.

    Args:
        options: The task's arguments.
        path: The checkpoint, for the message.

    Raises:
        UserError: If its arguments do not fit.
    """
    spec = options["net"]
    class_path, given = str(spec.get("class_path")), dict(spec.get("init_args") or {})
    if _names_classes(given):
        return None
    name = _zoo_name(class_path)
    try:
        with torch.random.fork_rng(devices=[]):
            if name in nets.__all__:
                check_arguments(getattr(nets, name), given)
                net: nn.Module = getattr(nets, name)(**given)
            elif class_path.startswith(_TORCHVISION):
                found = _torchvision(class_path, given | dict(spec.get("dict_kwargs") or {}))
                if found is None:
                    return None
                net = found
            else:
                return None
    except OptionError as error:
        raise error.inside("model.net") from error
    except (MemoryError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        why = str(error).partition("\n")[0][:200]
        raise refuse("ckpt_path", path, f"its net cannot be built ({why}): {_SAVED}") from error
    if _zoo_name(options["_class_path"]) in _OF_IMAGES and options.get("channels_last", True):
        net.to(memory_format=torch.channels_last)
    return net


def _names_classes(node: Any) -> bool:
    """Return whether arguments hold a class, which a parser would have to build."""
    if isinstance(node, dict):
        return "class_path" in node or any(map(_names_classes, node.values()))
    return isinstance(node, list) and any(map(_names_classes, node))


def _torchvision(class_path: str, given: dict[str, Any]) -> nn.Module | None:
    """Return a net of torchvision's; None where it is none of its builders, or takes more.

    A class that stands among the arguments as a text is for a parser, too.
    """
    from torchvision import models

    name = class_path.removeprefix(_TORCHVISION)
    builder = getattr(models, name, None)
    if name not in models.list_models() or models.get_model_builder(name) is not builder:
        return None
    try:
        return build_torchvision(builder, given, num_classes=None, in_channels=None, say=print)
    except TypeError:
        return None


def build_inputs(facts: Mapping[str, Any], path: str) -> Inputs | None:
    """Return what prepares inputs as the training's data were prepared; None if that is not known.

    Raises:
        UserError: If what the checkpoint says of it does not fit.
    """
    spec = facts.get("inputs")
    if spec is None:
        return None
    try:
        name = str(spec["class_path"]).removeprefix("datamodules.")
        if name not in _INPUTS:
            raise ValueError(f"there is no {name}")
        kind = getattr(importlib.import_module("datamodules"), name)
        check_arguments(kind, spec["init_args"])
        inputs: Inputs = kind(inputs=None, **spec["init_args"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        remedy = f"what it says of its inputs does not fit ({error}): {_SAVED}"
        raise refuse("ckpt_path", path, remedy) from error
    return inputs


def build_task(
    options: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    path: str,
    net: nn.Module | None,
    trust: Sequence[str],
) -> Task:
    """Return a checkpoint's task, without weights where its net is built, too.

    Args:
        options: The task's arguments.
        checkpoint: All that the file holds besides weights.
        path: The file, for the message.
        net: Its net; None builds it as the command line does.
        trust: Packages whose classes it may name besides those that every file may.

    Raises:
        UserError: If the file names what is not trusted, or arguments that do not fit.
    """
    from zoo import tasks
    from zoo.tasks.base import task_of_hyperparameters

    name = _zoo_name(options["_class_path"])
    if net is not None and name in tasks.__all__:
        given = {k: v for k, v in options.items() if not k.startswith("_") and k != "net"}
        try:
            task: Task = getattr(tasks, name)(net=net, **given)
        except OptionError as error:
            raise error.inside("model") from error
        except (TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            why = str(error).partition("\n")[0][:200]
            remedy = f"its task cannot be built ({why}): {_SAVED}"
            raise refuse("ckpt_path", path, remedy) from error
    else:
        task = task_of_hyperparameters(options, path, trust)
    task.on_load_checkpoint(dict(checkpoint))
    return task.eval()


def load_task(
    options: dict[str, Any], checkpoint: dict[str, Any], path: str, trust: Sequence[str] = ()
) -> Task:
    """Return a checkpoint's task with its net and weights, without data or Trainer.

    Args:
        options: The task's arguments, as the checkpoint has them or changed.
        checkpoint: All that the file holds.
        path: The file, for the message.
        trust: Packages whose classes it may name besides those that every file may.

    Raises:
        UserError: If they cannot be built, or the weights do not fit.
    """
    task = build_task(options, checkpoint, path, build_net(options, path), trust)
    weights = checkpoint["state_dict"]
    check_weights(weights, task.state_dict(), path, strict=task.strict_loading)
    task.load_state_dict(weights, strict=task.strict_loading)
    return task
