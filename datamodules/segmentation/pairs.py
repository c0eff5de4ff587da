"""Which mask belongs to which image, by their names."""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from datamodules.core.errors import DataError, refuse, shown
from datamodules.core.splits import composed
from datamodules.images.decode import is_image, list_images, no_images

#: What a mask's name ends in where it lies beside its image.
_ENDINGS = tuple(
    f"{mark}{word}"
    for word in ("mask", "masks", "seg", "segmentation", "label", "labels", "gt", "manual1")
    for mark in ("_", "-", ".", " ")
)
#: What parts of a name are joined by.
_MARKS = "_-. /"


@dataclass(frozen=True)
class NamePattern:
    """What an image's and its mask's name share, less their extensions.

    Attributes:
        image: What stands before and behind that in an image's name.
        mask: The same of a mask's.
    """

    image: tuple[str, str] = ("", "")
    mask: tuple[str, str] = ("", "")

    @classmethod
    def parse(cls, text: str) -> "NamePattern":
        """Return what an option says: ``*_mask``, or ``*_training -> *_manual1``.

        Raises:
            OptionError: If it is no such pattern.
        """
        parts = [part.strip() for part in text.split("->")]
        if len(parts) > 2 or any(part.count("*") != 1 for part in parts):
            remedy = (
                "give a mask's name with * for its image's, such as '*_mask', or both names, such "
                "as '*_training -> *_manual1'"
            )
            raise refuse("mask_pattern", text, remedy)
        halves = [(part.partition("*")[0], part.partition("*")[2]) for part in parts]
        return cls(halves[0] if len(halves) == 2 else ("", ""), halves[-1])

    def __str__(self) -> str:
        image, mask = ("*".join(each) for each in (self.image, self.mask))
        return mask if image == "*" else f"{image} -> {mask}"


@dataclass
class Pairs:
    """Images and masks in the same order.

    Attributes:
        names: What each pair's names share.
        images: The images' paths.
        masks: The masks' paths.
    """

    names: list[str] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)


def pair(folder: Path, pattern: NamePattern | None) -> tuple[Pairs, NamePattern]:
    """Return the images of a folder with their masks, sorted by name.

    They lie in its folders ``images`` and ``masks``, or side by side in itself.

    Args:
        folder: The folder.
        pattern: How their names differ; None to find out.

    Returns:
        The pairs, and how their names differ.

    Raises:
        DataError: If an image has no mask, or a mask no image.
    """
    together = not (folder / "images").is_dir() and _holds_images(folder)
    if together:
        found = _by_name(folder)
        pattern = pattern or _guess_beside(found, folder)
        masks = _keyed(found, pattern.mask)
        apart = {name: path for name, path in found.items() if path not in masks.values()}
        images, where = _keyed(apart, pattern.image), folder
    else:
        named = _by_name(folder / "images"), _by_name(folder / "masks")
        pattern = pattern or _guess(*named)
        images, masks = _keyed(named[0], pattern.image), _keyed(named[1], pattern.mask)
        where = folder / "masks"
        for all_files, chosen, affixes in (
            (named[0], images, pattern.image),
            (named[1], masks, pattern.mask),
        ):
            for path in all_files.values():
                if path not in chosen.values():
                    raise DataError(
                        f"{shown(path)} has no name like {shown('*'.join(affixes))}; rename or "
                        "remove it, or give another mask_pattern"
                    )
    if not images:
        raise no_images(folder if together else folder / "images")
    for ours, theirs, one, other, affixes in (
        (images, masks, "image", "mask", pattern.mask),
        (masks, images, "mask", "image", pattern.image),
    ):
        lonely = sorted(ours.keys() - theirs.keys())
        if lonely:
            place = where if other == "mask" or together else folder / "images"
            missing = place / f"{affixes[0]}{lonely[0]}{affixes[1]}"
            more = f" ({len(lonely) - 1} more {one}s have none either)" if lonely[1:] else ""
            raise DataError(
                f"{shown(ours[lonely[0]])} has no {other}{more}; add {missing}.png or remove the "
                f"{one}; where names differ otherwise, mask_pattern says how"
            )
    names = sorted(images)
    pairs = Pairs(names, [images[name] for name in names], [masks[name] for name in names])
    return pairs, pattern


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(is_image(path) for path in folder.iterdir())


def _keyed(files: dict[str, Path], affixes: tuple[str, str]) -> dict[str, Path]:
    """Return those files whose names have the affixes, by what is between them."""
    before, behind = affixes
    least = len(before) + len(behind)
    return {
        name[len(before) : len(name) - len(behind)]: path
        for name, path in files.items()
        if name.startswith(before) and name.endswith(behind) and len(name) >= least
    }


def _guess(images: Collection[str], masks: Collection[str]) -> NamePattern:
    """Return how the names of two folders differ: by what all of each begin and end with."""
    if not images or not masks or set(images) & set(masks):
        return NamePattern()
    ends = [_common_end(names) for names in (images, masks)]
    # Letters and digits that both ends have in front belong to the name.
    shared = len(_common_start(ends).rstrip(_MARKS))
    ends = [end[shared:] for end in ends]
    starts = [
        _common_start([name[: len(name) - len(end)] for name in names])
        for names, end in zip((images, masks), ends, strict=True)
    ]
    shared = len(_common_end(starts).lstrip(_MARKS))
    starts = [start[: len(start) - shared] for start in starts]
    guess = NamePattern((starts[0], ends[0]), (starts[1], ends[1]))
    paths = {name: Path(name) for name in (*images, *masks)}
    ours = _keyed({name: paths[name] for name in images}, guess.image)
    theirs = _keyed({name: paths[name] for name in masks}, guess.mask)
    return guess if (ours.keys() & theirs.keys()) - {""} else NamePattern()


def _guess_beside(names: Collection[str], folder: Path) -> NamePattern:
    """Return how masks are called that lie beside their images."""
    counts = {
        ending: sum(name.endswith(ending) and name[: -len(ending)] in names for name in names)
        for ending in _ENDINGS
    }
    best = max(counts, key=lambda ending: counts[ending])
    if not counts[best]:
        raise DataError(
            f"{shown(folder)} holds images, but none that is called like another and ends in "
            "_mask or the like; put images into a folder 'images' and their masks into a folder "
            "'masks' beside it, or give mask_pattern, such as '*_mask'"
        )
    return NamePattern(mask=("", best))


def _common_start(names: Collection[str]) -> str:
    """Return what all names begin with."""
    low, high = min(names), max(names)  # what these two share, all between them do
    same = (one == other for one, other in zip(low, high, strict=False))
    return "".join(letter for letter, _ in zip(low, takewhile(bool, same), strict=False))


def _common_end(names: Collection[str]) -> str:
    return _common_start([name[::-1] for name in names])[::-1]


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their path in it, less the extension.

    In one form of Unicode, as an image and its mask may come from two systems.
    """
    if not folder.is_dir():
        raise DataError(
            f"{shown(folder)} is not a folder; images go into a folder 'images', their masks into "
            "a folder 'masks' beside it"
        )
    found: dict[str, Path] = {}
    for path in list_images(folder):
        name = composed(path.relative_to(folder).with_suffix("").as_posix())
        if name in found:
            raise DataError(
                f"{shown(path)} has the same name as {shown(found[name])}, so that no mask belongs "
                "to one of them alone; rename one"
            )
        found[name] = path
    return found
