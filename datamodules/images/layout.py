"""What a folder of images with labels holds: its splits, and each image's class or classes."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.core.errors import DataError, listed, refuse, shown
from datamodules.core.files import is_shown
from datamodules.core.labels import check_known
from datamodules.core.split_names import by_split, split_of
from datamodules.core.splits import composed
from datamodules.core.text_file import SPREADSHEETS
from datamodules.images.decode import list_images, no_images, skipped_reason
from datamodules.images.folder import same_name
from datamodules.images.labels import Columns, LabelTable

_TABLES = (".csv", ".tsv", *SPREADSHEETS)


@dataclass
class Labelled:
    """Images of a split, or of all that are to be divided.

    Attributes:
        files: Their paths.
        classes: The names of each one's classes; one, unless an image may have several.
        folders: Each one's folder of its class, or of all where a table says the classes.
        given: What says that they are the split's; empty where they are to be divided.
    """

    files: list[Path] = field(default_factory=list)
    classes: list[tuple[str, ...]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    given: str = ""


@dataclass
class Listing:
    """What a folder holds.

    Attributes:
        root: The folder that holds the splits or classes, below a wrapper if there is one.
        base: The folder below which training images are named.
        splits: The images of "train", "val" and "test", as far as they are there.
        class_names: The classes of all splits, in their order.
        several: Whether an image may have several classes.
        labelled_by: The table that the classes were read from; empty for folders.
        skipped: How many files were passed over, by the reason.
    """

    root: Path
    base: Path
    splits: dict[str, Labelled]
    class_names: list[str]
    several: bool = False
    labelled_by: str = ""
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ClassNames:
    """The classes in their order, where they are known before.

    Attributes:
        names: The classes.
        of_net: Whether a net has learnt them, so that not all need be there.
    """

    names: list[str]
    of_net: bool

    def check(self, where: Path, found: Collection[str]) -> None:
        """Compare them with those that there are.

        Raises:
            UserError: If there are others, or, of those that a user names, not all.
        """
        if self.of_net:
            check_known(shown(where), found, self.names, "the net knows", "images")
            return
        unnamed = [name for name in found if name not in self.names]
        if unnamed:
            remedy = f"add {listed(unnamed)}, which {shown(where)} holds"
            raise refuse("class_names", self.names, remedy)
        absent = [name for name in self.names if name not in found]
        if absent:
            remedy = f"remove {listed(absent)}, of which {shown(where)} has no images"
            raise refuse("class_names", self.names, remedy)


def list_folder(
    root: Path,
    labels: Path | None,
    columns: Columns,
    class_names: ClassNames | None,
    beside: Collection[Path] = (),
) -> Listing:
    """List images and their classes; of the images nothing is read.

    Args:
        root: The folder.
        labels: A table of names and labels; None looks for one where there are no class folders.
        columns: Which of its columns are what.
        class_names: The classes, if they are known.
        beside: Other files that are read, which are not passed over.

    Raises:
        UserError: If classes or images are not there.
    """
    skipped: Counter[str] = Counter()
    inner = _unwrapped(root)
    splits = split_folders(inner)
    table = labels if labels is not None else _own_table(inner, splits)
    _count_in(_around(root, inner), skipped, beside)
    if table is not None:
        listing = _by_table(inner, table, columns, class_names, skipped, beside)
    else:
        listing = _by_folders(inner, splits, class_names, skipped, beside)
    return listing


def _around(root: Path, inner: Path) -> list[Path]:
    """Return the folders from one to another in it, without that."""
    return [folder for folder in inner.parents if folder == root or root in folder.parents]


def _count_in(folders: Collection[Path], skipped: Counter[str], beside: Collection[Path]) -> None:
    """Count what is passed over in folders themselves, of which the folders in them are read."""
    read = {used.resolve() for used in beside}
    for path in (path for folder in folders for path in folder.iterdir()):
        reason = skipped_reason(path)
        if reason is None and path.is_file():
            reason = "images beside the folders"
        if reason is not None and path.resolve() not in read:
            skipped[reason] += 1


def folders_in(root: Path) -> dict[str, Path]:
    """Return the folders in a folder by their names, sorted, in one form of Unicode."""
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if path.is_dir() and skipped_reason(path) is None:
            other = found.setdefault(composed(path.name), path)
            if other != path:
                raise same_name(other, path)
    return dict(sorted(found.items()))


def _holds_images(folder: Path) -> bool:
    """Return whether images lie in a folder, not in a folder of it."""
    return any(skipped_reason(path) is None and path.is_file() for path in folder.iterdir())


def _tables_in(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _TABLES)
    return [path for path in files if path.is_file() and is_shown(path)]


def _unwrapped(root: Path) -> Path:
    """Return the folder in a folder that holds nothing else, if splits or classes are in it."""
    while True:
        folders = folders_in(root)
        if len(folders) != 1 or _holds_images(root) or _tables_in(root):
            return root
        [(name, inner)] = folders.items()
        if split_of(name) or not (folders_in(inner) or _tables_in(inner)):
            return root
        root = inner


def split_folders(root: Path, *, bare: bool = False) -> dict[str, Path]:
    """Return the folders that are named after splits, by these.

    Args:
        root: Where they lie.
        bare: Whether those count, too, that hold images themselves.

    Raises:
        DataError: If two are named after one split.
    """
    folders = {
        name: folder
        for name, folder in folders_in(root).items()
        if bare or split_of(name) is None or not _holds_images(folder)
    }
    named = by_split(folders, shown(root))
    return {split: folders[name] for split, name in named.items()}


def _own_table(root: Path, splits: Mapping[str, Path]) -> Path | None:
    """Return the only table in a folder that has no class folders."""
    tables = _tables_in(root)
    if len(tables) != 1 or any(folders_in(folder) for folder in splits.values()):
        return None
    with_images = [name for name, folder in folders_in(root).items() if _holds_images(folder)]
    classes = [name for name in with_images if split_of(name) is None]
    return tables[0] if len(classes) < 2 else None


# ---------------------------------------------------------------- class folders


def _by_folders(
    root: Path,
    splits: dict[str, Path],
    class_names: ClassNames | None,
    skipped: Counter[str],
    beside: Collection[Path],
) -> Listing:
    inside = folders_in(root).items()
    others = {name: folder for name, folder in inside if folder not in splits.values()}
    if "train" not in splits and others:
        _check_no_train(root, splits, others)
        splits = {}  # classes of such names
    elif splits and others:
        skipped["folders beside the splits"] += len(others)
    _count_in({root, *splits.values()}, skipped, beside)
    base = splits.get("train", root)
    if splits and "train" not in splits:
        base = next(iter(splits.values()))
    found = folders_in(base)
    if not found:
        raise DataError(f"{shown(base)} holds no class folders; put each class's images in one")
    if class_names is not None:
        class_names.check(base, found)
    names = [*found] if class_names is None else class_names.names
    of_splits = {
        split: _by_classes(folder, names, skipped, every=split == "train")
        for split, folder in (splits or {"train": root}).items()
    }
    for split, folder in splits.items():
        of_splits[split].given = f"folder {folder.name}"
    return Listing(root, base, of_splits, names, skipped=skipped)


def _check_no_train(root: Path, splits: Mapping[str, Path], others: Mapping[str, Path]) -> None:
    """Refuse class folders in folders named after splits, where none is named train.

    They would be taken for classes, and so would the folder to train on, whatever it is called.

    Raises:
        DataError: If there are some.
    """
    inside = {name for folder in splits.values() for name in folders_in(folder)}
    if not inside:
        return
    held = " and ".join(folder.name for folder in splits.values())
    for name, folder in others.items():
        if split_of(name) == "train":
            raise DataError(
                f"{shown(folder)} holds images themselves, where {held} has class "
                "folders; put each class's images in one"
            )
    alike = [name for name, folder in others.items() if not inside.isdisjoint(folders_in(folder))]
    remedy = (
        f"rename {alike[0]!r} to 'train'"
        if alike
        else "put the images to train on in a folder 'train', or rename what is a class"
    )
    raise DataError(f"{shown(root)} holds {held} but no train; {remedy}")


def _by_classes(
    folder: Path, names: Collection[str], skipped: Counter[str], *, every: bool
) -> Labelled:
    """List the images of a folder that holds classes."""
    found = folders_in(folder)
    check_known(shown(folder), found, names, "the training images have", "images")
    own, empty = Labelled(), []
    for name in names:
        images = list_images(found[name], skipped=skipped) if name in found else []
        own.files += images
        own.classes += [(name,)] * len(images)
        own.folders += [found[name]] * len(images) if images else []
        if name in found and not images:
            empty.append(found[name])
    if empty and every:
        raise no_images(*empty)
    if not own.files:
        raise no_images(folder)
    return own


# ---------------------------------------------------------------- a table of labels


def _by_table(
    root: Path,
    path: Path,
    columns: Columns,
    class_names: ClassNames | None,
    skipped: Counter[str],
    beside: Collection[Path],
) -> Listing:
    files = list_images(root, some=True, skipped=skipped)
    for read in {path.resolve(), *(used.resolve() for used in beside)}:
        if read.is_relative_to(root.resolve()):
            skipped["other files"] -= 1
    skipped += Counter()  # without what is none
    table = LabelTable(path, root, files, columns)
    splits: dict[str, Labelled] = {}
    for file, classes, of_row in zip(files, table.classes, table.splits, strict=True):
        first = file.relative_to(root).parts[0]
        folder = split_of(first)
        if classes is None:  # it has no row, and neither has any other file of its folder
            skipped["images without a label"] += 1
            continue
        split = split_of(of_row) or folder or "train"
        given = f"column {table.split_column}" if of_row else f"folder {first}" if folder else ""
        own = splits.setdefault(split, Labelled(given=given))
        own.files.append(file)
        own.classes.append(classes)
        own.folders.append(root)
    if class_names is not None:
        class_names.check(path, table.class_names)
    names = table.class_names if class_names is None else class_names.names
    return Listing(
        root, root, splits, names, table.several, f"{shown(path)}, {table.read_from}", skipped
    )
