"""Times a recipe's training step in the recipe's own Trainer, at one batch size after the other."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger

from datamodules.core.errors import refuse
from zoo.callbacks.checkpoints import Checkpoints
from zoo.callbacks.progress import Progress
from zoo.cli.cli import ZooCLI
from zoo.cli.messages import is_lightnings, refusal
from zoo.cli.request import Request, build_arguments
from zoo.cli.session import Session
from zoo.errors import UserError, is_out_of_memory
from zoo.run.csv_logger import MetricsCSV
from zoo.run.memory import clear_peak, peak_memory, release_memory, within_memory
from zoo.run.signals import stop
from zoo.run.threads import settle_threads
from zoo.studies.bench_clock import Part, StepClock, Timer, Window, WindowOver, timer_of
from zoo.tasks.base import Task

#: What a training is that is timed and never comes to its end.
_ENDLESS = {
    "trainer.max_epochs": 10**6,
    "trainer.max_steps": -1,
    "trainer.max_time": "null",
    "trainer.min_epochs": "null",
    "trainer.min_steps": "null",
    "trainer.fast_dev_run": "false",
    "trainer.limit_val_batches": 0,
}
#: Products of matrices that a rate is the best of.
_PRODUCTS = 6

Status = Literal["timed", "does not fit memory", "refused"]


class _Unsaved(Checkpoints):
    """Does at each step what a run does, but saves nothing; tells the clock its batches."""

    clock: StepClock

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Also keep the batch."""
        self.clock.batch = batch
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _save(self, trainer: L.Trainer, pl_module: LightningModule, name: str) -> None:
        """Nothing."""

    def on_exception(
        self, trainer: L.Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Go on listening where only a window is over, unless no command line listens."""
        if isinstance(exception, WindowOver):
            stop.graceful = False
            self.teardown(trainer, pl_module, "fit")
        else:
            super().on_exception(trainer, pl_module, exception)


class _Silent(Progress):
    """The progress of a run whose output goes to a file, without its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.disable()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""


class _BenchCLI(ZooCLI):
    """Builds what a run has, but nothing that outlasts it."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the Trainer with the loggers of a run, which write into a folder of this session.

        W&B's is left out, and no checkpoint is saved.
        """
        trainer: Any = super().instantiate_trainer(**kwargs)
        given = self.config_init["trainer"].get("logger")
        others = [
            logger
            for logger in (given if isinstance(given, list) else [given])
            if isinstance(logger, Logger) and not isinstance(logger, WandbLogger)
        ]
        trainer.loggers = [MetricsCSV(self.folder.path), *others]
        saved = self.config_init["checkpoint"]
        self.unsaved = _Unsaved(
            saved.monitor, saved.mode, saved.every_n_train_steps, saved.stop_seconds
        )
        stands_for = {Checkpoints: self.unsaved, Progress: _Silent()}
        trainer.callbacks = [stands_for.get(type(each), each) for each in trainer.callbacks]
        return trainer  # type: ignore[no-any-return]

    def _settle_threads(self, trainer: L.Trainer) -> None:
        """Nothing: all that is compared has the same number of them."""


@dataclass
class Measured:
    """What a recipe's step took at one batch size.

    Attributes:
        contender: The recipe, by its name.
        batch_size: Samples in a batch; None where the recipe's is not known.
        status: Whether it could be timed.
        windows: What was timed, one for each repeat.
        products: Operations a second of a product of matrices, just before each of them.
        flops: Operations of a step's forward and backward pass for each sample, or token.
        memory: Bytes at the peak.
        device: The kind of device, by torch's name.
        precision: The Trainer's.
        why: Why it was refused, in a sentence.
    """

    contender: str
    batch_size: int | None
    status: Status = "timed"
    windows: list[Window] = field(default_factory=list)
    products: list[float] = field(default_factory=list)
    flops: float | None = None
    memory: int | None = None
    device: str = "cpu"
    precision: str = "32-true"
    why: str = ""

    def times(self) -> list[float]:
        """Return each repeat's seconds of a sample, or token."""
        return [window.seconds / window.size for window in self.windows]

    def rates(self) -> list[float]:
        """Return each repeat's samples, or tokens, a second."""
        return [window.rate for window in self.windows]

    def part(self, part: Part) -> float:
        """Return the seconds of a part of the step."""
        return statistics.median(window.parts[part] for window in self.windows)

    def shares(self) -> list[float]:
        """Return each repeat's share of the product's rate; none where operations are unknown."""
        if self.flops is None:
            return []
        pairs = zip(self.rates(), self.products, strict=True)
        return [self.flops * rate / product for rate, product in pairs]


class Contender:
    """A recipe that is to be timed.

    Args:
        name: What it is called.
        request: Its command line.
    """

    def __init__(self, name: str, request: Request) -> None:
        self.name, self.request = name, request
        self._session: Session | None = None
        self._built: int | None = None

    def build(self, batch_size: int | None) -> None:
        """Build task, data and Trainer, unless they are there.

        Args:
            batch_size: Samples in a batch; None for the recipe's own.

        Raises:
            UserError: If something in them is the user's to put right.
        """
        if self._session is not None and self._built == batch_size:
            return
        self.close()
        torch.set_float32_matmul_precision("highest")
        size = {} if batch_size is None else {"data.batch_size": batch_size}
        flags = [f"--{name}={value}" for name, value in (size | _ENDLESS).items()]
        request = replace(self.request, flags=[*self.request.flags, *flags], quiet=True)
        self._session = Session()
        self.cli = _BenchCLI(request, build_arguments(request), self._session)
        self._built = batch_size
        self.root = Path(str(self.cli.config["trainer"]["default_root_dir"]))
        self.product_precision = torch.get_float32_matmul_precision()
        if not isinstance(self.cli.model, Task):
            raise refuse("model", type(self.cli.model).__name__, "bench takes a task of the zoo")

    def close(self) -> None:
        """Let go of what was built."""
        session, self._session = self._session, None
        if session is not None:
            session.finish(0)
            vars(self).pop("cli", None)  # it may not have come to be
            release_memory()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.cli.trainer.strategy.root_device

    @property
    def batch_size(self) -> int | None:
        """Samples in a batch; None where the data do not say, or say how many tokens instead."""
        data: Any = self.cli.datamodule
        by_tokens = getattr(data, "max_tokens", None) is not None
        size = getattr(data, "batch_size", None)
        return size if isinstance(size, int) and not by_tokens else None

    def check(self, batch_size: int) -> None:
        """Check that there is a batch of so many samples.

        Raises:
            OptionError: If there is none.
        """
        if self.batch_size is None:
            remedy = "leave it out, as the data tell the size of a batch otherwise"
            raise refuse("batch_size", batch_size, remedy)
        loader: Any = self.cli.datamodule.train_dataloader()
        samples = getattr(getattr(loader, "batch_sampler", None), "size", None)
        if isinstance(samples, int) and samples < batch_size:
            remedy = f"give {samples} or less, the training samples of {self.name}"
            raise refuse("batch_size", batch_size, remedy)

    def window(self, timer: Timer, *, counts: bool) -> tuple[Window, float | None]:
        """Train for a while, from the first batch on; return what steps took.

        Args:
            timer: The device's clock.
            counts: Whether operations are counted, too.

        Returns:
            The window, and the operations for each sample, or token.

        Raises:
            UserError: If there are no batches, or something else is the user's to put right.
        """
        trainer: Any = self.cli.trainer
        task = self.cli.model
        torch.set_float32_matmul_precision(self.product_precision)
        clock = StepClock(
            timer,
            self.batch_size,
            accumulated=trainer.accumulate_grad_batches,
            pad_id=getattr(self.cli.datamodule, "pad_id", None),
            counts=counts and not task.compile_net,  # what is compiled is not seen
        )
        trainer.profiler = self.cli.unsaved.clock = clock
        try:
            with self.blamed(), suppress(WindowOver):
                trainer.fit(task, self.cli.datamodule)
                raise refuse("trainer.limit_train_batches", 0, "give more, to have steps to time")
        finally:
            clock.close()
        if stop.asked:
            raise stop.interrupted()
        return clock.window(), clock.flops

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Say in which option the cause of an error lies.

        Raises:
            UserError: If it is the user's to put right.
        """
        try:
            yield
        except (ValueError, MisconfigurationException) as error:
            if not isinstance(error, UserError) and not is_lightnings(error):
                raise
            raise refusal(error, self.cli.config) from error


def measure(
    contenders: Sequence[Contender], sizes: Sequence[int], repeats: int
) -> Iterator[list[Measured]]:
    """Time some recipes at some batch sizes, at each in turns.

    Args:
        contenders: The recipes.
        sizes: Samples in a batch, rising; none for the recipes' own.
        repeats: How often each is timed.

    Yields:
        What was found at each size.

    Raises:
        UserError: If a recipe cannot be timed at any of the sizes.
    """
    found: list[Measured] = []
    if said := settle_threads():
        print(said, flush=True)
    try:
        for contender in contenders:  # what is wrong at any size shows before the first
            contender.build(sizes[-1] if sizes else None)
            if sizes:
                contender.check(sizes[-1])
        each_size: Sequence[int | None] = sizes or [None]
        for size in each_size:
            full = {each.contender for each in found if each.status == "does not fit memory"}
            results = [
                Measured(each.name, size, "does not fit memory" if each.name in full else "timed")
                for each in contenders
            ]
            _measure(contenders, results, repeats)
            found += results
            yield results
    finally:
        for contender in contenders:
            contender.close()
    for contender in contenders:
        own = [each for each in found if each.contender == contender.name]
        if not any(each.status == "timed" for each in own) and own[-1].why:
            raise UserError(own[-1].why)


def _measure(contenders: Sequence[Contender], results: list[Measured], repeats: int) -> None:
    """Time recipes at one batch size."""
    pairs = list(zip(contenders, results, strict=True))
    with within_memory():
        for contender, result in pairs:
            if result.status == "timed":
                with _noted(result):
                    contender.build(result.batch_size)
                    result.batch_size = result.batch_size or contender.batch_size
        for repeat in range(repeats):
            for contender, result in pairs if repeat % 2 == 0 else reversed(pairs):
                if result.status == "timed":
                    with _noted(result):
                        _time(contender, result)
    for contender in contenders:
        contender.close()


def _time(contender: Contender, result: Measured) -> None:
    """Add a repeat to what is known of a recipe."""
    device, first = contender.device, not result.windows
    timer, result.device = timer_of(device), device.type
    result.precision = str(contender.cli.trainer.precision)
    product = product_rate(device, type_of(result.precision), timer)
    if first:
        clear_peak(device)
    window, flops = contender.window(timer, counts=first)
    result.windows.append(window)
    result.products.append(product)
    if first:
        result.flops, result.memory = flops, peak_memory(device)


@contextmanager
def _noted(result: Measured) -> Iterator[None]:
    """Note what keeps a recipe from being timed."""
    try:
        yield
    except UserError as error:
        result.status, result.why = "refused", str(error)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        result.status = "does not fit memory"
    if result.status != "timed":
        release_memory()


def product_rate(device: torch.device, dtype: torch.dtype, timer: Timer) -> float:
    """Return the operations a second of a product of two large matrices, the best of several.

    Args:
        device: Where it is computed.
        dtype: What the matrices hold.
        timer: The device's clock.
    """
    side = 1024 if device.type == "cpu" else 8192
    matrix = torch.rand(side, side, device=device).to(dtype)
    product = matrix @ matrix
    marks = [timer.now()]
    for _ in range(_PRODUCTS):
        torch.mm(matrix, matrix, out=product)
        marks.append(timer.now())
    return 2.0 * side**3 / min(timer.seconds(marks))


def type_of(precision: str) -> torch.dtype:
    """Return the type that a run of a precision multiplies in.

    >>> type_of("bf16-mixed"), type_of("32-true")
    (torch.bfloat16, torch.float32)
    """
    types = {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}
    return types.get(precision.partition("-")[0], torch.float32)
