"""Inputs to try, from samples of a run's test split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from datamodules.core.protocols import SupportsTexts

#: Characters of a text to try: a longer one fills the page.
_MOST_CHARACTERS = 600


def examples_of(data: Any, batches: Sequence[Any], count: int, folder: Path) -> list[Any]:
    """Return inputs as the page of such data takes them.

    Args:
        data: The data, with ``batches`` of its test split.
        batches: Some, as they come from the loader.
        count: How many inputs there are at most.
        folder: Where images are written.
    """
    if hasattr(batches[0], "image"):
        return list(islice(_images(batches, folder), count))
    if isinstance(data, SupportsTexts):
        numbers = [int(number) for batch in batches for number in batch.index]
        short = [text for text in data.texts(numbers) if len(text) <= _MOST_CHARACTERS]
        return short[:count]
    if hasattr(data, "means"):
        rows = [row for batch in batches for row in batch.features.tolist()]
        return [_row(data, row) for row in rows[:count]]
    return []


def _images(batches: Sequence[Any], folder: Path) -> Iterator[str]:
    """Yield files of images; no class comes again before all others have come."""
    groups: dict[str, list[Any]] = {}
    for batch in batches:
        labels = batch.label.tolist() if hasattr(batch, "label") else [None] * len(batch.image)
        for image, label in zip(batch.image, labels, strict=True):
            groups.setdefault(str(label), []).append(image)
    in_turns = chain.from_iterable(zip_longest(*groups.values()))
    for number, image in enumerate(each for each in in_turns if each is not None):
        pixels = image.permute(1, 2, 0).numpy()  # (H, W, C)
        path = folder / f"example{number}.png"
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)
        yield str(path)


def _row(data: Any, features: list[float]) -> list[Any]:
    """Return a row's values, in the order of ``columns``, from what a net gets of it."""
    numeric = zip(features, data.means.values(), data.stds.values(), strict=False)
    # As many digits as float32 has: what lies beyond is of the way there and back.
    values: list[Any] = [float(f"{value * std + mean:.6g}") for value, mean, std in numeric]
    place = len(values)
    for known in data.categories.values():
        marks = features[place : place + len(known)]
        values.append(known[marks.index(max(marks))])
        place += len(known)
    return values
