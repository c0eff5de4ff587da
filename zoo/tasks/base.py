"""What every task shares: optimisation by plain hyperparameters, exact figures, checkpoints."""

from __future__ import annotations

import inspect
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import lightning as L
import numpy as np
import torch
from jsonargparse import ArgumentError
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import instantiate_module
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor, distributed, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric, MetricCollection
from torchmetrics.aggregation import MeanMetric

from datamodules.core.errors import (
    OptionError,
    above,
    at_least,
    between,
    blamed,
    refuse,
    refuse_unused,
)
from datamodules.core.options import public_path
from datamodules.core.private import is_built_by_command_line
from datamodules.core.protocols import (
    GivesTuples,
    SupportsClassWeights,
    SupportsMarks,
    SupportsRebuilding,
    data_of,
    sample_numbers,
)
from zoo.callbacks.average import WeightAverage
from zoo.callbacks.train_log import TrainLog
from zoo.errors import NonFiniteLoss, UserError
from zoo.losses.base import LabelKind
from zoo.losses.logits import check_logits
from zoo.metrics.intervals import Intervals
from zoo.nets.outputs import check_shape
from zoo.nets.protocols import HasAdapter
from zoo.optim.optimizers import OptimizerName, build_optimizer, clip_adaptively, parameter_groups
from zoo.optim.schedules import ScheduleName, lr_factor, restore_hyperparameters
from zoo.run.checkpoint import LAYOUT, read_checkpoint
from zoo.run.lone_trainer import lone_trainer
from zoo.run.precision import choose_precision
from zoo.run.trust import trusting
from zoo.run.weights_file import is_weights_file
from zoo.tasks.logged import Logged
from zoo.tasks.meters import Meters, TrainSums, exact_type
from zoo.tasks.net_spec import (
    HEAD_NAMES,
    accepted_arguments,
    builders_fit_data,
    head_parameters,
    net_spec,
)
from zoo.version import __version__

Stage = Literal["val", "test"]

CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]

#: Said where a strategy shards the weights: average, clipping, Muon and checkpoint take them whole.
UNSHARDED = "give ddp, as each process needs the whole net"

# Where a step's mean is taken at its end, sums of losses are handed to the backward pass in this
# unit: as they are, their gradients could leave the range of half precision. It cancels.
_UNIT = 1024.0


class Task(L.LightningModule):
    """Base of all tasks: takes a net, and owns its optimisation and its figures.

    A task defines the training and evaluation steps and, in :meth:`build_metrics`, its metrics.
    In training it calls :meth:`log_training`, which keeps sums on the device: nothing is copied to
    the host between two log points. The loss is watched there, and a loss that is not finite stops
    the run with the step at which it was seen first.

    All randomness of a step (dropout, MixUp) comes from torch's generators, which are seeded anew
    before each step from (seed, epoch, batch, process): a run that goes on from a checkpoint draws
    what the uninterrupted run draws.

    Args:
        net: Any module whose ``forward`` fits the task.
        optimizer: ``adamw`` (arXiv 1711.05101), ``adam`` (1412.6980), ``sgd`` with Nesterov
            momentum, ``rmsprop``, or ``muon`` for matrices and filters with AdamW for the rest.
        lr: Learning rate at its highest; left out: 0.001 for adamw, adam and rmsprop, 0.1 for sgd,
            0.002 for muon.
        weight_decay: Left out: 0.01 for adamw and muon, 0.0005 for sgd, 0 for adam and rmsprop.
            Norms and biases have none.
        momentum: Momentum of sgd (left out: 0.9), muon (0.95) and rmsprop (0), beta 1 of adamw and
            adam (0.9).
        beta2: Of all but sgd (of muon's part that AdamW trains): how long squared gradients are
            remembered; left out: 0.999, of rmsprop 0.99; language models often take 0.95.
        schedule: How the learning rate falls, step by step, after the warm-up.
        warmup_steps: Optimiser steps of linear warm-up.
        milestones: Of ``step``: fractions of the run at which the rate falls by ``gamma``.
        gamma: Of ``step``: the factor at each milestone.
        ema_decay: Keeps an exponential moving average of the weights with this decay, which is what
            is validated, tested and saved. It reaches over about ``1 / (1 - ema_decay)`` steps, and
            at most over the last ninth of the steps so far. Left out: no average.
        adaptive_clip: Keeps each unit's gradient below this share of the unit's weights
            (arXiv 2102.06171, where it is 0.01), as nets without norms need. Left out: no clipping.
        freeze: ``backbone`` trains the last layers alone: the others keep their weights, and their
            batch norms the running averages.
        backbone_lr_factor: Factor on the learning rate of all but the last layers, below 1 for
            pretrained weights.
        compile: Trains through ``torch.compile``: faster on a GPU after a minute or two of
            compilation, rarely worth it on a CPU.
        compile_mode: How hard the compiler tries; see ``torch.compile``.

    Raises:
        OptionError: If an option lies outside what it may be, or it is not known which layers of
            the net are the last.
    """

    #: The metric that picks the best checkpoint, and whether more or less of it is better.
    monitor: ClassVar[str] = "val/loss"
    mode: ClassVar[Literal["min", "max"]] = "min"
    #: Whether a compiled net expects other shapes than the first's; None: from the second one on.
    has_dynamic_shapes: ClassVar[bool | None] = None
    #: What its runs log.
    logged: ClassVar[Logged] = Logged()
    #: Names of the validation's figures that :meth:`derived_metrics` gives.
    derived_names: tuple[str, ...] = ()

    def __init__(
        self,
        net: nn.Module,
        *,
        optimizer: OptimizerName = "adamw",
        lr: float | None = None,
        weight_decay: float | None = None,
        momentum: float | None = None,
        beta2: float | None = None,
        schedule: ScheduleName = "cosine",
        warmup_steps: int = 0,
        milestones: list[float] | None = None,
        gamma: float = 0.1,
        ema_decay: float | None = None,
        adaptive_clip: float | None = None,
        freeze: Literal["none", "backbone"] = "none",
        backbone_lr_factor: float = 1.0,
        compile: bool = False,
        compile_mode: CompileMode = "default",
    ) -> None:
        super().__init__()
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if value is not None:
                at_least(name, value, 0)
        for name, value in (("momentum", momentum), ("beta2", beta2)):
            if value is not None:
                between(name, value, inclusive=False)
        at_least("warmup_steps", warmup_steps, 0)
        at_least("gamma", gamma, 0)
        if not all(0 < milestone < 1 for milestone in milestones or []):
            raise refuse("milestones", milestones, "give fractions of the run, between 0 and 1")
        refuse_unused("milestones", milestones, None, schedule, "step")
        refuse_unused("gamma", gamma, 0.1, schedule, "step")
        refuse_unused("beta2", beta2, None, optimizer, "adamw", "adam", "rmsprop", "muon")
        if ema_decay is not None and not 0 < ema_decay < 1:
            raise refuse("ema_decay", ema_decay, "give a number between 0 and 1, 0.999 say")
        if adaptive_clip is not None:
            above("adaptive_clip", adaptive_clip)
        at_least("backbone_lr_factor", backbone_lr_factor, 0)
        # From the command line these are the recipe's words, the net's specification included; in
        # Python they would be the net itself, which is no plain data.
        from_recipe = is_built_by_command_line()
        self.save_hyperparameters(ignore=[] if from_recipe else ["net"], logger=False)
        self.net = net
        self.optimizer_name: OptimizerName = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.beta2 = beta2
        self.schedule: ScheduleName = schedule
        self.warmup_steps = warmup_steps
        self.milestones = tuple(milestones or (0.5, 0.75))
        self.gamma = gamma
        self.ema_decay = ema_decay
        self.adaptive_clip = adaptive_clip
        self.backbone_is_frozen = freeze == "backbone"
        self.backbone_lr_factor = backbone_lr_factor
        self.compile_net = compile
        self.compile_mode = compile_mode
        needs_head = freeze == "backbone" or backbone_lr_factor != 1
        self.head = head_parameters(net) if needs_head or adaptive_clip else set()
        if needs_head and not self.head:
            option = "freeze" if self.backbone_is_frozen else "backbone_lr_factor"
            raise refuse(
                option,
                freeze if self.backbone_is_frozen else backbone_lr_factor,
                f"leave it out, as {type(net).__name__} has no last layer named "
                f"{', '.join(HEAD_NAMES)}, or give the net an attribute head_names",
            )
        if freeze == "backbone":
            if isinstance(net, HasAdapter) and net.lora:
                raise refuse(
                    "freeze",
                    freeze,
                    "leave it out: it would freeze the adapters of lora too, which trains nothing "
                    "else of the backbone",
                )
            for name, parameter in net.named_parameters():
                if name not in self.head:
                    parameter.requires_grad_(False)
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        self.train_sums = TrainSums()
        self.meters: dict[Stage, Meters] = {}
        #: The tensors that started from another checkpoint's weights, by name.
        self.taken: frozenset[str] = frozenset()
        self.test_artifacts: dict[str, Any] = {}
        #: The figures of the evaluation that ended last, as they were before a logger's float32.
        self.figures: dict[str, float] = {}
        #: How far a test's figures may lie from those of other samples; the first process's.
        self.test_intervals: Intervals | None = None
        self._configured: list[dict[str, Any]] = []
        # Optimiser steps that the schedule is laid out for: in this run, and in the one that it
        # goes on from.
        self._total_steps = 0
        self._earlier_total_steps: int | None = None
        self._trained_in: str | None = None
        self._step_weight: int | Tensor = 0

    def __repr__(self) -> str:
        """Return what the task is, in a line; its ``net`` shows its layers."""
        parameters = sum(parameter.numel() for parameter in self.net.parameters())
        words = [f"{type(self.net).__name__} of {parameters:,} parameters", self.optimizer_name]
        words += [f"lr {self.lr}"] if self.lr is not None else []
        words += [self.schedule, f"{self.mode} of {self.monitor}"]
        return f"{type(self).__name__}({', '.join(words)})"

    def build_metrics(self, stage: Stage) -> MetricCollection:
        """Return the metrics of a stage, without the loss.

        Called once the data's facts are known.
        """
        return MetricCollection({})

    def build_collectors(self, stage: Stage) -> dict[str, Metric]:
        """Return what else is kept of a stage: what pictures are drawn from, by their names."""
        return {}

    def derived_metrics(self, stage: Stage, artifacts: dict[str, Any]) -> dict[str, float]:
        """Return more figures of a stage, from what its collectors gave.

        Takes out of ``artifacts`` what no picture needs; a test's rest is ``test_artifacts``.
        """
        return {}

    def intervals(self, figures: dict[str, float], artifacts: dict[str, Any]) -> Intervals | None:
        """Return the intervals of a test's figures; None where it has none.

        Args:
            figures: The figures, without the stage's name.
            artifacts: What the collectors gave, after :meth:`derived_metrics`.
        """
        return None

    def training_loss_options(self) -> list[str]:
        """Return the options by which the training loss is another one than validation's."""
        return []

    # ---------------------------------------------------------------- optimisation

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule; the schedule is stepped at every optimiser step.

        Raises:
            UserError: If there is nothing to train, or no end for a schedule that needs one.
        """
        if not any(parameter.requires_grad for parameter in self.net.parameters()):
            raise UserError(
                f"option model.net: {type(self.net).__name__} has no parameter that is trained "
                "(requires_grad is false throughout); unfreeze some, or choose another net"
            )
        total = self.trainer.estimated_stepping_batches
        if total in (float("inf"), 0):
            if self.schedule != "constant":
                raise refuse(
                    "model.schedule",
                    self.schedule,
                    "give constant, or say where training ends: trainer.max_epochs or max_steps",
                )
            total = 1
        self._total_steps = int(total)
        optimizer = build_optimizer(
            self.net,
            self.optimizer_name,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            beta2=self.beta2,
            lr_factors=self.lr_factors(),
            exclude_from_muon=self.exclude_from_muon(),
        )
        schedule = LambdaLR(
            optimizer,
            lambda step: lr_factor(
                self.schedule,
                step,
                total_steps=self._total_steps,
                warmup_steps=self.warmup_steps,
                milestones=self.milestones,
                gamma=self.gamma,
            ),
        )
        self._configured = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def lr_factors(self) -> dict[str, float]:
        """Return factors on the learning rate by the names of the net's parameters."""
        if self.backbone_lr_factor == 1:
            return {}
        named = self.net.named_parameters()
        return {name: self.backbone_lr_factor for name, _ in named if name not in self.head}

    def exclude_from_muon(self) -> set[str]:
        """Return the parameters that Muon leaves to AdamW, by name."""
        if self.optimizer_name != "muon":
            return set()
        owned = {id(p) for module in self.modules_without_muon() for p in module.parameters()}
        owned |= {id(p) for name, p in self.net.named_parameters() if not _is_matrix(name)}
        head = head_parameters(self.net)
        return {n for n, p in self.net.named_parameters() if id(p) in owned or n in head}

    def modules_without_muon(self) -> list[nn.Module]:
        """Return the modules that Muon is of no use to: embeddings, whose rows stand for tokens."""
        return [m for m in self.net.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]

    def configure_callbacks(self) -> list[Callback]:
        """Return the training log, and the weights' moving average where it is asked for."""
        has_log = any(isinstance(callback, TrainLog) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        callbacks: list[Callback] = [] if has_log else [TrainLog()]
        if self.ema_decay is not None:
            callbacks.append(WeightAverage(self.ema_decay))
        return callbacks

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip adaptively where that is asked for, and then as the Trainer's options say."""
        if self.adaptive_clip is not None:
            named = self.net.named_parameters()
            clipped = [parameter for name, parameter in named if name not in self.head]
            clip_adaptively(clipped, self.adaptive_clip)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_start(self) -> None:
        """Let this run's hyperparameters win over those of the checkpoint that it goes on from."""
        self._step_weight = 0  # an earlier run may have ended within a step
        optimizer, schedule = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        if isinstance(optimizer, torch.optim.Optimizer) and isinstance(schedule, LambdaLR):
            before = max(group["lr"] for group in optimizer.param_groups)
            restore_hyperparameters(optimizer, schedule, self._configured)
            now = max(group["lr"] for group in optimizer.param_groups)
            if self.global_step and self.trainer.is_global_zero:
                self._tell_changed_rate(before, now)

    def _tell_changed_rate(self, before: float, now: float) -> None:
        """Say it where a run does not go on at the rates that were laid out before."""
        steps, earlier = self._total_steps, self._earlier_total_steps
        stretched = self.schedule != "constant" and earlier not in (None, steps)
        jumps = not math.isclose(before, now, rel_tol=1e-9)
        if stretched or jumps:
            end = f"{self.schedule} now ends at step {steps}, not {earlier}: " if stretched else ""
            came_to = f", where it had come to {before:.3g}" if jumps else ""
            print(f"{end}the learning rate goes on at {now:.3g}{came_to}", flush=True)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step's randomness by its place in the run."""
        step = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        words = np.random.SeedSequence(step).generate_state(1, np.uint64)
        # torch.manual_seed would also queue a seed, with a formatted stack trace, for each kind of
        # device that is not there, which takes longer than a small net's step.
        torch.default_generator.manual_seed(int(words[0]))
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(int(words[0]))

    def share_of_step(self, loss: Tensor, weight: int | Tensor) -> Tensor:
        """Return a batch's mean loss as its share of the mean over a whole optimiser step.

        That is over all batches which are accumulated, and all processes, however unevenly samples
        are spread among them: 4 batches of 8 have the gradient of one of 32.

        Args:
            loss: The batch's mean loss.
            weight: What the mean is over: how many samples, tokens or pixels, or the sum of their
                weights.
        """
        if self.trainer.accumulate_grad_batches == 1 and self.trainer.world_size == 1:
            return loss
        # How much the whole step weighs is known at its end alone: `on_before_optimizer_step`
        # divides by it.
        self._step_weight = self._step_weight + weight
        return loss * weight * (self.trainer.accumulate_grad_batches / _UNIT)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Turn the gradient of the step's summed loss into that of its mean."""
        weight, self._step_weight = self._step_weight, 0
        if isinstance(weight, int) and weight == 0:  # the batch's mean was the step's
            return
        exact = torch.as_tensor(weight, dtype=exact_type(self.device), device=self.device)
        total = self._over_processes(exact.reshape(1), "sum")
        # The processes' gradients have been averaged.
        factor = torch.where(total > 0, _UNIT * self.trainer.world_size / total, 0.0)
        for parameter in self.net.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor.to(parameter.grad))

    def on_train_epoch_start(self) -> None:
        """Keep the running averages of a frozen backbone."""
        if self.backbone_is_frozen:
            for name, module in self.net.named_modules():
                in_head = any(head.startswith(f"{name}.") for head in self.head)
                averages = "running_mean" in dict(module.named_buffers(recurse=False))
                if averages and not in_head:
                    module.eval()

    # ---------------------------------------------------------------- figures

    def setup(self, stage: str) -> None:
        """Build the metrics of the stages to come; a training starts counting anew.

        Raises:
            OptionError: If the data give less than a task needs, or a strategy shards the weights.
        """
        data = data_of(self.trainer)
        if isinstance(data, GivesTuples) and data.as_tuple:
            remedy = "leave it out: a task of the zoo takes all that a batch holds"
            raise refuse("data.as_tuple", True, remedy)
        if stage in ("fit", "validate"):
            self._build_meters("val")
        if stage == "test":
            self._build_meters("test")
        if stage == "fit":  # a checkpoint to go on from is read later
            self.train_sums = TrainSums()
            strategy = self.trainer.strategy
            if isinstance(strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy):
                raise refuse("trainer.strategy", type(strategy).__name__, UNSHARDED)
            if self.compile_net:
                self.compile_parts()

    def compile_parts(self) -> None:
        """Compile what the training step calls."""
        self.net.compile(mode=self.compile_mode, dynamic=self.has_dynamic_shapes)

    def _build_meters(self, stage: Stage) -> None:
        metrics, collectors = self.build_metrics(stage), self.build_collectors(stage)
        self.meters[stage] = Meters(MeanMetric(), metrics, collectors)

    def evaluate(self, data: L.LightningDataModule | Iterable[Any]) -> dict[str, float]:
        """Return the test's figures, without a Trainer of one's own: those of ``zoo test``.

        They are computed where the weights lie, in the precision of the training, where the device
        has it; in float32 without one. Of a data module the test split is taken.

        Args:
            data: A data module, or batches as the task takes them, a DataLoader say.
        """
        module = data if isinstance(data, L.LightningDataModule) else None
        loader = data if module is None else None
        place = self.device
        began_with = self._trained_in if self._trainer is None else str(self.trainer.precision)
        precision = "32-true"
        if began_with is not None:
            precision = choose_precision(self.net, place.type, began_with, goes_on=False)
        with lone_trainer(self, place, precision) as trainer:
            found = trainer.test(
                self,
                datamodule=module,
                # a list would be one of loaders
                dataloaders=iter(data) if isinstance(data, list | tuple) else loader,
                verbose=False,
            )
        return {name.removeprefix("test/"): value for name, value in found[0].items()}

    def add_batch(self, stage: Stage, batch: Any) -> Any:
        """Add one batch to the figures of a stage; a task must say how."""
        raise NotImplementedError

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add one batch to the validation figures."""
        self.add_batch("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add one batch to the test figures."""
        self.add_batch("test", batch)

    def on_validation_epoch_start(self) -> None:
        """Bring the metrics to the device."""
        self.meters["val"].to(self.device)

    def on_test_epoch_start(self) -> None:
        """Bring the metrics to the device."""
        self.meters["test"].to(self.device)

    def log_training(
        self,
        loss: Tensor,
        count: int | Tensor,
        weight: int | Tensor | None = None,
        **correct: Tensor,
    ) -> None:
        """Add a training batch to the running figures, on the device.

        Args:
            loss: The batch's mean loss.
            count: How many samples the batch has; a tensor where the host does not know.
            weight: What the mean is over, where it is not samples: the sum of their weights, say.
            correct: Sums over the batch by metric name, such as the number of correct answers.
        """
        weight = count if weight is None else weight
        self.train_sums.add(loss.detach(), count, weight, self.trainer.global_step + 1, correct)

    def check_logits(self, logits: Tensor, label_kind: LabelKind, shape: tuple[int, ...]) -> None:
        """Refuse a net that ends in softmax or sigmoid.

        Args:
            logits: What the net gave, ``(B, ...)``.
            label_kind: What the labels are.
            shape: What it should have given for a sample.

        Raises:
            UserError: If it has another shape, or looks like probabilities.
        """
        check_shape(logits, shape, self.net)
        try:
            check_logits(logits, label_kind)
        except ValueError as error:
            raise blamed("model.net", error) from error

    def train_figures(self, since: Literal["log", "epoch"]) -> tuple[dict[str, float], float]:
        """Return means since the last log point or over the epoch so far, over all processes.

        This is where the device is waited for, and where a loss that was not finite is noticed.

        Returns:
            The means, and how many samples they are of.

        Raises:
            NonFiniteLoss: If a training loss since the start was not finite.
        """
        figures, count, first_bad = self.train_sums.figures(since, self._over_processes)
        if first_bad is not None:
            raise NonFiniteLoss("train/loss", first_bad, by_training=first_bad > 1)
        return {f"train/{name}": value for name, value in figures.items()}, count

    def take_train_figures(self, since: Literal["log", "epoch"]) -> tuple[dict[str, float], float]:
        """Return the :meth:`train_figures`, and start counting anew."""
        figures = self.train_figures(since)
        self.train_sums.restart(since)
        return figures

    def throughput(self, seen: float, seconds: float) -> dict[str, float]:
        """Return how fast training was, from the samples seen between two log points."""
        return {"time/samples_per_s": seen / seconds}

    def check_finite(self) -> None:
        """Raise :class:`~zoo.errors.NonFiniteLoss` if a training loss was not finite."""
        self.train_figures("epoch")

    def _over_processes(self, values: Tensor, op: Literal["sum", "min"]) -> Tensor:
        if self.trainer.world_size == 1:
            return values
        # Of a copy: it works in place, and so does the strategy's `reduce`, behind a barrier.
        total = values.to(self.device, copy=True)
        distributed.all_reduce(total, getattr(distributed.ReduceOp, op.upper()))
        return total

    def on_validation_epoch_end(self) -> None:
        """Compute the validation figures over all processes and hand them to the callbacks."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Compute the test figures over all processes."""
        self._finish("test")

    def _finish(self, stage: Stage) -> None:
        meters = self.meters[stage]
        loss = float(meters.loss.compute())
        if not np.isfinite(loss):
            meters.reset()
            self.check_finite()  # a training loss of this epoch may have been the first
            weights = [*self.net.parameters(), *self.net.buffers()]
            sound = all(bool(weight.isfinite().all()) for weight in weights)
            raise NonFiniteLoss(f"{stage}/loss", self.trainer.global_step, by_training=not sound)
        artifacts = {name: each.compute() for name, each in meters.collectors.items()}
        found: dict[str, Any] = {f"{stage}/loss": loss, **meters.metrics.compute()}
        found |= self.derived_metrics(stage, artifacts)
        figures = self.figures = {name: float(value) for name, value in found.items()}
        if stage == "test":
            self.test_artifacts = artifacts
            if self.trainer.is_global_zero:
                names = {name.removeprefix("test/"): value for name, value in figures.items()}
                self.test_intervals = self.intervals(names, artifacts)
        meters.reset()
        # While training, the loggers get these from TrainLog, under the step it counts by.
        self.log_dict(figures, logger=self.trainer.state.fn != "fit")

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the file needs to stand on its own, as plain data."""
        hparams = dict(checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY) or {})
        hparams = {name: value for name, value in hparams.items() if name in self._arguments()}
        spec = self.net_spec()
        if spec is not None:
            hparams["net"] = spec
        hparams["_class_path"] = public_path(type(self))
        hparams["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = hparams
        facts: dict[str, Any] = {
            "version": __version__,
            "layout": LAYOUT,
            "monitor": self.monitor,
            "precision": str(self.trainer.precision),
            "threads": torch.get_num_threads(),
            "total_steps": self._total_steps,
            "train_sums": self.train_sums.state(self._over_processes),
        }
        if isinstance(data := data_of(self.trainer), SupportsRebuilding):
            facts["data"] = data.resolved()
            facts["inputs"] = data.inputs_spec()
        if isinstance(data, SupportsMarks):
            facts["data_marks"] = data.marks()
        checkpoint["zoo"] = facts

    def net_spec(self) -> dict[str, Any] | None:
        """Return class path and arguments of the net, where they are known."""
        spec = net_spec(self.net) or self.hparams.get("net")
        if spec is None:
            return None
        taken = accepted_arguments(spec["class_path"])
        kept = {name: value for name, value in spec["init_args"].items() if name in taken}
        return {**spec, "init_args": kept}

    def _arguments(self) -> set[str]:
        """Return the names of the constructors' arguments; the command line records more."""
        classes = [c for c in type(self).__mro__ if issubclass(c, Task)]
        return {name for c in classes for name in inspect.signature(c.__init__).parameters}

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights as torch does.

        Raises:
            UserError: If the net refuses them: an adapter for another base model, say.
        """
        try:
            return super().load_state_dict(*args, **kwargs)
        except OptionError as error:
            raise error.inside("model.net") from error

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the running figures of the epoch that the checkpoint lies in.

        Raises:
            UserError: If training is to go on with another optimiser, whose state is not there.
        """
        saved = (checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY) or {}).get("optimizer")
        training = self._trainer is not None and self.trainer.state.fn == "fit"
        if training and saved not in (None, self.optimizer_name):
            raise refuse(
                "model.optimizer",
                self.optimizer_name,
                f"go on with {saved!r}, whose state the checkpoint holds, or start anew without "
                "ckpt_path",
            )
        if training:
            self._check_groups(checkpoint)
            self._earlier_total_steps = checkpoint.get("zoo", {}).get("total_steps")
        self._trained_in = checkpoint.get("zoo", {}).get("precision")
        state = checkpoint.get("zoo", {}).get("train_sums")
        if state is not None:
            self.train_sums = TrainSums(state if self.global_rank == 0 else None)

    def _check_groups(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on where other weights are trained, or at other rates to each other."""
        groups = parameter_groups(self.net, 0.0, self.lr_factors(), self.exclude_from_muon())
        ours = sorted(len(group["params"]) for group in groups)
        for state in checkpoint.get("optimizer_states", []):
            theirs = sorted(len(group["params"]) for group in state["param_groups"])
            if ours != theirs:
                raise UserError(
                    "the checkpoint's optimiser trains other weights than this run, or at other "
                    "rates to each other; leave freeze, backbone_lr_factor and layer_lr_decay as "
                    "they were, or start anew without ckpt_path"
                )

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str,
        map_location: Any = None,
        *,
        trust: Sequence[str] = (),
        **kwargs: Any,
    ) -> Any:
        """Rebuild the task with its net from a checkpoint file.

        The file may name what a recipe may, and nothing else of it is imported or called.

        Args:
            checkpoint_path: A local file; only plain data is read.
            map_location: Where the weights go, as for ``torch.load``.
            trust: Packages whose classes it may name too, as ``--trust`` of the command line.
            kwargs: Constructor arguments that replace the saved ones; ``net=`` is required where
                the checkpoint was made in Python around a net that does not record its arguments.

        Raises:
            UserError: If the file cannot be read, it needs ``net=``, or names what is not trusted.
        """
        hparams = read_checkpoint(checkpoint_path).get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {})
        if "net" not in hparams and "net" not in kwargs:
            raise UserError(
                f"{str(checkpoint_path)!r} was saved around a net that does not record how it was "
                "made; build that net again and pass it: load_from_checkpoint(path, net=...)"
            )
        if "net" in kwargs:  # a plain construction: the saved specification of the net is not used
            checkpoint = read_checkpoint(checkpoint_path, map_location or "cpu")
            saved = {k: v for k, v in hparams.items() if not k.startswith("_") and k != "net"}
            task = cls(**{**saved, **kwargs})
            task.load_state_dict(checkpoint["state_dict"])
            task.on_load_checkpoint(checkpoint)
            return task
        source: Any = checkpoint_path
        if is_weights_file(checkpoint_path):  # which Lightning knows in its own form alone
            source = io.BytesIO()
            torch.save(read_checkpoint(checkpoint_path), source)
            source.seek(0)
        with builders_fit_data(print), trusting(trust, str(checkpoint_path)):
            return super().load_from_checkpoint(
                source, map_location=map_location, weights_only=True, **kwargs
            )


def task_of_hyperparameters(options: Mapping[str, Any], path: str, trust: Sequence[str]) -> Task:
    """Return a task as a checkpoint says that it is built, without its weights.

    Args:
        options: The checkpoint's hyperparameters; they name task and net.
        path: Its file, for the message.
        trust: Packages whose classes it may name besides those that a recipe may.

    Raises:
        UserError: If it names something else, or its arguments do not fit.
    """
    given = {name: value for name, value in options.items() if name != "_instantiator"}
    try:
        with builders_fit_data(print), trusting(trust, path):
            task: Task = instantiate_module(Task, given)
    except UserError:
        raise
    except (ArgumentError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        remedy = f"its task cannot be built ({reason}): give a file that `fit` saved"
        raise refuse("ckpt_path", path, remedy) from error
    return task


def _is_matrix(name: str) -> bool:
    """Whether a parameter multiplies, by its name; a position or a class token is added to."""
    return "weight" in "".join(name.rsplit(".", 2)[-2:])


def given_weights(
    class_weights: list[float] | Literal["auto"] | None, num_classes: int
) -> Tensor | None:
    """Return the weights of classes that an option gives as numbers.

    Raises:
        OptionError: If there are not as many as classes.
    """
    if class_weights is None or class_weights == "auto":
        return None
    if len(class_weights) != num_classes:
        raise refuse(
            "class_weights", class_weights, f"give {num_classes} numbers, one for each class"
        )
    return torch.tensor(class_weights)


def weights_of_data(trainer: L.Trainer, num_classes: int, device: torch.device) -> Tensor:
    """Return weights of classes from the training split.

    Raises:
        OptionError: If the data module does not count its classes.
    """
    data = data_of(trainer)
    if not isinstance(data, SupportsClassWeights):
        raise refuse(
            "model.class_weights",
            "auto",
            f"give {num_classes} numbers, as only a data module of the zoo counts its classes",
        )
    return torch.tensor(data.class_weights(), device=device)


def numbers_of(batch: Any, samples: Tensor) -> Tensor:
    """Return the numbers ``(B,)`` of a batch's samples, -1 where the data does not count them.

    Args:
        batch: What the data gave.
        samples: Something of each sample, ``(B, ...)``.
    """
    numbers = sample_numbers(batch)
    unknown = samples.new_full(samples.shape[:1], -1, dtype=torch.int64)
    return unknown if numbers is None else numbers


def numbered(batch: Any, **predictions: Any) -> dict[str, Any]:
    """Return predictions and, where the data counts its samples, their numbers as ``index``."""
    numbers = sample_numbers(batch)
    return predictions if numbers is None else {**predictions, "index": numbers}
