"""Copies: found by content, counted within and between splits, named one by one."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.core.copies import (
    Copies,
    Copy,
    Part,
    array_keys,
    file_keys,
    first_copies,
    near_groups,
)


def part(contents: list[int], labels: list[int] | None = None, looks: list[int] | None = None):
    labels = [0] * len(contents) if labels is None else labels
    return Part(
        np.array(contents),
        np.array(labels),
        "n{}".format,
        "c{}".format,
        None if looks is None else np.array(looks, dtype=np.uint64),
    )


def test_copies_are_counted_and_named() -> None:
    copies = Copies(
        {
            "train": part([1, 2, 2, 3, 2], [0, 0, 1, 0, 0]),
            "val": part([3, 9, 9]),
            "test": part([2, 9, 7, 2]),
        }
    )
    assert copies.values() == {
        "in train": 2,
        "in val": 1,
        "in test": 1,
        "of val in train": 1,
        "of test in train": 2,
        "of test in val": 1,
        "with another label": 1,
    }
    assert copies.trained_on("images") == (
        "1 of 3 val images are copies, 2 of 4 test images are copies of images that are trained on"
    )
    assert copies.trained_on("images", ["val"]) == (
        "1 of 3 val images are copies of images that are trained on"
    )
    assert [*copies][:3] == [
        Copy("n2", "train", "c1", "n1", "train", "c0", "exact"),
        Copy("n4", "train", "c0", "n1", "train", "c0", "exact"),
        Copy("n0", "val", "c0", "n3", "train", "c0", "exact"),
    ]
    assert len([*copies]) == len(copies) == 7
    alone = Copies({"train": part([1, 2]), "test": part([3])})
    assert (len(alone), alone.values(), alone.text(), alone.trained_on("x")) == (0, {}, "", None)


def test_near_copies_are_told_from_exact_ones() -> None:
    copies = Copies(
        {
            "train": part([1, 2, 3], looks=[0b0000, 0b0001, 0b11111 << 40]),
            "test": part([2, 4, 5], looks=[0b0001, 0b1111 << 60, 0b11110 << 40]),
        },
        bits=1,
    )
    assert copies.values() == {
        "of test in train": 1,
        "nearly in train": 1,
        "of test nearly in train": 1,
    }
    assert [(copy.sample, copy.original, copy.kind) for copy in copies] == [
        ("n1", "n0", "near"),
        ("n0", "n1", "exact"),
        ("n2", "n2", "near"),
    ]


@pytest.mark.parametrize("bits", [0, 1, 4])
def test_near_groups_are_those_of_all_pairs(bits: int) -> None:
    rng = np.random.default_rng(bits)
    hashes = rng.integers(0, 2**63, 400).astype(np.uint64)
    for number in range(200):  # of which the half differ in up to 6 bits from others
        for bit in rng.choice(64, rng.integers(0, 7), replace=False):
            hashes[number + 200] = hashes[number] ^ (np.uint64(1) << np.uint64(bit))
            hashes[number] = hashes[number + 200]
        hashes[number] ^= np.uint64(rng.integers(0, 2**bits))
    near = np.bitwise_count(hashes[:, None] ^ hashes) <= bits
    reached = near
    for _ in range(6):
        reached = reached @ near
    groups = near_groups(hashes, bits)
    assert np.array_equal(groups[:, None] == groups, reached)
    assert len(np.unique(groups)) < 400


def test_hashes_are_of_shape_and_values() -> None:
    images = np.arange(3000 * 12, dtype=np.int64).astype(np.uint8).reshape(3000, 2, 2, 3)
    keys = array_keys(images)
    assert np.array_equal(keys, array_keys([*images]))
    assert np.array_equal(keys[5:9], array_keys(images, np.arange(5, 9)))
    same = np.unique(images.reshape(3000, -1), axis=0, return_inverse=True)[1]
    assert np.array_equal(keys[:, None] == keys, same[:, None] == same)
    assert array_keys(images.reshape(3000, 4, 1, 3))[0] != keys[0]
    first, leader = first_copies(keys)
    assert np.array_equal(np.unique(keys[first]), np.unique(keys))
    assert np.array_equal(keys[leader], keys)
    assert (leader <= np.arange(3000)).all()


def test_a_file_that_cannot_be_read_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"held")
    (tmp_path / "two").write_bytes(b"held")
    one, two, absent, other = file_keys([tmp_path / name for name in ("one", "two", "no", "nor")])
    assert one == two
    assert len({one, absent, other}) == 3
