"""``predictions.csv``: what was predicted for each input, and at a test the truth beside it."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.core.files import nearby, replaced
from datamodules.core.protocols import (
    HasBroken,
    HasClassNames,
    HasNames,
    SupportsTexts,
)
from zoo.errors import UserError
from zoo.metrics.classes import dice_of_images, f1
from zoo.model.results import (
    ClassResult,
    LabelsResult,
    MaskResult,
    NumberResult,
    Result,
    kind_of,
    results_of,
)
from zoo.run.folder import RunFolder

#: Inputs that could not be read that are named, and classes whose probabilities a test writes.
_MOST_NAMED, _MOST_CLASSES = 50, 100
#: Worst images that a test names.
_MOST_WORST = 3
#: Characters of a text that stand for it.
_TEXT_LENGTH = 60


def write_predictions(folder: RunFolder, batches: list[dict[str, Any]], data: Any) -> str | None:
    """Print what was predicted for each input and write ``predictions.csv``.

    The file has a row for each input: its name and, from a classifier, the class, its probability
    and the probability of every class (of several labels those above one half, and all
    probabilities); from a regressor the number; from a segmenter each class's share of the pixels
    and the mask's file in the folder ``masks``, whose pixels hold the classes' numbers.

    Returns:
        Which inputs could not be read, and so have no row.

    Raises:
        UserError: If none could.
    """
    if not batches:
        raise UserError("nothing was predicted; set trainer.limit_predict_batches to 1 or more")
    kind = kind_of(batches[0])
    predicted = [value for batch in batches for value in batch[kind]]
    numbers = [int(number) for batch in batches for number in batch.get("index", ())]
    numbers = numbers or list(range(len(predicted)))
    broken = data.broken if isinstance(data, HasBroken) else {}
    kept = [place for place, number in enumerate(numbers) if number not in broken]
    if not kept:
        raise UserError(f"no input can be read; {next(iter(broken.values()))}")
    order = sorted(kept, key=numbers.__getitem__)
    predicted = [predicted[place] for place in order]
    given = data.names if isinstance(data, HasNames) else None
    names = [given[numbers[place]] if given else str(numbers[place]) for place in order]
    results = [*results_of(kind, predicted, names, data)]
    columns, rows = _table(results, folder)
    width = max(map(len, names))
    path = folder.path / "predictions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["input", *columns])
        for name, row, result in zip(names, rows, results, strict=True):
            writer.writerow([name, *row])
            print(f"{name:<{width}}  {result}")
    print(f"written to {nearby(path)}", flush=True)
    return _unread(broken, len(numbers)) if broken else None


def _unread(broken: Mapping[int, str], count: int) -> str:
    """Return a sentence about what could not be read; of very many, about the first."""
    whys = [broken[number] for number in sorted(broken)]
    more = [f"... and {len(whys) - _MOST_NAMED} more"] if len(whys) > _MOST_NAMED else []
    named = "\n  ".join(whys[:_MOST_NAMED] + more)
    return f"{len(whys)} of {count} inputs cannot be read and are left out:\n  {named}"


def _table(results: Sequence[Result], folder: RunFolder) -> tuple[list[str], list[list[str]]]:
    """Return the file's columns and rows; masks are saved in the folder."""
    first = results[0]
    files = _mask_files([result.input for result in results if isinstance(result, MaskResult)])
    rows = []
    for result in results:
        match result:
            case ClassResult():
                own, shares = [result.label, f"{result.probability:.6f}"], result.probabilities
            case LabelsResult():
                own, shares = ["; ".join(result.labels)], result.probabilities
            case MaskResult():
                own, shares = [next(files)], result.shares
                path = folder.path / own[0]
                path.parent.mkdir(exist_ok=True)
                result.save(path)
            case _:
                own, shares = [str(result)], {}
        rows.append([*own, *(f"{share:.6f}" for share in shares.values())])
    match first:
        case ClassResult() | LabelsResult():
            columns = ["prediction", *(["probability"] if isinstance(first, ClassResult) else [])]
            columns += [f"p({name})" for name in first.probabilities]
        case MaskResult():
            columns = ["mask", *(f"share({name})" for name in first.shares)]
        case NumberResult():
            columns = [first.name]
        case _:
            columns = ["text"]
    return columns, rows


def _mask_files(names: Sequence[str]) -> Iterator[str]:
    """Yield a file's name for each mask; no two are the same."""
    taken: set[str] = set()
    for name in names:
        stem, number = Path(name).stem, 1
        while (file := f"{stem}_{number}.png" if number > 1 else f"{stem}.png") in taken:
            number += 1
        taken.add(file)
        yield f"masks/{file}"


# ---------------------------------------------------------------- of a test


def write_outcomes(folder: RunFolder, artifacts: Mapping[str, Any], data: object) -> None:
    """Write a test's samples into ``predictions.csv``, in the order of their numbers.

    Each has its file, or its number in the data set, and of a text its beginning, then:

    * of a classifier the true class, the predicted one, its probability, and those of all classes,
      up to 100 (of several labels the true ones, those above one half, and all probabilities);
    * of a regressor the true and the predicted number;
    * of a segmenter Dice, as a mean over the classes but the first and of each class, empty where
      the image has none of it and none was predicted, and the image's loss.

    Args:
        folder: The run's.
        artifacts: What the task kept of the test.
        data: The data module.
    """
    if "classes" in artifacts:
        of_samples, (columns, rows) = artifacts["classes"], _classes(artifacts["classes"], data)
    elif "numbers" in artifacts:
        of_samples = artifacts["numbers"]
        columns, values = ["truth", "prediction"], (of_samples["target"], of_samples["prediction"])
        rows = zip(*(map(repr, each.tolist()) for each in values), strict=True)
    elif "images" in artifacts:
        of_samples, (columns, rows) = artifacts["images"], _images(artifacts["images"], data)
    else:
        return
    named = _named(of_samples["index"].tolist(), data)
    names = ["input", "text"] if isinstance(data, SupportsTexts) else ["input"]
    path = folder.path / "predictions.csv"
    with replaced(path) as file, file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow([*names, *columns])
        writer.writerows([*name, *row] for name, row in zip(named, rows, strict=True))


def worst_images(artifacts: Mapping[str, Any], data: object) -> str | None:
    """Return the three images whose masks were predicted worst, with their Dice; None if none.

    Images without foreground, true or predicted, have no Dice and are not among them.
    """
    if "images" not in artifacts:
        return None
    of_images = artifacts["images"]
    dice = dice_of_images(of_images["counts"])
    worst = dice.argsort(stable=True)[: min(_MOST_WORST, int(dice.isfinite().sum()))]  # NaN is last
    if not len(worst):
        return None
    names = _named(of_images["index"][worst].tolist(), data)
    return ", ".join(
        f"{Path(name[0]).name} {value:.3f}"
        for name, value in zip(names, dice[worst].tolist(), strict=True)
    )


def _named(numbers: list[int], data: object) -> list[list[str]]:
    """Return what each sample is called."""
    if isinstance(data, HasNames):
        given = data.names
        names = [given[number] if number >= 0 else str(number) for number in numbers]
    else:
        names = [str(number) for number in numbers]
    if not isinstance(data, SupportsTexts):
        return [[name] for name in names]
    texts = (
        textwrap.shorten(text, _TEXT_LENGTH, placeholder=" ...") for text in data.texts(numbers)
    )
    return [[name, text] for name, text in zip(names, texts, strict=True)]


_Rows = tuple[list[str], Iterable[Sequence[str]]]


def _classes(of_samples: Mapping[str, Tensor], data: object) -> _Rows:
    probabilities, labels = of_samples["probabilities"], of_samples["label"]
    classes = class_names_of(data, probabilities.shape[1])
    several = labels.ndim == 2
    shown = classes if several or len(classes) <= _MOST_CLASSES else []
    columns = ["truth", "prediction"] + ([] if several else ["probability"])
    columns += [f"p({name})" for name in shown]

    def rows() -> Iterable[list[str]]:
        for label, values in zip(labels.tolist(), probabilities.tolist(), strict=True):
            all_of_them = [f"{value:.6f}" for value in values] if shown else []
            if several:
                true = (name for name, there in zip(classes, label, strict=True) if there > 0)
                found = (name for name, value in zip(classes, values, strict=True) if value > 0.5)
                yield ["; ".join(true), "; ".join(found), *all_of_them]
            else:
                top = max(values)
                yield [classes[label], classes[values.index(top)], f"{top:.6f}", *all_of_them]

    return columns, rows()


def _images(of_images: Mapping[str, Tensor], data: object) -> _Rows:
    hits, predicted, true = of_images["counts"].unbind(1)
    dice = f1(hits, predicted, true)  # (N, C)
    classes = class_names_of(data, dice.shape[1])
    means = dice_of_images(of_images["counts"])
    columns = ["dice", *(f"dice({name})" for name in classes), "loss"]
    table = torch.cat([means[:, None], dice, of_images["loss"][:, None].double()], dim=1)
    shown = ([f"{value:.6f}" if value == value else "" for value in row] for row in table.tolist())
    return columns, shown


def class_names_of(data: object, classes: int) -> list[str]:
    """Return the data's class names, or numbers where it has none."""
    names = data.class_names if isinstance(data, HasClassNames) else ()
    return list(names or map(str, range(classes)))
