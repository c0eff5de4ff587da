"""What all data share: options, and loaders of batches that are gathered by number."""

import inspect
import warnings
from collections.abc import Iterable
from typing import Any, ClassVar

import torch

from datamodules.core.errors import at_least
from datamodules.core.options import plain, public_path
from datamodules.core.protocols import HasClassNames, HasInputShape
from datamodules.core.sampling import EpochBatches, PositionedLoader, as_is, torch_generator

#: Classes that ``repr`` names.
_MOST_NAMES = 5


class ArrayData:
    """Batches that are gathered by number, shared among the processes.

    Plain Python: :class:`~datamodules.core.module.ArrayDataModule` makes data modules of it, which
    a Trainer takes, and the ``Inputs`` of each room prepare what a trained net is asked about.

    Every constructor argument of a subclass is kept under its own name; ``resolved`` relies on it.
    A subclass names what prepares raw files as it does its own; ``inputs_spec`` relies on that.

    Args:
        batch_size: Samples in a batch, over all processes together.
        num_workers: Processes that gather batches; 0 is fastest for data in memory.
        as_tuple: Give plain pairs of input and answer, prepared on the device, to a LightningModule
            of your own; the zoo's tasks take all that a batch holds.

    Raises:
        OptionError: If an option's value is not possible.
    """

    #: The class that prepares raw files as this one does its own.
    inputs_class: ClassVar[str]
    #: What that class takes over.
    inputs_options: ClassVar[tuple[str, ...]]
    #: Of a data module, the Trainer that it was given to.
    trainer: Any = None

    def __init__(
        self, *, batch_size: int = 128, num_workers: int = 0, as_tuple: bool = False
    ) -> None:
        super().__init__()
        self._record()
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.num_workers = at_least("num_workers", num_workers, 0)
        self.as_tuple = as_tuple

    def _record(self) -> None:
        """Note the constructor's arguments, where a library asks for them."""

    def __repr__(self) -> str:
        """Return what the data are, in a line."""
        return f"{type(self).__name__}({', '.join(self.words())})"

    def words(self) -> list[str]:
        """Return what ``repr`` says."""
        words = []
        names = self.class_names if isinstance(self, HasClassNames) else ()
        if names:
            shown = ", ".join(map(str, names[:_MOST_NAMES]))
            words.append(f"{len(names)} classes: {shown}{', ...' * (len(names) > _MOST_NAMES)}")
        if isinstance(self, HasInputShape):
            words.append(f"input {' x '.join(map(str, self.input_shape))}")
        return [*words, f"batch_size {self.batch_size}"]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Give a plain pair where that is asked for."""
        return tuple(batch[:2]) if self.as_tuple and hasattr(batch, "_fields") else batch

    def _shard(self) -> tuple[int, int]:
        """Return this process's rank among those that see different data, and their number."""
        if self.trainer is None:
            return 0, 1
        kwargs = self.trainer.distributed_sampler_kwargs  # None for a single device
        if kwargs is None:
            return 0, 1
        return int(kwargs["rank"]), int(kwargs["num_replicas"])

    def _tell(self, fact: str) -> None:
        """Say what was found out about the samples."""
        print(f"{type(self).__name__}: {fact}", flush=True)

    def _loader(self, dataset: Any, batches: EpochBatches) -> PositionedLoader:
        if self.num_workers == 0:
            # Lightning advises more workers whenever there are none; a gather is over sooner than
            # its batch could be handed from one process to another.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        return PositionedLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=as_is,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch_generator(),
        )

    def _evaluation_loader(self, dataset: Any, *, spread: bool = False) -> PositionedLoader:
        rank, world_size = self._shard()
        batches = EpochBatches(
            len(dataset),
            self.batch_size,
            training=False,
            rank=rank,
            world_size=world_size,
            spread=spread,
        )
        return self._loader(dataset, batches)

    def _prediction_loader(self, dataset: Any) -> PositionedLoader:
        # Lightning wraps the sampler to keep track of the indices, and warns because it cannot look
        # into a foreign one. Ours returns every index, which is what the warning asks to make sure
        # of.
        warnings.filterwarnings("ignore", message=".*batch sampler `EpochBatches` for prediction.*")
        return self._evaluation_loader(dataset)

    def resolved(self) -> dict[str, Any]:
        """Return how to build this object again with all that it has found out.

        Returns:
            ``class_path`` and ``init_args``, of plain Python types, so that it may go into a
            checkpoint.
        """
        names: dict[str, None] = {}
        for cls in type(self).__mro__:
            if "__init__" not in vars(cls):
                continue
            parameters = inspect.signature(cls).parameters
            passed_on = [p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD]
            names.update(dict.fromkeys(name for name in parameters if name not in passed_on))
            if not passed_on:
                break
        return self._spec(public_path(type(self)), names)

    def inputs_spec(self) -> dict[str, Any]:
        """Return what prepares raw files as this object does its own, less ``inputs``.

        Returns:
            ``class_path`` and ``init_args``, as ``resolved`` does.
        """
        return self._spec(f"datamodules.{self.inputs_class}", self.inputs_options)

    def _spec(self, class_path: str, names: Iterable[str]) -> dict[str, Any]:
        init_args = {name: plain(getattr(self, name)) for name in names}
        return {"class_path": class_path, "init_args": init_args}
