import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import CIFAR10, Digits, ImageFolder, ImageInputs
from datamodules.core.errors import DataError, OptionError

OPTIONS = {
    "class_names": ["a", "b"],
    "image_size": 8,
    "in_channels": 3,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.1],
}


def save(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_files_and_folders(tmp_path) -> None:
    one = save(tmp_path / "one.png")
    save(tmp_path / "more" / "b.jpg")
    save(tmp_path / "more" / "deep" / "A.PNG", np.zeros((20, 10), dtype=np.uint8))
    (tmp_path / "more" / "._b.jpg").write_bytes(b"x")
    (tmp_path / "more" / ".hidden").mkdir()
    save(tmp_path / "more" / ".hidden" / "c.png")
    data = ImageInputs([str(one), str(tmp_path / "more")], **OPTIONS, batch_size=2)
    assert [name.removeprefix(str(tmp_path)) for name in data.names] == [
        "/one.png",
        "/more/b.jpg",
        "/more/deep/A.PNG",
    ]
    assert (data.num_classes, data.in_channels, data.image_size) == (2, 3, 8)
    batches = [data.on_after_batch_transfer(raw, 0) for raw in data.predict_dataloader()]
    assert [batch.index.tolist() for batch in batches] == [[0, 1], [2]]
    assert {batch.image.dtype for batch in batches} == {torch.float32}
    raw = next(iter(data.predict_dataloader()))
    batch = data.prepare_batch(raw, training=False, epoch=0)
    assert batch.label.tolist() == [-1, -1]
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    pixels = np.asarray(Image.open(one)) / 255
    expected = (pixels - OPTIONS["mean"]) / OPTIONS["std"]
    np.testing.assert_allclose(batch.image[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert type(data)(**data.resolved()["init_args"]).resolved() == data.resolved()


def test_prepared_as_the_sets_own_images(tmp_path) -> None:
    data = Digits()
    data.setup("test")
    source = data.split("test")
    batch = source.__getitems__([5])
    path = save(tmp_path / "5.png", source.images[int(batch.index[0])][..., 0])
    expected = data.prepare_batch(batch, training=False, epoch=0).image
    spec = data.inputs_spec()
    inputs = ImageInputs(inputs=[str(path)], **spec["init_args"])
    got = inputs.prepare_batch(
        next(iter(inputs.predict_dataloader())), training=False, epoch=0
    ).image
    assert torch.equal(got, expected)
    assert inputs.class_names == data.class_names


def test_what_cannot_be_read(tmp_path) -> None:
    with pytest.raises(DataError, match=r"'.*absent' does not exist"):
        ImageInputs([str(tmp_path / "absent")], **OPTIONS)
    with pytest.raises(DataError, match="no image found"):
        ImageInputs([str(tmp_path)], **OPTIONS)
    with pytest.raises(DataError, match="no image found"):
        ImageInputs([], **OPTIONS)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    data = ImageInputs([str(tmp_path)], **OPTIONS)
    assert not next(iter(data.predict_dataloader())).image.any()  # black, and named
    assert "broken.jpg" in data.broken[0]
    with pytest.raises(OptionError, match="for each of 3 channels"):
        ImageInputs([str(broken)], **{**OPTIONS, "mean": [0.5]})


def test_the_command_line_sees_every_option(tmp_path) -> None:
    from jsonargparse import ArgumentParser

    (tmp_path / "a").mkdir()
    save(tmp_path / "a" / "0.png")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Digits, "digits")
    parser.add_class_arguments(CIFAR10, "cifar")
    parser.add_class_arguments(ImageFolder, "folder")
    parser.add_class_arguments(ImageInputs, "inputs")
    text = parser.format_help()
    for option in ("digits.val_fraction", "cifar.crop_padding", "folder.resident", "cifar.std"):
        assert f"--{option} " in text
    undescribed = [
        line
        for line in text.split("--")
        if " (type:" in line and not line.split("(type:")[0].split(None, 1)[1:]
    ]
    assert not undescribed
