"""DICOM files: their window, their units, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from datamodules import ImageFolder
from datamodules.core.errors import DataError
from datamodules.images.decode import read_image

pydicom = pytest.importorskip("pydicom")


def write(path: Path, values: np.ndarray, *, kind: str | None = None, **tags) -> Path:
    """Write values (H, W), int16, or uint8 (H, W, 3)."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    colour = values.ndim == 3 and values.shape[2] == 3
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
    data.Rows, data.Columns = values.shape[:2] if colour else values.shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = kind or ("RGB" if colour else "MONOCHROME2")
    data.BitsAllocated = data.BitsStored = 8 if colour else 16
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = 0 if colour else 1
    if colour:
        data.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = values.astype(np.uint8 if colour else np.int16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


VALUES = np.linspace(-1000, 1000, 64).round().reshape(8, 8)


def expected(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) / (high - low) * 255, 0, 255).round()


def test_a_window_is_the_files_own_or_percentiles(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.dcm", VALUES)
    assert np.array_equal(read_image(plain, 8, 1)[..., 0], expected(VALUES, -1000, 1000))
    options = {"WindowCenter": [40, 300], "WindowWidth": [400, 900]}
    narrow = write(tmp_path / "b.dcm", VALUES, **options)
    assert np.array_equal(read_image(narrow, 8, 3)[..., 2], expected(VALUES, -160, 240))
    low, high = np.percentile(VALUES, [5, 95])
    found = read_image(narrow, 8, 1, window=[5, 95])[..., 0]
    assert np.array_equal(found, expected(VALUES, low, high))
    # The same picture in other units, and with black and white exchanged.
    scaled = write(tmp_path / "c.dcm", VALUES + 1024, RescaleSlope=1, RescaleIntercept=-1024,
                   **options)  # fmt: skip
    assert np.array_equal(read_image(scaled, 8, 1), read_image(narrow, 8, 1))
    turned = write(tmp_path / "d.dcm", -VALUES, kind="MONOCHROME1", WindowCenter=-40,
                   WindowWidth=400)  # fmt: skip
    assert np.array_equal(read_image(turned, 8, 1), read_image(narrow, 8, 1))


def test_colour_and_several_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(read_image(write(tmp_path / "a.dcm", pixels), 8, 3), pixels)
    stack = write(tmp_path / "b.dcm", np.stack([VALUES] * 3), NumberOfFrames=3)
    with pytest.raises(DataError, match=r"b\.dcm' .*it has 3 pictures, where an image is one"):
        read_image(stack, 8, 1)
    (tmp_path / "c.dcm").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"c\.dcm' cannot be read as an image"):
        read_image(tmp_path / "c.dcm", 8, 1)


def test_colour_in_ybr(tmp_path: Path) -> None:
    red, green, blue = 200, 50, 20
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # DICOM PS3.3, C.7.6.3.1.2
    ybr = [luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402]
    full = np.tile(np.round(ybr).astype(np.uint8), (4, 4, 1))
    found = read_image(write(tmp_path / "a.dcm", full, kind="YBR_FULL"), 4, 3)
    assert np.abs(found.astype(int) - [red, green, blue]).max() <= 2
    # Of two pixels there are both lumas and the chroma of one.
    halved = np.concatenate([full[:, ::2, :1], full[:, ::2]], axis=2)
    path = tmp_path / "b.dcm"
    write(path, full, kind="YBR_FULL_422")
    data = pydicom.dcmread(path)
    data.PixelData = halved.tobytes()
    data.save_as(path)
    assert np.array_equal(read_image(path, 4, 3), found)


def test_a_folder_of_dicom_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        write(tmp_path / "scans" / "ab"[number % 2] / f"{number}.dcm", np.roll(VALUES, number))
    data = ImageFolder(str(tmp_path / "scans"), image_size=8, in_channels=1)
    data.setup()
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [8, 2, 2]
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(DataError, match=r"0\.dcm' is a DICOM file, which needs pydicom; pip in"):
        ImageFolder(str(tmp_path / "scans"))
    (tmp_path / "tested").mkdir()
    (tmp_path / "scans").rename(tmp_path / "tested" / "test")
    with pytest.raises(DataError, match=r"0\.dcm' is a DICOM file, which needs pydicom; pip in"):
        ImageFolder(str(tmp_path / "tested"))
