"""Generated cells."""

import itertools
import json

import numpy as np
import pytest
import torch

from datamodules.core.errors import DataError, UserError
from datamodules.segmentation.synthetic_cells import CELL_TYPES, SyntheticCells, SyntheticCellTypes

SPLITS = ("train", "val", "test")


def cells(**options) -> SyntheticCells:
    data = SyntheticCells(**{"count": 40, "image_size": 48, **options})
    data.setup()
    return data


def types(**options) -> SyntheticCellTypes:
    data = SyntheticCellTypes(**{"count": 400, "image_size": 24, **options})
    data.setup()
    return data


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("cell_types", [False, True])
def test_facts_and_batches(channels, cell_types) -> None:
    data = SyntheticCells(count=40, image_size=48, in_channels=channels, cell_types=cell_types)
    names = ["background", *(CELL_TYPES if cell_types else ["cell"])]
    assert data.class_names == names
    assert data.num_classes == len(names)
    assert data.input_shape == (channels, 48, 48)
    assert data.label_kind == "mask"
    data.setup()
    assert [len(data.split(split)) for split in SPLITS] == [28, 6, 6]
    rows = itertools.chain(*(data.split(split).index.tolist() for split in SPLITS))
    assert sorted(rows) == list(range(40))
    batch = data.prepare_batch(next(iter(data.train_dataloader())), training=True, epoch=0)
    assert batch.image.shape == (16, channels, 48, 48)
    assert set(batch.mask.unique().tolist()) == set(range(len(names)))


def test_cells_are_where_their_masks_are() -> None:
    split = cells(in_channels=1).split("train")
    image = np.stack(list(split.images))[..., 0].astype(float)
    mask = np.stack(list(split.masks)).astype(bool)
    assert 0.05 < mask.mean() < 0.4
    # They absorb light, in every image, and more of it than noise and dirt do. Where a mask were
    # shifted or mirrored, the two would mix.
    darker = [p[~m].mean() - p[m].mean() for p, m in zip(image, mask, strict=True)]
    assert min(darker) > 8
    mirrored = [p[~m].mean() - p[m].mean() for p, m in zip(image, mask[:, :, ::-1], strict=True)]
    assert np.mean(darker) > 3 * np.mean(mirrored)


def test_cells_touch() -> None:
    from scipy.ndimage import label

    # Cells of different types are told apart by the mask; where they touch, a piece has both.
    touching = 0
    for mask in cells(cell_types=True).split("train").masks:
        pieces, count = label(mask > 0)
        touching += sum(len(np.unique(mask[pieces == piece])) > 1 for piece in range(1, count + 1))
    assert touching > 10


def test_light_and_focus_vary() -> None:
    images = np.stack(list(cells(in_channels=1, most_cells=1).split("train").images))[..., 0]
    level = np.median(images, axis=(1, 2))
    assert level.std() > 5
    corners = images[:, :8, :8].mean(axis=(1, 2)) - images[:, -8:, -8:].mean(axis=(1, 2))
    assert np.abs(corners).max() > 15


@pytest.mark.parametrize("build", [cells, types])
def test_the_seed_of_the_data_chooses_them_and_nothing_else_does(build) -> None:
    one, same = build(), build(seed=3, horizontal_flip=True, batch_size=2)
    other, shuffled = build(data_seed=1), build(split_seed=1)
    assert np.array_equal(one.split("val").images, same.split("val").images)
    assert one.mean == same.mean != other.mean
    first = [data.split("test").__getitems__([0, 1, 2]) for data in (one, same, other, shuffled)]
    assert torch.equal(first[0].index, first[1].index)
    assert torch.equal(first[0].image, first[1].image)
    assert not torch.equal(first[0].image, first[2].image)
    assert not torch.equal(first[0].index, first[3].index)


def test_types_are_imbalanced_and_stratified() -> None:
    data = SyntheticCellTypes(count=1000, image_size=16)
    assert data.class_names == list(CELL_TYPES)
    assert data.label_kind == "multiclass"
    assert data.input_shape == (3, 16, 16)
    data.setup()
    shares = []
    for split, size in zip(SPLITS, (700, 150, 150), strict=True):
        dataset = data.split(split)
        assert len(dataset) == size
        counts = np.bincount(dataset.labels[dataset.rows], minlength=4)
        shares.append(counts / counts.sum())
    np.testing.assert_allclose(shares[0], [0.62, 0.2, 0.12, 0.06], atol=0.04)
    np.testing.assert_allclose(shares[1:], [shares[0]] * 2, atol=0.01)


def test_types_can_be_told_apart() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import balanced_accuracy_score

    data = types(count=1500, image_size=24, in_channels=1)

    distance = np.hypot(*np.meshgrid(np.fft.fftfreq(24, 1 / 24), np.fft.fftfreq(24, 1 / 24)))

    def features(split: str) -> tuple[np.ndarray, np.ndarray]:
        dataset = data.split(split)
        pixels = dataset.images[dataset.rows, :, :, 0].astype(float)
        # Spectra do not care where a cell lies and, ring by ring, how it is turned.
        spectrum = np.log(np.abs(np.fft.fft2(pixels)) + 1)
        rings = [spectrum[:, distance.round() == radius] for radius in range(1, 9)]
        both = [[ring.mean(axis=1), ring.std(axis=1)] for ring in rings]
        return np.concatenate(both).T, dataset.labels[dataset.rows]

    model = LinearDiscriminantAnalysis(priors=[0.25] * 4).fit(*features("train"))
    inputs, labels = features("test")
    assert balanced_accuracy_score(labels, model.predict(inputs)) > 0.5  # 0.25 is chance


@pytest.mark.parametrize("build", [cells, types])
def test_resolved_rebuilds_the_object(build) -> None:
    data = build(data_seed=2)
    spec = data.resolved()
    again = type(data)(**json.loads(json.dumps(spec))["init_args"])
    again.setup("fit")
    assert again.resolved() == spec
    assert np.array_equal(again.split("train").images, data.split("train").images)


@pytest.mark.parametrize("kind", [SyntheticCells, SyntheticCellTypes])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 2}, "option count is 2"),
        ({"image_size": 8}, "option image_size is 8"),
        ({"in_channels": 2}, "option in_channels is 2"),
        ({"data_seed": -1}, "option data_seed is -1"),
        ({"val_fraction": 1.0}, "option val_fraction is 1.0"),
    ],
)
def test_options_that_are_not_possible(kind, options, said) -> None:
    with pytest.raises(UserError, match=said):
        kind(**options)


def test_splits_that_are_not_possible() -> None:
    with pytest.raises(UserError, match="would leave too few to train on"):
        cells(val_fraction=0.5, test_fraction=0.5)
    with pytest.raises(DataError, match="val split is empty; give a larger val_fraction"):
        cells(val_fraction=0.0)
