"""The data under a real Trainer."""

import os
import warnings
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from PIL import Image

from datamodules import Digits, ImageFolder, TextClassification
from datamodules.core.errors import OptionError
from datamodules.core.randomness import permutation


def test_fit_test_predict(trainer, recorder) -> None:
    data = Digits(batch_size=100)
    model = recorder(64, data.num_classes)
    run = trainer(max_epochs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.fit(model, datamodule=data)
        train = [i for e, index in model.seen if e == 0 for i in index]
        val = [i for e, index in model.seen if e == -1 for i in index]
        run.test(model, datamodule=data, verbose=False)
        test = [i for e, index in model.seen if e == -2 for i in index]
        predicted = torch.cat(run.predict(model, datamodule=data)).tolist()
    assert sorted(train + val + test) == list(range(1797))
    assert predicted == test == sorted(test)
    assert model.images[0].dtype == torch.float32
    texts = [str(w.message) for w in caught]
    assert not [t for t in texts if "workers" in t or "batch sampler" in t], texts


def test_prediction_writers_learn_the_indices(trainer, recorder) -> None:
    from lightning.pytorch.callbacks import BasePredictionWriter

    class Writer(BasePredictionWriter):
        def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
            self.indices = [i for batch in batch_indices[0] for i in batch]

    writer = Writer("epoch")
    data = Digits(batch_size=100)
    trainer(callbacks=[writer]).predict(recorder(64, 10), datamodule=data)
    assert writer.indices == list(range(359))


def test_floats_follow_the_modules_type(trainer, recorder) -> None:
    model = recorder(64, 10)
    trainer(max_steps=1, precision="bf16-true").fit(model, datamodule=Digits())
    assert model.images[0].dtype == torch.bfloat16
    assert model.images[0].is_contiguous(memory_format=torch.channels_last)


def test_overfitting_sees_the_same_batches(trainer, recorder) -> None:
    model = recorder(64, 10)
    trainer(max_epochs=3, overfit_batches=2).fit(model, datamodule=Digits())
    seen = [(e, index) for e, index in model.seen if e >= 0]
    batches = [index for _, index in seen]
    assert batches[:2] == batches[2:4] == batches[4:6]


def test_each_epoch_has_its_own_order(arrays, trainer, recorder) -> None:
    data, model = arrays(batch_size=16), recorder(192, 5)
    trainer(max_epochs=3, limit_train_batches=2).fit(model, datamodule=data)
    rows = data.split("train").rows
    expected = [
        (epoch, tuple(rows[permutation(len(rows), 0, epoch)[first : first + 16]].tolist()))
        for epoch in range(3)
        for first in (0, 16)
    ]
    assert [seen for seen in model.seen if seen[0] >= 0] == expected


class Saver(pl.Callback):
    """Saves, or stops dead, at a chosen moment."""

    def __init__(self, path: Path, hook: str, epoch: int, batch: int = -1) -> None:
        self.path, self.hook, self.epoch, self.batch = path, hook, epoch, batch
        setattr(self, hook, self._act)

    def _act(self, trainer, *args) -> None:
        at_batch = self.batch < 0 or trainer.fit_loop.epoch_loop.batch_idx == self.batch
        if trainer.current_epoch == self.epoch and at_batch and not self.path.exists():
            trainer.save_checkpoint(self.path)


# hook, epoch, batch (-1: any), trainer option, and how many of the 52 batches are left to do
MOMENTS = {
    "in the epoch": ("on_train_batch_end", 1, 4, {}, 34),
    "first batch": ("on_train_batch_end", 1, 0, {}, 38),
    "last batch": ("on_train_batch_end", 1, 12, {}, 26),
    "in a step": ("on_before_zero_grad", 1, 6, {}, 33),
    "in validation": ("on_validation_batch_end", 1, 12, {}, 26),
    "between validations": ("on_validation_end", 1, 7, {"val_check_interval": 4}, 31),
    "after validation": ("on_validation_end", 1, -1, {}, 26),
    "epoch's end": ("on_train_epoch_end", 2, -1, {}, 13),
    "short epoch's end": ("on_train_epoch_end", 2, -1, {"limit_train_batches": 6}, 6),
    "before any": ("on_train_start", 0, -1, {}, 52),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("moment", MOMENTS)
def test_resumed_run_is_the_uninterrupted_one(
    arrays, trainer, recorder, tmp_path, moment, workers
) -> None:
    hook, epoch, batch, option, left = MOMENTS[moment]
    options = {"batch_size": 16, "crop_padding": 2, "horizontal_flip": True, "num_workers": workers}
    count = 20 + 203  # 13 batches

    def run(path=None, callback=None):
        pl.seed_everything(3, verbose=False)
        model = recorder(192, 5)
        data = arrays(count=count, **options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer(max_epochs=4, callbacks=callback and [callback], **option).fit(
                model, datamodule=data, ckpt_path=path, weights_only=path and False
            )
        assert not [w for w in caught if "not resumable" in str(w.message)]
        return model

    path = tmp_path / "run.ckpt"
    saver = Saver(path, hook, epoch, batch)
    whole = run(callback=saver)
    assert path.exists()
    os.environ.pop("PL_GLOBAL_SEED", None)
    resumed = run(path)

    def batches(model):
        return [(e, index) for e, index in model.seen if e >= 0]

    done = batches(resumed)
    assert done == batches(whole)[-len(done) :]
    assert len(done) == left
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_batch_that_processes_cannot_share(arrays) -> None:
    data = arrays("fit", batch_size=9)
    data._shard = lambda: (0, 2)
    with pytest.raises(OptionError, match="option batch_size is 9"):
        data.train_dataloader()
    assert sum(len(b.index) for b in data.val_dataloader()) == 10


def sorted_images(folder: Path) -> ImageFolder:
    """Images of two classes, class by class, as folders have them."""
    for split, count in (("train", 4), ("val", 40), ("test", 40)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (8, 8), number).save(folder / split / name / f"{number}.png")
    return ImageFolder(root=str(folder), image_size=8, batch_size=20)


def sorted_texts(folder: Path) -> TextClassification:
    """Texts of two classes and one length, class by class."""
    for split, count in (("train", 4), ("val", 200), ("test", 200)):
        rows = [f"number {n},{name}" for name in "ab" for n in range(count)]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
    return TextClassification(path=str(folder), tokenizer="word", batch_size=20, deduplicate=False)


@pytest.mark.parametrize("stage", ["val", "test"])
@pytest.mark.parametrize("make", [sorted_images, sorted_texts])
def test_a_part_of_an_evaluation_is_spread(make: Any, stage: str, tmp_path: Path) -> None:
    """All of it is taken in order."""
    data = make(tmp_path)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    limits = {"limit_val_batches": 1.0, "limit_test_batches": 1.0}
    for limit in (1.0, 2):
        data.trainer = SimpleNamespace(
            **{**limits, f"limit_{stage}_batches": limit}, distributed_sampler_kwargs=None
        )
        loader = getattr(data, f"{stage}_dataloader")()
        labels = torch.cat([batch.label for batch in islice(loader, 2)]).float()
        assert (0.25 < labels.mean() < 0.75) == (limit == 2)
