"""What a run has understood, as a short table before its first step and as plain data."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from datamodules.core.description import Description, SplitFacts
from datamodules.core.errors import listed, many
from datamodules.core.protocols import Described, data_of
from zoo.callbacks.average import too_short_for
from zoo.nets.cost import Cost
from zoo.nets.pretrained.encoder import PretrainedEncoder
from zoo.report.tables import columns_of, in_columns
from zoo.run.wandb_logger import active_wandb
from zoo.tasks.base import Task
from zoo.tasks.init_from import Taken
from zoo.tasks.text_classifier import TextClassifier

#: Columns of a terminal that the table fits into, and those that a split's classes may take of it.
_WIDTH, _CLASSES_WIDTH = 100, 44
_LONGEST_NAME = 24

#: Optimiser steps in which text nets without given vectors were about done on 5,000 short texts.
_STEPS_FOR_WORDS = 1000


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Attributes:
        batches: Batches in an epoch, of one process.
        accumulated: How many of them make a step.
        steps: Optimiser steps of the whole run; None where nothing ends it.
        epochs: None where steps or a time end the run.
    """

    batches: int
    accumulated: int
    steps: int | None
    epochs: int | None

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return -(-self.batches // self.accumulated)


def length_of(trainer: Trainer) -> Length:
    """Return how long a training that has begun will be; all processes have to ask."""
    steps, batches = trainer.estimated_stepping_batches, trainer.num_training_batches
    epochs = trainer.max_epochs
    return Length(
        batches=int(batches) if batches < float("inf") else 0,  # Lightning counts none as infinite
        accumulated=trainer.accumulate_grad_batches,
        steps=int(steps) if steps < float("inf") else None,
        epochs=epochs if epochs is not None and epochs > 0 else None,
    )


@dataclass(frozen=True)
class Understood:
    """What a run has understood of its options and data.

    Attributes:
        data: What the data say of themselves; None of somebody else's.
        net: The net's class.
        cost: What it costs; None where that was not measured.
        device: What it runs on.
        precision: The Trainer's.
        batch_size: Samples in a batch, if the data say.
        length: How long the training is; None of a test.
        notes: What is probably not as it was meant.
        taken: What the net took of another checkpoint's weights, if it did.
    """

    data: Description | None
    net: str
    cost: Cost | None
    device: str
    precision: str
    batch_size: int | None = None
    length: Length | None = None
    notes: list[str] = field(default_factory=list)
    taken: Taken | None = None

    def plain(self) -> dict[str, Any]:
        """Return the sections ``data`` and ``run`` of ``summary.json``."""
        run: dict[str, Any] = {"net": self.net, "on": self.device, "notes": self.notes}
        if self.length is not None:
            run |= {
                "epochs": self.length.epochs,
                "steps": self.length.steps,
                "steps_per_epoch": self.length.steps_per_epoch,
                "batch_size": self.batch_size,
            }
        taken = {"init_from": self.taken.plain()} if self.taken is not None else {}
        return {"data": self.data.plain() if self.data is not None else {}, "run": run} | taken

    def table(self) -> str:
        """Return the table, in lines of up to 100 columns."""
        rows: list[tuple[str, str]] = []
        splits: list[str] = []
        if self.data is not None:
            rows.append(("data", _headline(self.data)))
            splits = _split_lines(self.data)
            rows += [(fact.name.replace("_", " "), fact.text) for fact in self.data.facts]
        rows.append(("net", _net(self.net, self.cost)))
        rows += self.taken.rows() if self.taken is not None else []
        rows.append(("run", self._run()))
        rows += [("note", note) for note in self.notes]
        lines = in_lines(rows)
        first = 1 if self.data is not None else 0
        return "\n".join([*lines[:first], *splits, *lines[first:]])

    def _run(self) -> str:
        words = []
        if self.length is not None:
            words.append(_length(self.length))
            if self.batch_size is not None:
                words.append(f"batches of {self.batch_size:,}")
        where = f"{self.device}, precision {self.precision}"
        return "; ".join([", ".join(words), where]) if words else where


def understand(
    trainer: Trainer,
    model: LightningModule,
    cost: Cost | None,
    length: Length | None,
    taken: Taken | None = None,
) -> Understood:
    """Return what a run has understood, once its data are there.

    Args:
        trainer: The Trainer, which has its data.
        model: The task.
        cost: What its net costs.
        length: How long the training is; None of a test.
        taken: What the net took of another checkpoint's weights, if it did.
    """
    given = data_of(trainer)
    data = given.describe() if isinstance(given, Described) else None
    notes = [] if data is None else [*data.notes, *_missing_classes(data)]
    if length is not None:
        notes += too_short(model, length)
    return Understood(
        data=data,
        net=type(model.net if isinstance(model, Task) else model).__name__,
        cost=cost,
        device=_device(trainer),
        precision=str(trainer.precision),
        batch_size=getattr(given, "batch_size", None),
        length=length,
        notes=notes,
        taken=taken,
    )


class Telling(Callback):
    """Says what was understood, before the first step, on the terminal and to W&B.

    Args:
        silent: Whether the terminal is left out.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        #: What the net costs, once it is known.
        self.cost: Cost | None = None
        #: What the net took of another checkpoint's weights.
        self.taken: Taken | None = None
        self.understood: Understood | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell it before a training."""
        length = length_of(trainer)
        self._tell(trainer, pl_module, length)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell it before a validation that is no part of a training."""
        if trainer.state.fn == "validate":
            self._tell(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell it before a test that follows on no training."""
        if self.understood is None:
            self._tell(trainer, pl_module)

    def _tell(self, trainer: Trainer, model: LightningModule, length: Length | None = None) -> None:
        if not trainer.is_global_zero:
            return
        self.understood = understand(trainer, model, self.cost, length, self.taken)
        if not self.silent:
            print(self.understood.table(), flush=True)
        for wandb in active_wandb(trainer):
            wandb.log_hyperparams({"understood": self.understood.plain()})


def too_short(model: LightningModule, length: Length) -> list[str]:
    """Return a sentence for each option that a training is too short for."""
    notes = []
    if length.batches <= 2:
        batches = "1 batch" if length.batches == 1 else f"{length.batches:,} batches"
        notes.append(
            f"an epoch has {batches}: a smaller data.batch_size gives more steps, and validation "
            "after so few says little"
        )
    if not isinstance(model, Task) or length.steps is None:
        return notes
    if model.warmup_steps >= length.steps:
        notes.append(
            f"option model.warmup_steps is {model.warmup_steps:,}, but the run has "
            f"{many(length.steps, 'step')}: the learning rate never reaches model.lr; give "
            "fewer, or train longer"
        )
    if model.ema_decay is not None and too_short_for(model.ema_decay, length.steps):
        notes.append(
            f"option model.ema_decay is {model.ema_decay}, an average over "
            f"{1 / (1 - model.ema_decay):,.0f} steps, for which a run of {length.steps:,} is "
            "short: it reaches over the last ninth of the steps so far"
        )
    if _few_for_words(model, length):
        epochs = -(-_STEPS_FOR_WORDS // length.steps_per_epoch)
        notes.append(
            f"{many(length.steps, 'step')} for words that are learnt from nothing: recipes are "
            f"made for larger sets; --trainer.max_epochs {epochs} gives {_STEPS_FOR_WORDS:,}"
        )
    return notes


def _few_for_words(model: Task, length: Length) -> bool:
    """Tell whether a text classifier's own vectors of words hardly leave their random start."""
    own = isinstance(model, TextClassifier) and not isinstance(model.net, PretrainedEncoder)
    an_epoch, epochs = length.steps_per_epoch, length.epochs
    # A tiny set, or a part of one, is no better for being read a hundred times.
    if not own or epochs is None or an_epoch < _STEPS_FOR_WORDS / 50:
        return False
    return length.steps == epochs * an_epoch < _STEPS_FOR_WORDS / 2


def _missing_classes(data: Description) -> list[str]:
    notes = []
    for split, facts in data.splits.items():
        absent = [name for name, count in (facts.classes or {}).items() if not count]
        if absent:
            classes = "class" if len(absent) == 1 else "classes"
            notes.append(f"the {split} split has no {data.counted} of {classes} {listed(absent)}")
    return notes


def _headline(data: Description) -> str:
    classes = next((list(s.classes) for s in data.splits.values() if s.classes), [])
    text = data.name + (f" in {data.source}" if data.source else "")
    if not classes:
        return text
    text += f", {len(classes)} classes: "
    names, room = [], _WIDTH + 20 - columns_of(text)
    for name in map(_short, classes):
        names.append(name)
        if columns_of(", ".join(names)) > room and len(names) < len(classes):
            names[-1] = f"... ({len(classes) - len(names) + 1} more)"
            break
    return text + ", ".join(names)


def _split_lines(data: Description) -> list[str]:
    """Return a line a split, in columns."""
    rows = [["split", data.samples, "classes", "how it came to be"]]
    of_pixels = data.counted == "pixel"
    rows += [
        [split, f"{facts.size:,}", _counts(facts, as_shares=of_pixels), facts.origin]
        for split, facts in data.splits.items()
    ]
    if not any(row[2] for row in rows[1:]):
        rows = [[*row[:2], *row[3:]] for row in rows]
    heads = in_columns([row[:-1] for row in rows], right=[1])
    lines = []
    for head, row in zip(heads, rows, strict=True):
        lines += _hanging(f"  {head}  ", row[-1])
    return lines


def _counts(facts: SplitFacts, *, as_shares: bool) -> str:
    """Return each class's count, or of many classes the rarest's and the commonest's."""
    classes = facts.classes or {}
    total = sum(classes.values())

    def shown(name: str) -> str:
        count = classes[name]
        return f"{count / max(total, 1):.1%}" if as_shares else f"{count:,}"

    text = ", ".join(f"{_short(name)} {shown(name)}" for name in classes)
    if columns_of(text) <= _CLASSES_WIDTH:
        return text
    extremes = {"rarest": min, "commonest": max}
    found = {what: of(classes, key=classes.__getitem__) for what, of in extremes.items()}
    return ", ".join(f"{what} {_short(n, 14)}: {shown(n)}" for what, n in found.items())


def _net(name: str, cost: Cost | None) -> str:
    words = [name]
    if cost is not None:
        some = "" if cost.trained == cost.parameters else f" ({cost.trained:,} of them trained)"
        words.append(f"{cost.parameters:,} parameters{some}")
        if cost.flops is not None:
            sample = "sample" if cost.tokens is None else f"text of {many(cost.tokens, 'token')}"
            words.append(f"{readable(cost.flops)}FLOPs a {sample}")
    return ", ".join(words)


def _length(length: Length) -> str:
    of, epochs, steps = length.steps_per_epoch, length.epochs, length.steps
    an_epoch = f"{many(of, 'step')}"
    if length.accumulated > 1:
        an_epoch += f" (of {length.accumulated} batches each)"
    if epochs is None or (steps is not None and steps < epochs * of):  # steps or a time end it
        return f"{many(steps, 'step') if steps is not None else 'no end'}, {an_epoch} an epoch"
    all_steps = f", {steps:,} in all" if steps is not None and epochs > 1 else ""
    return f"{many(epochs, 'epoch')} of {an_epoch}{all_steps}"


def _device(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    name = device.type
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        name = "CPU (1 thread)" if threads == 1 else f"CPU ({threads} threads)"
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"


def readable(number: float) -> str:
    """Return a large number with its unit, in three digits.

    >>> [readable(number) for number in (12, 3400, 5.67e9)]
    ['12 ', '3.4 k ', '5.67 G ']
    """
    for unit in ("", "k ", "M ", "G ", "T "):
        if number < 1000:
            return f"{number:.3g} {unit}".replace("  ", " ")
        number /= 1000
    return f"{number:.3g} P"


def _short(name: str, most: int = _LONGEST_NAME) -> str:
    """Return a class's name in one line, without the end of a long one."""
    line = " ".join(str(name).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def in_lines(rows: list[tuple[str, str]]) -> list[str]:
    """Return names with what is said of each, in lines of up to 100 columns; no empty ones.

    Args:
        rows: Name and text.

    Returns:
        A text for each row, which may have several lines.
    """
    rows = [(name, text) for name, text in rows if text]
    width = max((len(name) for name, _ in rows), default=0)
    return ["\n".join(_hanging(f"{name:<{width}}  ", text)) for name, text in rows]


def _hanging(head: str, text: str) -> list[str]:
    """Return a text in lines, behind a head that stands once."""
    indent = " " * columns_of(head)
    room = max(_WIDTH - len(indent), 12)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [(head if number == 0 else indent) + line for number, line in enumerate(lines)]
