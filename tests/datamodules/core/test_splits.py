import json
import unicodedata

import numpy as np
import pytest

from datamodules.core.errors import OptionError
from datamodules.core.splits import (
    Partition,
    changes,
    distinct,
    divide,
    known_share,
    name_keys,
    row_keys,
)


def homes(names: list[str], rows: dict[str, np.ndarray]) -> dict[str, str]:
    return {names[i]: split for split, own in rows.items() for i in own}


def samples(count: int, classes: int = 3, seed: int = 0) -> tuple[list[str], np.ndarray]:
    labels = np.random.default_rng(seed).choice(classes, count, p=[0.7, 0.25, 0.05][:classes])
    return [f"{label}/{number:04}.png" for number, label in enumerate(labels)], labels


def share(count: int, fraction: float) -> int:
    return max(round(count * fraction), 1)


def test_split_is_stratified_and_disjoint() -> None:
    labels = np.array([0] * 500 + [1] * 300 + [2] * 37 + [3])
    keys = name_keys(map(str, range(len(labels))))
    rows, _ = divide(keys, labels, {"test": 168, "val": 84}, seed=0)
    assert [len(rows[split]) for split in ("test", "val")] == [168, 84]
    assert sorted([*rows["test"], *rows["val"], *rows["train"]]) == list(range(len(labels)))
    for split, fraction in (("test", 0.2), ("val", 0.1)):
        counts = np.bincount(labels[rows[split]], minlength=4)
        assert np.all(np.abs(counts - fraction * np.bincount(labels)) <= 1.5)
    assert labels[rows["train"]].max() == 3  # the only one of its class is there to learn from
    again, _ = divide(keys, labels, {"test": 168, "val": 84}, seed=0)
    other, _ = divide(keys, labels, {"test": 168, "val": 84}, seed=1)
    assert np.array_equal(rows["test"], again["test"])
    # Another seed's test is a draw of its own: a fifth of it, about, is in the first one's.
    assert 15 < len(np.intersect1d(rows["test"], other["test"])) < 55


@pytest.mark.parametrize("count", [30, 300])
@pytest.mark.parametrize("changed", ["one more", "one less", "a fifth more", "another order"])
def test_a_changed_set_moves_few_and_by_a_partition_none(count: int, changed: str) -> None:
    names, labels = samples(count + count // 5)
    first = range(count)
    then = {
        "one more": range(count + 1),
        "one less": [i for i in first if i != 7],
        "a fifth more": range(count + count // 5),
        "another order": list(first)[::-1],
    }[changed]

    def drawn(picked, kept: Partition | None = None, seed: int = 3):
        own = [names[i] for i in picked]
        sizes = {"test": share(len(own), 0.1), "val": share(len(own), 0.1)}
        rows, partition = divide(name_keys(own), labels[[*picked]], sizes, seed, kept=kept)
        assert sum(map(len, rows.values())) == len(own)
        return homes(own, rows), partition

    before, kept = drawn(first)
    anew, _ = drawn(then)
    by_partition, _ = drawn(then, kept)
    both = [name for name in before if name in anew]
    moved = [name for name in both if before[name] != anew[name]]
    # A permutation of the new number of samples moves a third of them.
    assert len(moved) <= {"a fifth more": 0.15 * count}.get(changed, 4)
    assert not any(before[name] == "train" and anew[name] == "test" for name in moved)
    assert [before[name] for name in both] == [by_partition[name] for name in both]
    if changed == "a fifth more":
        new = [home for name, home in by_partition.items() if name not in before]
        assert new.count("train") >= 0.5 * len(new)


def patients(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(120), rng.geometric(0.1, 120))
    habit = rng.dirichlet([2, 0.5, 0.1], 120)  # patients differ in what they have
    return groups, np.array([rng.choice(3, p=habit[g]) for g in groups])


def divided(groups: np.ndarray, labels: np.ndarray, fraction: float = 0.15, **options):
    keys = name_keys(f"{n}.png" for n in range(len(groups)))
    sizes = {split: round(fraction * len(labels)) for split in ("test", "val")}
    owners = name_keys(f"P{group}" for group in groups)
    return divide(keys, labels, sizes, options.pop("seed", 0), groups=owners, **options)


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_split_in_proportion(seed: int) -> None:
    groups, labels = patients(seed)
    rows, _ = divided(groups, labels, seed=seed)
    assert sorted(np.concatenate([*rows.values()])) == list(range(len(labels)))
    parts = {split: set(groups[own]) for split, own in rows.items()}
    assert sum(map(len, parts.values())) == 120
    for split in ("test", "val"):
        shares = np.bincount(labels[rows[split]], minlength=3) / np.bincount(labels)
        assert np.abs(shares[:2] - 0.15).max() < 0.03
        assert abs(shares[2] - 0.15) < 0.15  # of the rare class a few patients have nearly all
        assert abs(len(rows[split]) / len(labels) - 0.15) < 0.01
    assert np.array_equal(rows["test"], divided(groups, labels, seed=seed)[0]["test"])
    # With one sample a group they are as even as samples are.
    alone = divided(np.arange(len(labels)), labels, seed=seed)[0]["test"]
    assert np.abs(np.bincount(labels[alone]) / np.bincount(labels) - 0.15).max() < 0.02


def test_each_split_gets_a_group() -> None:
    labels = np.zeros(9, dtype=np.int64)
    for seed in range(5):
        rows, _ = divided(np.arange(9) // 3, labels, 0.1, seed=seed)
        assert sorted(map(len, rows.values())) == [3, 3, 3]
        one_large = np.array([0] * 7 + [1, 2])
        rows, _ = divided(one_large, labels, 0.1, seed=seed)
        assert [len(rows[split]) for split in ("test", "val", "train")] == [1, 1, 7]


def test_groups_stay_in_their_splits() -> None:
    groups, labels = patients()
    rows, kept = divided(groups, labels)
    before = homes([*map(str, groups)], rows)
    # Some images more of known patients, others less, and four patients that are new.
    more = np.concatenate([groups[11:], [5, 5, 9, 30, 120, 121, 121, 122, 123]])
    rows, _ = divided(more, np.append(labels[11:], [0] * 9), kept=kept)
    after = homes([*map(str, more)], rows)
    assert [before[name] for name in before if name in after] == [
        after[name] for name in before if name in after
    ]
    moved = []
    for row in range(0, len(groups), 40):  # without a partition a patient more or less moves few
        rows, _ = divided(np.delete(groups, row), np.delete(labels, row))
        after = homes([*map(str, np.delete(groups, row))], rows)
        moved.append(sum(before[name] != after.get(name, before[name]) for name in before))
    assert np.mean(moved) < 12


def test_a_split_that_is_no_longer_drawn_is_trained_on() -> None:
    names, labels = samples(200)
    keys = name_keys(names)
    rows, kept = divide(keys, labels, {"test": 20, "val": 20}, 0)
    fewer, partition = divide(keys, labels, {"test": 20}, 0, kept=kept)
    assert np.array_equal(rows["test"], fewer["test"])
    assert [*partition] == ["test", "train"]
    assert np.array_equal(divide(keys, labels, {"test": 1}, 0, kept=partition)[0]["test"],
                          rows["test"])  # fmt: skip


@pytest.mark.parametrize("ends", [{}, {"test": [0.2], "train": [0.9]}])
def test_a_partition_by_hand(ends: dict[str, list[float]]) -> None:
    made: Partition = {
        s: {"drawn_by": "", "ends": e, "count": 1, "mark": 1} for s, e in ends.items()
    }
    with pytest.raises(OptionError, match=r"partition is .*; leave it out: only what a checkpoint"):
        divide(np.arange(9), np.zeros(9, dtype=np.int64), {"test": 2}, 0, kept=made)


def test_keys_are_of_names_and_contents() -> None:
    hangul = "세포/é.png"
    forms = [unicodedata.normalize(form, hangul) for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    assert len(set(name_keys(forms).tolist())) == 1
    assert len(set(name_keys(["a", "b", "\udc80"]).tolist())) == 3
    a, b = np.array([1.5, -1.5, 0.0, 1.5]), np.array([2.0, 2.0, -0.0, 2.0])
    keys = row_keys({"a": a, "b": b})
    assert np.array_equal(keys, row_keys({"b": b, "a": a}))
    assert not np.array_equal(keys, row_keys({"a": b, "b": a}))
    assert keys[0] == keys[3] != keys[1]
    assert keys[2] == row_keys({"a": np.zeros(1), "b": np.zeros(1)})[0]
    apart = distinct(keys)
    assert len(set(apart.tolist())) == 4
    assert apart[:3].tolist() == keys[:3].tolist()


@pytest.mark.parametrize("per_class", [3, 6, 7])
@pytest.mark.parametrize("classes", [2, 5, 40])
def test_a_few_samples_a_class_are_enough_for_all_splits(per_class: int, classes: int) -> None:
    labels = np.repeat(np.arange(classes), per_class)
    keys = name_keys(map(str, range(len(labels))))
    for seed in range(3):
        sizes = {split: share(len(labels), 0.1) for split in ("test", "val")}
        rows, kept = divide(keys, labels, sizes, seed)
        for own in rows.values():
            assert len(set(labels[own])) == classes
        if per_class > 5:
            assert len(rows["train"]) >= len(labels) / 2
        again, _ = divide(keys, labels, sizes, seed, kept=kept)
        assert all(np.array_equal(rows[split], again[split]) for split in rows)
    # A split that nobody wants gets none, and a class of one or two is learnt from.
    rows, _ = divide(keys, labels, {"test": 0, "val": 2}, 0)
    assert not len(rows["test"])
    few = np.array([0] * 40 + [1, 2, 2])
    rows, _ = divide(name_keys(map(str, range(43))), few, {"test": 4, "val": 4}, 0)
    assert {1, 2} <= set(few[rows["train"]])


def with_copies(count: int = 300) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Samples of which every third is a copy of another, some of them with another label."""
    names, labels = samples(count)
    contents = np.arange(count, dtype=np.int64) * 7919
    contents[::3] = contents[np.random.default_rng(1).permutation(count)[: len(contents[::3])]]
    return names, labels, contents


@pytest.mark.parametrize("grouped", [False, True])
def test_copies_share_a_split_and_none_moves_when_they_come_or_go(grouped: bool) -> None:
    names, labels, contents = with_copies()
    owners = name_keys(f"P{number // 3}" for number in range(len(names))) if grouped else None

    def drawn(picked: np.ndarray, kept: Partition | None = None, **options):
        own = [names[i] for i in picked]
        groups = None if owners is None else owners[picked]
        options = {"contents": contents[picked], **options}
        sizes = {split: share(len(own), 0.15) for split in ("test", "val")}
        rows, partition = divide(
            name_keys(own), labels[picked], sizes, 0, groups=groups, kept=kept, **options
        )
        return homes(own, rows), json.loads(json.dumps(partition))

    everyone = np.arange(len(names))
    before, kept = drawn(everyone)

    def apart(found: dict[str, str]) -> int:
        by_content: dict[int, set[str]] = {}
        for name, content in zip(names, contents.tolist(), strict=True):
            if name in found:
                by_content.setdefault(content, set()).add(found[name])
        return sum(len(splits) > 1 for splits in by_content.values())

    assert apart(before) == 0
    assert apart(drawn(everyone, contents=None)[0]) > 5
    if not grouped:  # copies of patients' images make larger groups than 15 % divides well
        sizes = [list(before.values()).count(split) for split in ("test", "val")]
        assert all(abs(size - 45) <= 12 for size in sizes)
    assert any(kept[split]["moved"] for split in kept)
    # Without the half of all copies, and with all of them again: nothing leaves its split.
    fewer = np.delete(everyone, np.arange(0, len(names), 6))
    after, partition = drawn(fewer, kept)
    assert after == {name: before[name] for name in after}
    again, _ = drawn(everyone, partition)
    assert apart(again) == 0
    assert not any(
        after[name] == "train" and again[name] != "train" for name in after
    )  # what was trained on stays there


def test_many_copies_of_one_are_trained_on() -> None:
    contents = np.arange(200, dtype=np.int64)
    contents[:60] = 7  # blank images, say
    for seed in range(5):
        keys = name_keys(map(str, range(200)))
        sizes = {"test": 20, "val": 20}
        rows, kept = divide(keys, contents * 0, sizes, seed, contents=contents)
        assert set(range(60)) <= set(rows["train"])
        again, _ = divide(keys, contents * 0, sizes, seed, contents=contents, kept=kept)
        assert all(np.array_equal(rows[split], again[split]) for split in rows)


def test_a_set_of_copies_alone_is_divided_all_the_same() -> None:
    keys, same = name_keys(map(str, range(20))), np.zeros(20, dtype=np.int64)
    rows, _ = divide(keys, same, {"test": 2, "val": 2}, 0, contents=same)
    assert [len(rows[split]) for split in ("test", "val", "train")] == [2, 2, 16]


@pytest.mark.parametrize("kind", ["two pictures 20 times each", "30 of 40 equal"])
def test_copies_that_were_divided_stay_where_they_were(kind: str) -> None:
    number = np.arange(40, dtype=np.int64)
    contents = number % 2 if kind.startswith("two") else np.maximum(number, 29)
    keys, labels = name_keys(map(str, number)), number % 2
    sizes = {"test": 6, "val": 6}
    for seed in range(5):
        rows, kept = divide(keys, labels, sizes, seed, contents=contents)
        assert [len(rows[split]) for split in ("test", "val", "train")] == [6, 6, 28]
        for _ in range(2):  # what a run that goes on keeps is as good
            kept = json.loads(json.dumps(kept))
            again, kept = divide(keys, labels, sizes, seed, contents=contents, kept=kept)
            assert all(np.array_equal(rows[split], again[split]) for split in rows)


def test_a_partition_of_an_earlier_version_says_less() -> None:
    names, labels = samples(60)
    keys = name_keys(names)
    rows, kept = divide(keys, labels, {"test": 6, "val": 6}, 0, contents=keys)
    early: Partition = {
        split: {
            "drawn_by": share["drawn_by"],
            "ends": share["ends"],
            "count": share["count"],
            "mark": share["mark"],
        }
        for split, share in kept.items()
    }
    again, now = divide(keys, labels, {"test": 6, "val": 6}, 0, contents=keys, kept=early)
    assert all(np.array_equal(rows[split], again[split]) for split in rows)
    assert changes(early, now, "samples") is None
    assert known_share(early, keys) == 0


def test_a_set_is_known_again_by_what_it_holds() -> None:
    keys = name_keys(map(str, range(3000)))
    _, kept = divide(keys, np.zeros(3000, dtype=np.int64), {"test": 300, "val": 300}, 0, source="x")
    assert kept["train"]["source"] == "x"
    assert len(kept["train"]["sketch"]) == 512
    assert known_share(kept, keys) == 1
    assert known_share(kept, name_keys(map(str, range(3000, 6000)))) == 0
    assert abs(known_share(kept, keys[:750]) - 0.25) < 0.05
