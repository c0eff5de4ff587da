"""The sets of MedMNIST as their authors published them. Nothing slow is imported here."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

LabelKind = Literal["multiclass", "binary", "multilabel", "ordinal"]

#: Where the authors keep the files.
RECORD = "https://zenodo.org/records/10519652/files"

CITATION = (
    'J. Yang, R. Shi, D. Wei, Z. Liu, L. Zhao, B. Ke, H. Pfister, B. Ni, "MedMNIST v2 - A '
    'large-scale lightweight benchmark for 2D and 3D biomedical image classification", Scientific '
    "Data 10, 41, 2023, https://doi.org/10.1038/s41597-022-01721-8; and the paper of the set's "
    "own source, which https://medmnist.com names"
)


class MedSet(NamedTuple):
    """A set as its authors published it.

    Attributes:
        kind: What its labels are.
        channels: 1 for grey, 3 for colour.
        samples: Images for training, validation and test.
        licence: Under which the set may be used.
        classes: The classes in the order of their numbers.
        md5: The file's md5 sum for each image size.
    """

    kind: LabelKind
    channels: int
    samples: list[int]
    licence: str
    classes: list[str]
    md5: dict[int, str]


def _read(facts: dict[str, Any]) -> MedSet:
    md5 = {int(size): digest for size, digest in facts.pop("md5").items()}
    return MedSet(**facts, md5=md5)


_FILE = Path(__file__).with_suffix(".json")
SETS = {name: _read(facts) for name, facts in json.loads(_FILE.read_text("utf-8")).items()}


def about() -> str:
    """Return all sets with their labels, images, classes and licence, and what to cite."""
    return "\n\n".join(["The sets:", *_paragraphs(), textwrap.fill(f"Citation: {CITATION}", 100)])


def _paragraphs() -> Iterator[str]:
    for name, facts in SETS.items():
        colour = "grey" if facts.channels == 1 else "colour"
        images = " / ".join(f"{count:,}" for count in facts.samples)
        sizes = ", ".join(map(str, facts.md5))
        lines = [
            f"{facts.kind}, {len(facts.classes)} classes, {facts.licence}; "
            f"{colour}, {sizes} pixels",
            f"{images} images for training / validation / test",
            *textwrap.wrap("; ".join(facts.classes), 96, break_on_hyphens=False),
        ]
        yield "\n".join([name, *(f"    {line}" for line in lines)])
