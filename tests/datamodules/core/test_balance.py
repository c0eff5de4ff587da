from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from datamodules import ImageNpz
from datamodules.core.balance import balanced_rows, class_counts, class_weights, need_every_class
from datamodules.core.errors import DataError, OptionError
from datamodules.core.randomness import REPEAT
from datamodules.core.sampling import EpochBatches
from datamodules.images.augment import Augmentation

# 85 of 100 in one class, as in BCCD; class 2 does not occur.
cells = np.random.default_rng(0).permutation(np.repeat([0, 1, 3, 4], [85, 8, 6, 1]))


def test_classes_are_drawn_equally_often() -> None:
    total = np.zeros(5, dtype=int)
    for epoch in range(8):
        rows = balanced_rows(cells, 0, epoch) % REPEAT
        assert len(rows) == len(cells)
        counts = np.bincount(cells[rows], minlength=5)
        assert counts[2] == 0
        assert np.ptp(counts[[0, 1, 3, 4]]) <= 1
        total += counts
    assert total.tolist() == [200, 200, 0, 200, 200]
    # Classes that do not divide the epoch come out even in the long run, too.
    odd = cells[cells != 4]
    rows = np.concatenate([balanced_rows(odd, 0, epoch) for epoch in range(3)]) % REPEAT
    assert np.bincount(odd[rows], minlength=4).tolist() == [99, 99, 0, 99]


def test_samples_of_a_class_are_drawn_equally_often() -> None:
    seen = np.zeros(len(cells), dtype=int)
    for epoch in range(12):
        rows = balanced_rows(cells, 0, epoch) % REPEAT
        if epoch < 3:  # 25 a time out of 85: none comes again before all have come
            assert np.bincount(rows, minlength=len(cells))[cells == 0].max() == 1
        seen += np.bincount(rows, minlength=len(cells))
        for label in (0, 1, 3, 4):
            assert np.ptp(seen[cells == label]) <= 1
    assert seen[cells == 4] == 300


def test_repeats_are_counted() -> None:
    for epoch in range(3):
        rows, repeats = balanced_rows(cells, 0, epoch) % REPEAT, balanced_rows(cells, 0, epoch)
        seen: dict[int, int] = {}
        for row, number in zip(rows.tolist(), repeats.tolist(), strict=True):
            assert number == row + seen.get(row, 0) * REPEAT
            seen[row] = seen.get(row, 0) + 1
        assert max(seen.values()) == 25  # the only one of its class
    assert balanced_rows(np.arange(7), 0, 2).max() < REPEAT


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def rows(seed: int, epoch: int) -> list[int]:
        return (balanced_rows(cells, seed, epoch) % REPEAT).tolist()

    assert rows(0, 5) == rows(0, 5)
    assert rows(0, 5) != rows(0, 6)
    assert rows(0, 5) != rows(1, 5)
    # Every stretch is mixed: the classes do not come in turn or one after the other.
    classes = cells[rows(0, 0)]
    assert np.bincount(classes[:40], minlength=5)[[0, 1, 3, 4]].min() >= 4
    assert (classes[1:] == classes[:-1]).mean() == pytest.approx(0.25, abs=0.12)
    # Within a class as well: each turn has an order of its own.
    first = [row for row in rows(0, 0) if cells[row] == 3]
    second = [row for row in rows(0, 1) if cells[row] == 3]
    assert first != second
    # More classes than draws would share: some have to wait for the next epoch.
    assert sorted(balanced_rows(np.arange(7), 0, 2)) == list(range(7))


def test_balance_needs_one_label_a_sample() -> None:
    with pytest.raises(OptionError, match=r"balanced is true; .* a sample has several labels"):
        balanced_rows(np.eye(3, dtype=np.int64), 0, 0)


def test_weights() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0] * 7 + [1] * 2 + [2])
    weights = class_weights(class_counts(labels, 3), list("abc"))
    assert weights == pytest.approx(
        compute_class_weight("balanced", classes=np.arange(3), y=labels), rel=1e-15
    )
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)
    assert weights[2] == pytest.approx(7 * weights[0])
    several = np.array([[1, 0], [1, 1], [1, 0], [0, 0]])
    assert class_counts(several, 2).tolist() == [3, 1]
    assert class_weights(class_counts(several, 2), ["a", "b"]) == pytest.approx([4 / 6, 4 / 2])
    with pytest.raises(
        OptionError, match=r"class_weights is 'auto'; .* samples of 'd', 'e', of which"
    ):
        class_weights(class_counts(labels, 5), list("abcde"))


def test_missing_classes() -> None:
    names = ["cat", "dog", "cow", "emu"]
    need_every_class(np.array([1, 7, 1, 2]), names, "val", "x", "image")
    words = r"^'x' has no image of classes 'dog', 'emu' in its val split; add some, or set all"
    with pytest.raises(DataError, match=words):
        need_every_class(np.array([4, 0, 1, 0]), names, "val", "x", "image")
    with pytest.raises(DataError, match=r"no pixel of class 'emu' in its train split; add some$"):
        need_every_class(np.array([1, 1, 1, 0]), names, "train", "x", "pixel")


def balanced_batches(epoch: int = 0, first: int = 0, **options: Any) -> EpochBatches:
    order = partial(balanced_rows, np.array([0] * 50 + [1] * 9 + [2] * 4), 3)
    place = (epoch, first)
    return EpochBatches(63, 12, training=True, position=lambda: place, order=order, **options)


def test_batches_go_on_in_mid_epoch_and_are_shared_out() -> None:
    whole = list(balanced_batches(2))
    assert list(balanced_batches(2, 3)) == whole[3:]
    assert list(balanced_batches(3)) != whole
    shards = [list(balanced_batches(2, rank=rank, world_size=3)) for rank in range(3)]
    assert len({len(batches) for batches in shards}) == 1
    drawn = np.concatenate([rows for batches in shards for rows in batches])
    assert sorted(drawn) == sorted(np.concatenate(whole))


@pytest.fixture
def npz(tmp_path: Path) -> str:
    """Forty images a split, of which six are of the second class."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = generator.integers(0, 256, (40, 8, 8), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array([0] * 34 + [1] * 6)[:, None]
    np.savez(tmp_path / "x.npz", **arrays)
    return str(tmp_path / "x.npz")


def test_a_data_set_is_drawn_so(npz: str) -> None:
    for balanced, expected in ((True, [20, 20]), (False, [34, 6])):
        data = ImageNpz(npz, batch_size=10, balanced=balanced)
        data.setup("fit")
        labels = np.concatenate([batch.label for batch in data.train_dataloader()])
        assert np.bincount(labels).tolist() == expected
        assert data.resolved()["init_args"]["balanced"] is balanced
    assert data.class_weights() == pytest.approx([40 / 68, 40 / 12])


OPTIONS: dict[str, Any] = {"crop_padding": 3, "horizontal_flip": True, "brightness": 0.5}


@pytest.mark.parametrize("resident", [False, True], ids=["sent", "resident"])
def test_each_repeat_is_augmented_anew(npz: str, resident: bool) -> None:
    data = ImageNpz(npz, batch_size=10, balanced=True, seed=4, resident=resident, **OPTIONS)
    data.setup("fit")
    pixels = torch.from_numpy(data.split("train").images)
    shown: dict[int, list[torch.Tensor]] = {}
    for raw in data.train_dataloader():
        batch = data.prepare_batch(raw, training=True, epoch=2)
        assert torch.equal(batch.index, raw.index % REPEAT)
        plain = data.prepare_batch(raw, training=False, epoch=2)
        assert torch.equal(data.denormalize(plain.image)[:, 0], pixels[batch.index][..., 0])
        for index, image in zip(batch.index.tolist(), batch.image, strict=True):
            # What the obvious way gives: a sample with a number of its own for each repeat.
            number = torch.tensor([index + len(shown.get(index, [])) * REPEAT])
            draw = Augmentation(**OPTIONS).draw(8, 8, number, seed=4, epoch=2)
            assert draw is not None
            moved = draw.color_jitter(draw.move(pixels[index][None]).flatten(2).float(), 1)
            assert torch.equal(data._normalise(moved)[0], image[0])
            shown.setdefault(index, []).append(image)
    rare = [images for index, images in shown.items() if index >= 34]
    assert sum(map(len, rare)) == 20
    for images in rare:
        assert len(torch.stack(images).flatten(1).unique(dim=0)) == len(images) > 1


def test_a_resumed_balanced_run_is_the_uninterrupted_one(
    npz: str, trainer: Any, recorder: Any, tmp_path: Path
) -> None:
    path = tmp_path / "stopped.ckpt"

    class Saver(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 6:  # in mid-epoch: there are 4 steps
                trainer.save_checkpoint(path)

    def run(callbacks: list[pl.Callback], **resume: Any) -> Any:
        module = recorder(64, 2)
        data = ImageNpz(npz, batch_size=10, balanced=True, seed=1, **OPTIONS)
        trainer(max_epochs=3, callbacks=callbacks).fit(module, datamodule=data, **resume)
        return module

    whole, rest = run([Saver()]), run([], ckpt_path=path, weights_only=False)
    assert (len(whole.images), len(rest.images)) == (12, 6)
    assert all(torch.equal(*pair) for pair in zip(whole.images[6:], rest.images, strict=True))
    # A rare image has come before within the epoch in which the second run sets in.
    first, second = ([index for epoch, index in m.seen if epoch == 1] for m in (whole, rest))
    assert first[2:] == second
    assert {i for index in first[:2] for i in index} & {i for index in second for i in index}
