"""Segmentation: figures by hand, padding that does not count, tiles, weights."""

from math import nan
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules import SyntheticCells
from zoo import ImageSegmenter, UNet
from zoo.errors import UserError
from zoo.losses.segmentation import segmentation_loss
from zoo.metrics.classes import dice_of_images
from zoo.report.predictions import worst_images


class Bright(nn.Module):
    """Calls a pixel class 1 above 0, class 2 above 1."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(5.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images[:, 0]
        edges = [torch.zeros_like(x), self.weight * x, self.weight * (2 * x - 1)]
        return torch.stack(edges, dim=1)


@pytest.fixture
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = 2 * torch.randn(5, 1, 6, 7, generator=generator)
    masks = torch.randint(3, (5, 6, 7), generator=generator)
    masks[0] = 255  # all of it unknown
    masks[1, :, 3:] = 255
    return images, masks


def test_figures_by_hand(trainer, sample):
    images, masks = sample
    loader = DataLoader(TensorDataset(images, masks), batch_size=2)
    task = ImageSegmenter(Bright(), class_names=["a", "b", "c"])
    (found,) = trainer().test(task, loader, verbose=False)
    predicted = (images[:, 0] > 0).long() + (images[:, 0] > 1)
    counted = masks != 255
    dice, iou = [], []
    for number in range(3):
        said, true = (predicted == number) & counted, (masks == number) & counted
        both, either = (said & true).sum().item(), (said | true).sum().item()
        dice.append(2 * both / (said.sum() + true.sum()).item())
        iou.append(both / either)
    for number, name in enumerate("abc"):
        assert found[f"test/dice_{name}"] == pytest.approx(dice[number])
        assert found[f"test/iou_{name}"] == pytest.approx(iou[number])
    assert found["test/dice"] == pytest.approx((dice[1] + dice[2]) / 2)
    assert found["test/iou"] == pytest.approx((iou[1] + iou[2]) / 2)
    of_images = []
    for said, true, there in zip(predicted, masks, counted, strict=True):
        own = [
            2 * (said[there] == number).logical_and(true[there] == number).sum().item() / both
            for number in (1, 2)
            if (both := ((said[there] == number).sum() + (true[there] == number).sum()).item())
        ]
        if own:
            of_images.append(sum(own) / len(own))
    assert len(of_images) == 4  # all of the first is unknown
    assert found["test/dice_of_images"] == pytest.approx(sum(of_images) / 4)
    # The worst image comes first, and each with its number, which this data does not have.
    kept = task.test_artifacts["masks"]
    assert [each.dice for each in kept] == pytest.approx([*sorted(of_images), nan], nan_ok=True)
    assert {each.number for each in kept} == {-1}
    right = ((predicted == masks) & counted).sum() / counted.sum()
    assert found["test/acc"] == pytest.approx(right.item())
    losses = segmentation_loss("dice_cross_entropy", ignore_index=255)(
        task(images).detach(), masks, reduction="none"
    )
    assert found["test/loss"] == pytest.approx(losses.mean().item(), rel=1e-5)


def test_a_class_that_neither_occurs_nor_is_predicted_has_no_figure(trainer):
    images, masks = torch.full((1, 1, 4, 4), 0.5), torch.ones(1, 4, 4).long()
    loader = DataLoader(TensorDataset(images, masks))
    (found,) = trainer().test(ImageSegmenter(Bright()), loader, verbose=False)
    assert "test/dice_2" not in found
    assert found["test/dice_1"] == found["test/dice"] == 1


def test_images_without_foreground_have_no_dice():
    seen, empty = [[5, 1], [6, 2], [5, 3]], [[9, 0], [9, 0], [9, 0]]
    counts = torch.tensor([empty, seen])
    assert dice_of_images(counts).tolist() == pytest.approx([nan, 0.4], nan_ok=True)
    of_images = {"counts": counts, "index": torch.arange(2)}
    assert worst_images({"images": of_images}, None) == "1 0.400"
    unnumbered = {"counts": counts[1:], "index": torch.tensor([-1])}
    data = SimpleNamespace(names=["a.png"])
    assert worst_images({"images": unnumbered}, data) == "-1 0.400"
    of_images = {"counts": counts[:1], "index": torch.arange(1)}
    assert worst_images({"images": of_images}, None) is None


def test_pictures_are_of_the_worst_and_images_without_foreground_come_last():
    task = ImageSegmenter(Bright())
    batch = [torch.zeros(4, 1, 2, 2), torch.zeros(4, 2, 2)]
    for dice in ([nan, 0.9, nan, 0.8], [nan, 0.7, nan, nan], [0.5, nan, 0.6, 1.0]):
        task._keep_worst(batch, batch[1], dice, [-1] * 4)
    assert [each.dice for each in task._worst] == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    task._worst.clear()
    task._keep_worst(batch, batch[1], [nan, 0.9, nan, 0.8], [-1] * 4)
    assert [each.dice for each in task._worst] == pytest.approx([0.8, 0.9, nan, nan], nan_ok=True)


def test_a_test_without_foreground_has_no_dice_of_images(trainer):
    images, masks = torch.full((2, 1, 4, 4), -1.0), torch.zeros(2, 4, 4).long()
    loader = DataLoader(TensorDataset(images, masks))
    (found,) = trainer().test(ImageSegmenter(Bright()), loader, verbose=False)
    assert "test/dice_of_images" not in found
    assert found["test/acc"] == 1


def test_tiles_give_what_the_whole_image_gives():
    torch.manual_seed(0)
    net = UNet(1, 2, depth=1, width=4).eval()
    images = torch.randn(1, 1, 150, 70)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
        whole = ImageSegmenter(net).eval()(images)
        tiled = ImageSegmenter(net, tile=40).eval()(images)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=1e-4)


def test_a_tile_must_be_wider_than_what_a_pixel_sees():
    with pytest.raises(ValueError, match=r"tile is 16.*looks \d+ pixels far"):
        ImageSegmenter(UNet(1, 2, depth=1, width=4), tile=16)


def test_learns_synthetic_cells(trainer):
    data = SyntheticCells(count=120, image_size=32, batch_size=16, rotate90=True)
    torch.manual_seed(0)
    net = UNet(data.in_channels, data.num_classes, depth=2, width=8)
    names = data.class_names
    task = ImageSegmenter(net, lr=0.01, class_weights="auto", class_names=names)
    runner = trainer(max_epochs=5)
    runner.fit(task, data)
    (found,) = runner.test(task, data, verbose=False)
    assert found["test/dice"] > 0.7
    background, cell = task.loss.class_weights.tolist()
    assert background < 1 < cell
    worst = task.test_artifacts["masks"]
    assert len(worst) == 6
    of_images = task.test_artifacts["images"]
    dice = dice_of_images(of_images["counts"])
    lowest = of_images["index"][dice.argsort(stable=True)[:6]].tolist()
    assert sorted(each.number for each in worst) == sorted(lowest)
    assert {"test/dice_background", "test/iou_cell"} <= found.keys()
    told = worst_images(task.test_artifacts, data)
    assert told.startswith(f"{worst[0].number} {worst[0].dice:.3f}, ")


def test_auto_weights_need_data_that_counts(trainer, sample):
    loader = DataLoader(TensorDataset(*sample))
    with pytest.raises(UserError, match="class_weights is 'auto'; give 3 numbers"):
        trainer().fit(ImageSegmenter(Bright(), class_weights="auto"), loader)


def test_a_mask_outside_the_classes(trainer, sample):
    images, masks = sample
    masks[2, 0, 0] = 7
    with pytest.raises(UserError, match="masks hold 7, but num_classes is 3"):
        trainer().fit(
            ImageSegmenter(Bright()), DataLoader(TensorDataset(images, masks), batch_size=5)
        )
