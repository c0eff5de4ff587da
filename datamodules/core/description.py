"""What data say of themselves before a run: their splits and facts, in words and as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class DescribedWarning(UserWarning):
    """A warning of what a description says as well."""


@dataclass(frozen=True)
class Fact:
    """Something that is known of the data.

    Attributes:
        name: What it is about, in one word, such as "images".
        text: The fact in words, for people.
        values: The same as plain data, for ``summary.json``.
    """

    name: str
    text: str
    values: dict[str, Any]


@dataclass(frozen=True)
class SplitFacts:
    """What is known of a split.

    Attributes:
        size: How many samples it has.
        origin: How it came to be.
        classes: How much of each class it holds, by name; None where there are no classes.
    """

    size: int
    origin: str
    classes: dict[str, int] | None = None


@dataclass(frozen=True)
class Description:
    """What is known of a data set.

    Attributes:
        name: The class that reads it.
        source: The file or folder that it lies in, if it lies in one.
        samples: What several samples are called.
        counted: What has a class, one of them: an image, a pixel.
        splits: The splits that are loaded.
        facts: What else is known.
        notes: What is probably not as it was meant.
    """

    name: str
    source: str | None
    samples: str
    counted: str
    splits: dict[str, SplitFacts]
    facts: list[Fact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain data.

        >>> split = SplitFacts(2, "the rest", {"cat": 1, "dog": 1})
        >>> Description("Pets", None, "images", "image", {"train": split}).plain()["splits"]
        {'train': {'size': 2, 'origin': 'the rest', 'classes': {'cat': 1, 'dog': 1}}}
        """
        splits = {
            split: {
                "size": of.size,
                "origin": of.origin,
                **({} if of.classes is None else {"classes": of.classes}),
            }
            for split, of in self.splits.items()
        }
        return {
            "name": self.name,
            "source": self.source,
            "samples": self.samples,
            "splits": splits,
            **{fact.name: fact.values for fact in self.facts},
        }


def read_as_fact(forms: Mapping[str, str]) -> Fact:
    """Return how samples are written where they lie.

    Args:
        forms: In words, by split; all have their names where some differ.

    >>> read_as_fact({"train": "csv in utf-8", "test": "csv in cp949"}).text
    'train csv in utf-8; test csv in cp949'
    """
    text = next(iter(forms.values()))
    if len(set(forms.values())) > 1:
        text = "; ".join(f"{split} {form}" for split, form in forms.items())
    return Fact("read_as", text, dict(forms))
