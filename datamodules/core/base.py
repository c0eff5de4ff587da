"""What all data sets with three splits share."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.core.copies import Copies, Part
from datamodules.core.description import DescribedWarning, Description, Fact, SplitFacts
from datamodules.core.errors import DataError, refuse
from datamodules.core.module import ArrayDataModule
from datamodules.core.sampling import EpochBatches, PositionedLoader, training_position
from datamodules.core.split_names import Split, Stage
from datamodules.core.splits import Keys, Partition, changes, divide, known_share

Rows = npt.NDArray[np.int64]


class GatheredDataset(Protocol):
    """A dataset whose batch is one gather."""

    def __len__(self) -> int:
        """Return how many samples there are."""
        ...

    def __getitems__(self, indices: list[int]) -> Any:
        """Return the whole batch."""
        ...


DatasetT = TypeVar("DatasetT", bound=GatheredDataset)


#: Samples of a split whose content its mark covers, evenly spread: a gather of them takes no time.
_MARKED = 128

#: Others share less with what was trained on, as blank images.
_FEW = 0.02


def mark_of(dataset: GatheredDataset) -> str:
    """Return how many samples a split has, and a short hash over their number and some of them."""
    count = len(dataset)
    digest = hashlib.blake2b(str(count).encode(), digest_size=6)
    for number in dict.fromkeys(np.linspace(0, count - 1, _MARKED).round().astype(int).tolist()):
        for value in dataset.__getitems__([number]):
            if isinstance(value, torch.Tensor):
                digest.update(f"{value.shape}{value.dtype}".encode())
                digest.update(value.contiguous().numpy().tobytes())
    return f"{count:,} samples ({digest.hexdigest()})"


class SplitDataModule(ArrayDataModule, Generic[DatasetT]):
    """A data set with three disjoint splits.

    A subclass implements ``load_fit`` and ``load_test``.

    Args:
        split_seed: Chooses the validation (and where there is none, the test) samples, each by its
            name or content; apart from ``seed``, so that runs with several seeds share their
            splits.
        partition: Which samples are whose, as a checkpoint keeps it, so that a set that has changed
            since is divided as it was; by default ``split_seed`` chooses.
        seed: Chooses order and augmentation; by default the one given to Lightning's
            seed_everything, or 0.

    Raises:
        OptionError: If an option's value is not possible.
    """

    #: What a message calls several of them.
    samples: ClassVar[str] = "samples"
    #: What has a class, as a message calls one of them.
    counted: ClassVar[str] = "sample"
    #: How training batches are numbered.
    train_order: ClassVar[type[EpochBatches]] = EpochBatches

    def __init__(
        self,
        *,
        split_seed: int = 0,
        partition: Partition | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.split_seed = split_seed
        self.partition = partition
        self.seed = seed
        self._splits: dict[Stage, DatasetT] = {}
        self._marks: dict[Stage, str] = {}
        # Whether the splits are a checkpoint's.
        self._is_kept = partition is not None
        self._copies: tuple[list[Stage], Copies] | None = None
        self._told_copies: set[str] = set()
        self._holds_others = False
        self._whole: Stage | None = None

    def load_fit(self) -> tuple[DatasetT, DatasetT]:
        """Read the training and the validation split."""
        raise NotImplementedError

    def load_test(self) -> DatasetT:
        """Read the test split."""
        raise NotImplementedError

    @property
    def order_seed(self) -> int:
        """The seed in force: ``seed``, else Lightning's, else 0."""
        if self.seed is not None:
            return self.seed
        return int(os.environ.get("PL_GLOBAL_SEED") or 0)

    @property
    def smallest_train_batch(self) -> int:
        """Samples in the smallest training batch of one process; batch normalisation needs 2."""
        return self._train_batches().smallest_batch

    def setup(self, stage: str | None = None) -> None:
        """Load what a stage needs; None loads everything.

        Args:
            stage: "fit", "validate", "test" or "predict". Only the last two load the test split.

        Raises:
            DataError: If a split is empty.
        """
        if stage in ("fit", "validate", None):
            self._load_fit()
        if stage in ("test", "predict", None) and "test" not in self._splits:
            self._add("test", self.load_test())
        self._tell_copies()

    def _load_fit(self) -> None:
        if "train" in self._splits:
            return
        train, val = self.load_fit()
        self._add("train", train)
        self._add("val", val)

    def _add(self, stage: Stage, dataset: DatasetT) -> None:
        if len(dataset) == 0:
            option = f"{stage}_fraction"
            share = f"a larger {option} or" if hasattr(self, option) else "it"
            raise DataError(
                f"{type(self).__name__}'s {stage} split is empty; give {share} more {self.samples}"
            )
        self._splits[stage] = dataset
        self._marks[stage] = mark_of(dataset)

    def _class_counts(self, dataset: DatasetT) -> Rows:
        """Return how much of each class a split holds, (C,)."""
        raise NotImplementedError

    def _part(self, stage: Stage, dataset: DatasetT) -> Part | None:
        """Return what copies are found by; None where they are not looked for."""
        return None

    def copies(self) -> Copies | None:
        """Return which samples of the splits that are loaded are copies; None if that is unknown.

        A split that is loaded later is compared then.
        """
        order: list[Stage] = ["train", "val", "test"]
        loaded = [stage for stage in order if stage in self._splits]
        if self._copies is None or self._copies[0] != loaded:
            parts = {str(stage): self._part(stage, self._splits[stage]) for stage in loaded}
            known = {split: part for split, part in parts.items() if part is not None}
            if not known:
                return None
            self._copies = loaded, Copies(known, getattr(self, "near_copies", None) or 0)
        return self._copies[1]

    def _tell_copies(self) -> None:
        """Warn of samples that are trained on and evaluated as well, once for each split."""
        new = [s for s in ("val", "test") if s in self._splits and s not in self._told_copies]
        self._told_copies.update(new)
        if told := self._trained_on(new):
            rank_zero_warn(
                f"{type(self).__name__}: {told}; copies.csv in the run's folder has all",
                category=DescribedWarning,
            )

    def _trained_on(self, splits: Sequence[str]) -> str | None:
        """Return how many samples of some splits are trained on, in words; None if none is."""
        copies = self.copies() if "train" in self._splits else None
        return None if copies is None else copies.trained_on(self.samples, splits)

    def words(self) -> list[str]:
        """Return what ``repr`` says."""
        sizes = [f"{stage} {len(split):,}" for stage, split in self._splits.items()]
        given = (getattr(self, option, None) for option in ("root", "path", "name"))
        return [
            *[repr(value) for value in given if isinstance(value, str)][:1],
            *super().words(),
            *(sizes or ["not set up yet"]),
        ]

    def split(self, stage: Stage) -> DatasetT:
        """Return the dataset of a split that ``setup`` has loaded; "predict" means the test split.

        Raises:
            DataError: If it is not loaded.
        """
        try:
            return self._splits["test" if stage == "predict" else stage]
        except KeyError:
            raise DataError(f"the {stage} split is not loaded; call setup() first") from None

    def marks(self) -> dict[str, str]:
        """Return a mark of the samples of each split that ``setup`` has loaded."""
        return {str(stage): mark for stage, mark in self._marks.items()}

    # ---------------------------------------------------------------- what is known of it

    def describe(self) -> Description:
        """Return what is known of the splits that ``setup`` has loaded."""
        loaded = [split for split in get_args(Split) if split in self._splits]
        return Description(
            name=type(self).__name__,
            source=self._source(),
            samples=self.samples,
            counted=self.counted,
            splits={
                split: SplitFacts(self._size(split), self._origin(split), self._classes(split))
                for split in loaded
            },
            facts=self._facts(),
            notes=[told] if (told := self._trained_on([s for s in loaded if s != "train"])) else [],
        )

    def _facts(self) -> list[Fact]:
        """Return what else is known of the samples."""
        copies = self.copies()
        return [] if copies is None else [Fact("copies", copies.text(), copies.values())]

    def _source(self) -> str | None:
        """Return the file or folder that the samples lie in, if they lie in one."""
        given = getattr(self, "root", None) or getattr(self, "path", None)
        return None if given is None else str(given)

    def _size(self, split: Split) -> int:
        """Return how many samples a split has."""
        return len(self.split(split))

    def _classes(self, split: Split) -> dict[str, int] | None:
        """Return how much of each class a split holds; None where there are no classes."""
        return None

    def _origin(self, split: Split) -> str:
        """Return how a split came to be."""
        drawn = self.partition or {}
        share = drawn.get(split)
        if share is None or len(drawn) == 1:
            return self._given_by(split)
        if self._is_kept:
            return "as the checkpoint's"
        return share["drawn_by"] or "the rest"

    def _given_by(self, split: Split) -> str:
        """Return where a split comes from that is not drawn."""
        return "the set's own"

    # ---------------------------------------------------------------- loaders

    def _train_batches(self) -> EpochBatches:
        rank, world_size = self._shard()
        return self.train_order(
            self._train_size(),
            self.batch_size,
            training=True,
            seed=self.order_seed,
            rank=rank,
            world_size=world_size,
            position=self._position,
            order=self._order(),
        )

    def _train_size(self) -> int:
        """Return how many samples an epoch draws."""
        return len(self.split("train"))

    def _order(self) -> Callable[[int], Rows] | None:
        """Return the order of an epoch's training samples; None for a random one of all."""
        return None

    def _position(self) -> tuple[int, int]:
        epoch, first = training_position(self.trainer)
        # To overfit a few batches they must be the same ones in every epoch.
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0
        return (0 if overfit else epoch), first

    def train_dataloader(self) -> PositionedLoader:
        """Return shuffled batches, going on from the Trainer's position."""
        return self._loader(self.split("train"), self._train_batches())

    def _is_cut(self, stage: Stage) -> bool:
        """Return whether the Trainer may stop before a split's end."""
        return bool(getattr(self.trainer, f"limit_{stage}_batches", 1.0) != 1.0)

    def val_dataloader(self) -> PositionedLoader:
        """Return the validation split; in order, where the Trainer takes all of it."""
        return self._evaluation_loader(self.split("val"), spread=self._is_cut("val"))

    def test_dataloader(self) -> PositionedLoader:
        """Return the test split; in order, where the Trainer takes all of it."""
        return self._evaluation_loader(self.split("test"), spread=self._is_cut("test"))

    def predict_dataloader(self) -> PositionedLoader:
        """Return the test split in order."""
        return self._prediction_loader(self.split("predict"))

    def _draw(
        self,
        keys: Keys,
        labels: Rows,
        sizes: Mapping[str, int],
        *,
        groups: Keys | None = None,
        grouped_by: str = "",
        contents: Keys | None = None,
        needed: int = 1,
    ) -> dict[str, Rows]:
        """Draw stratified splits, or go by those of the checkpoint; the rest is to train on.

        Args:
            keys: A hash of each sample's name or content, (N,).
            labels: Its class, (N,).
            sizes: How many samples each split gets, by the option that sets it.
            groups: A hash of each sample's group, (N,), where a group shares a split.
            grouped_by: What says which group.
            contents: A hash of what each sample holds, (N,), where copies share a split.
            needed: How many samples are needed to train on.

        Returns:
            Ascending rows of each split.
        """
        seed, kept = self.split_seed, self.partition
        if kept and self._are_others(keys if contents is None else contents):
            self._holds_others, kept = True, None
        drawn_by = {
            option.partition("_")[0]: f"split_seed {seed}, {option} {getattr(self, option)}"
            + (f", groups by {grouped_by}" if grouped_by else "")
            for option in sizes
        }
        for split, options in drawn_by.items():
            before = kept[split]["drawn_by"] if kept and split in kept else "no draw"
            if kept and before != options:
                rank_zero_warn(
                    f"{type(self).__name__}: the splits are drawn anew, as the {split} split was "
                    f"by {before} and now is by {options}; it may hold {self.samples} that the "
                    "checkpoint was trained on"
                )
                kept = None
        if kept is None:
            self._is_kept = False
        if kept is None and not self._holds_others:
            self._check_sizes(sizes, len(keys), needed)
        wanted, left = {}, len(keys)
        for split, size in zip(drawn_by, sizes.values(), strict=True):
            wanted[split] = min(size, left)  # of others there may be fewer, which are all tested
            left -= wanted[split]
        rows, self.partition = divide(
            keys,
            labels,
            wanted,
            seed,
            groups=groups,
            contents=contents,
            source=self._source() or "",
            held_as=self._held_as(),
            drawn_by=drawn_by,
            kept=kept,
        )
        told = kept and changes(kept, self.partition, self.samples)
        if told:
            rank_zero_warn(f"{type(self).__name__}: {told}")
        return rows

    def _are_others(self, contents: Keys) -> bool:
        """Return whether samples are others than those that the partition is of.

        They hold less than half of what was trained on where they come from another place, and next
        to nothing of it where the place is of the same name, as another folder or machine may have
        it.

        Args:
            contents: A hash of what each sample holds, (N,).
        """
        assert self.partition is not None
        train = self.partition["train"]
        if not train.get("sketch"):
            return False  # an earlier version's does not tell
        least = 0.5
        in_its_place = train.get("source") == (self._source() or "")
        if in_its_place and self._source() is None:
            return False  # a published or drawn set, which nobody replaces
        if in_its_place:
            # Read in another way, what was trained on is not known again.
            least = _FEW if train.get("held_as", "") == self._held_as() else 0.0
        known = known_share(self.partition, contents)
        if 0 < known < least:
            rank_zero_warn(
                f"{type(self).__name__}: about {known * train['count']:.0f} {self.samples} of "
                f"{self._source()!r} are copies of {self.samples} that the net was trained on"
            )
        if in_its_place and known < least:
            rank_zero_warn(
                f"{type(self).__name__}: {self._source()!r} has other {self.samples} than those "
                "that the net was trained on, so that their splits are not the checkpoint's"
            )
        return known < least

    def _held_as(self) -> str:
        """Return the options that hashes of what samples hold depend on, with their values."""
        return ""

    def _check_sizes(self, sizes: Mapping[str, int], count: int, needed: int = 1) -> None:
        """Refuse sizes of splits, by the options that set them, that leave too little to train on.

        Raises:
            OptionError: If fewer than ``needed`` of ``count`` samples are left.
        """
        taken = sum(sizes.values())
        if count - taken >= needed:
            return
        option, *others = sizes
        lower = " or ".join(["lower it", *others])
        raise refuse(
            option,
            getattr(self, option),
            f"{lower}, or add {self.samples}: {taken} of {count} would leave too few to train on",
        )
