"""Decoded images on disk, so that each is decoded once."""

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from datamodules.core.cache import build_once, need_space, warn_unwritable
from datamodules.core.copies import array_keys
from datamodules.core.errors import DataError
from datamodules.core.options import height_and_width
from datamodules.core.splits import Keys
from datamodules.images.dataset import channel_sums
from datamodules.images.decode import READER_VERSION

Array = npt.NDArray[np.uint8]
Reader = Callable[[int], Array]


@dataclass
class DecodedImages:
    """Images of one size.

    Attributes:
        images: Uint8 (N, H, W, C), mapped from the cache's file where there is one.
        sums: Int64 (N, 2, C), each image's sum and sum of squares per channel.
        keys: Int64 (N,), a hash of each image's pixels.
        broken: What was wrong with each image that cannot be read, by row; such a row is black.
    """

    images: Array
    sums: npt.NDArray[np.int64]
    keys: Keys
    broken: dict[int, str]


def decoded(
    key: object, count: int, size: int | list[int], channels: int, reader: Callable[[], Reader]
) -> DecodedImages:
    """Decode images, or find them decoded by an earlier run.

    Processes that want the same images wait for the one that decodes them. Where the cache cannot
    be written the images stay in memory.

    Args:
        key: What the pixels depend on besides size and channels, as JSON: names, sizes, times.
        count: How many images.
        size: Height and width in pixels, a number for both or ``[H, W]``.
        channels: 1 or 3.
        reader: Called only if there is decoding to do; what it returns gives row i as uint8
            (H, W, channels), or raises DataError.
    """
    shape = (count, *height_and_width(size), channels)

    def build(folder: Path) -> None:
        need_space(folder, int(np.prod(shape)))
        images = np.lib.format.open_memmap(
            folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape
        )
        sums, keys, broken = _decode_into(images, reader())
        images.flush()
        np.save(folder / "sums.npy", sums)
        np.save(folder / "keys.npy", keys)
        (folder / "broken.json").write_text(json.dumps(broken), encoding="utf-8")

    try:
        whole_key = [READER_VERSION, size, channels, count, key]
        return build_once("images", whole_key, partial(_load_decoded, shape), build)
    except OSError as error:
        instead = "the images are decoded into memory for this run alone"
        warn_unwritable("images", error, instead)
    images = np.zeros(shape, dtype=np.uint8)
    return DecodedImages(images, *_decode_into(images, reader()))


def _load_decoded(shape: tuple[int, ...], folder: Path) -> DecodedImages:
    # "c", copy on write, because torch warns of arrays that cannot be written to.
    images = np.load(folder / "images.npy", mmap_mode="c" if shape[0] else None)
    sums, keys = np.load(folder / "sums.npy"), np.load(folder / "keys.npy")
    broken = json.loads((folder / "broken.json").read_text(encoding="utf-8"))
    if images.shape != shape or len(sums) != shape[0]:
        raise ValueError("not whole")
    return DecodedImages(images, sums, keys, {int(row): why for row, why in broken.items()})


#: What a damaged npz file makes zipfile and numpy raise.
DAMAGED = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


def npy_header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of an array in an npz file; the array itself is not read.

    Raises:
        ValueError: If the member is no array.
    """
    with archive.open(member) as file:
        shape, _, dtype = _npy_header(file)
    return shape, dtype


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    major, _ = np.lib.format.read_magic(file)
    if major == 1:
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def unpacked(archive: Path, member: str, shape: tuple[int, ...]) -> Array | None:
    """Return an npz file's images, mapped from a copy in the cache that is made if need be.

    Args:
        archive: The npz file.
        member: The file in it, which holds uint8 values.
        shape: What the images shall have, (N, H, W, C).

    Returns:
        The images, or None where the cache cannot be written.
    """
    stat = archive.stat()
    key = [str(archive.resolve()), stat.st_size, stat.st_mtime_ns, member, shape]
    try:
        return build_once("npz", key, _load_unpacked, partial(_unpack, archive, member, shape))
    except OSError as error:
        warn_unwritable("npz", error, f"all of {archive} is held in memory")
        return None


def _load_unpacked(folder: Path) -> Array:
    # "c", copy on write, because torch warns of arrays that cannot be written to.
    images: Array = np.load(folder / "images.npy", mmap_mode="c")
    return images


def _unpack(archive: Path, member: str, shape: tuple[int, ...], folder: Path) -> None:
    need_space(folder, int(np.prod(shape)))
    with zipfile.ZipFile(archive) as opened, opened.open(member) as source:
        _, fortran, dtype = _npy_header(source)
        header = {"descr": dtype.str, "fortran_order": fortran, "shape": shape}
        with (folder / "images.npy").open("xb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(source, file, 2**20)


def _decode_into(images: Array, read: Reader) -> tuple[npt.NDArray[np.int64], Keys, dict[int, str]]:
    """Decode into the array by threads; on large images decoders release the interpreter's lock."""
    from tqdm import tqdm

    sums = np.zeros((len(images), 2, images.shape[-1]), dtype=np.int64)
    keys = np.zeros(len(images), dtype=np.int64)
    broken: dict[int, str] = {}

    def some(start: int) -> int:
        stop = min(start + step, len(images))
        for row in range(start, stop):
            try:
                images[row] = read(row)
            except DataError as error:
                broken[row] = str(error)
        sums[start:stop] = channel_sums(images[start:stop])
        keys[start:stop] = array_keys(images[start:stop])
        return stop - start

    # About a megabyte at once: handing out the work then costs nothing, and the bar still moves.
    step = max(1, 2**20 // max(1, int(np.prod(images.shape[1:]))))
    # The bar shows only on a terminal, when the work takes longer than 2 s.
    bar = tqdm(
        total=len(images), desc="decoding images", unit="", delay=2, leave=False, disable=None
    )
    with bar, ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        for count in threads.map(some, range(0, len(images), step)):
            bar.update(count)
    return sums, keys, dict(sorted(broken.items()))
