"""Why the branches of an Inception block can be concatenated, and what each of them learns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from datamodules import Digits
from datamodules.core.errors import one_of, refuse
from datamodules.core.plot import new_figure, set_margins, text_width
from zoo import GoogLeNet, ImageClassifier
from zoo.cli.session import quiet
from zoo.nets.googlenet import InceptionBlock
from zoo.studies.drawing import save_picture
from zoo.studies.tables import write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BRANCHES = {"branch1": "1x1", "branch2": "3x3", "branch3": "5x5", "branch4": "pool"}
#: Filters and maps of each branch that are drawn.
_SHOWN = 8
_BLOCK = "inception"  # what the names of blocks in the net begin with
_ARROW: dict[str, Any] = {"arrowprops": {"arrowstyle": "->"}}
_COLOURS = ("C0", "C1", "C2", "C3")


class Step(NamedTuple):
    """A layer of a branch, and the shape ``(C, H, W)`` of what leaves it."""

    layer: str
    padding: int
    shape: tuple[int, int, int]


def steps_of(block: InceptionBlock, x: Tensor) -> dict[str, list[Step]]:
    """Return the layers that a feature map passes in each branch.

    Args:
        block: The block.
        x: Its input ``(1, C, H, W)``.
    """
    found: dict[str, list[Step]] = {}
    for name, words in BRANCHES.items():
        found[words] = []
        hooks = [
            layer.register_forward_hook(_recorder(found[words]))
            for layer in getattr(block, name).modules()
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d)
        ]
        getattr(block, name)(x)
        for hook in hooks:
            hook.remove()
    return found


def _recorder(steps: list[Step]) -> Any:
    def record(layer: nn.Conv2d | nn.MaxPool2d, args: Any, output: Tensor) -> None:
        side, padding = np.max(layer.kernel_size), int(np.max(layer.padding))
        kind = "convolution" if isinstance(layer, nn.Conv2d) else "max pool"
        _, channels, height, width = output.shape
        steps.append(Step(f"{side}x{side} {kind}", padding, (channels, height, width)))

    return record


def sentence_of_wrong_padding(block: InceptionBlock, x: Tensor, padding: int) -> str:
    """Return what the block says where its 5x5 convolution is padded otherwise.

    Args:
        block: The block, which is as it was afterwards.
        x: Its input ``(1, C, H, W)``.
        padding: Zeros on every side; 2 is the right one.
    """
    conv = block.branch3[1].conv
    assert isinstance(conv, nn.Conv2d)
    right, conv.padding = conv.padding, (padding, padding)
    try:
        block(x)
    except ValueError as error:
        return str(error)
    finally:
        conv.padding = right
    return f"a padding of {padding} keeps height and width"


def draw_shapes(steps: dict[str, list[Step]], entering: tuple[int, int, int]) -> Figure:
    """Draw a block: what enters, the branches beside each other, and their concatenation.

    Args:
        steps: The layers of each branch.
        entering: The shape of what enters.
    """
    figure = new_figure(8.8, 4.4)
    axes = figure.add_subplot()
    axes.set_xlim(0, 4)
    axes.set_ylim(-0.1, 4.3)
    axes.axis("off")
    _box(axes, 1.0, 3.7, 2.0, f"enters: {_shape(entering)}", "lightgrey")
    for place, own in enumerate(steps.values()):
        for row, step in enumerate(own):
            text = f"{step.layer}\npadded by {step.padding}\n{_shape(step.shape)}"
            _box(axes, place + 0.04, 2.45 - 1.1 * row, 0.92, text, _COLOURS[place], 0.9)
            if row:
                above = 2.45 - 1.1 * (row - 1)
                axes.annotate("", (place + 0.5, above - 0.2), (place + 0.5, above), **_ARROW)
        last = 2.45 - 1.1 * (len(own) - 1)
        axes.annotate("", (place + 0.5, 3.35), (2.0, 3.7), **_ARROW)
        axes.annotate("", (place + 0.5, 0.62), (place + 0.5, last), **_ARROW)
    channels = [own[-1].shape[0] for own in steps.values()]
    left = 0.0
    for (branch, _), count, colour in zip(steps.items(), channels, _COLOURS, strict=True):
        width = 4.0 * count / sum(channels)
        _box(axes, left, 0.12, width, f"{branch}\n{count}", colour)
        left += width
    height, width = next(iter(steps.values()))[-1].shape[1:]
    whole = f"leaves: {_shape((sum(channels), height, width))}, the channels one behind the other"
    axes.text(2.0, -0.1, whole, ha="center", fontsize=10)
    set_margins(figure, left=0.1, right=0.1, bottom=0.15, top=0.05)
    return figure


def _box(
    axes: Any, left: float, bottom: float, width: float, text: str, colour: str, height: float = 0.5
) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((left, bottom), width, height, facecolor=colour, alpha=0.35, edgecolor="black")
    )
    size = 9 if text_width(text.split("\n"), 9) < 2.1 * width else 7
    axes.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=size)


def _shape(shape: tuple[int, int, int]) -> str:
    return " × ".join(map(str, shape))


def draw_branches(block: InceptionBlock, x: Tensor, image: Tensor) -> Figure:
    """Draw some filters of each branch beside the feature maps that they make of an image.

    Of a filter the part for the input channel that it weighs most is drawn; of a 1x1 filter all
    its weights, one for each input channel, laid out as a square.

    Args:
        block: A trained block.
        x: What the image has become before the block, ``(1, C, H, W)``.
        image: The image ``(1, H, W)``.
    """
    figure = new_figure(12.4, 4.4)
    columns = 2 * _SHOWN + 2
    axes: Any = figure.subplots(4, columns, squeeze=False)
    for each in axes.flat:
        each.axis("off")
    axes[0, 0].imshow(image[0], cmap="gray")
    axes[0, 0].set_title("image", fontsize=9)
    for row, (name, words) in enumerate(BRANCHES.items()):
        branch = getattr(block, name)
        conv = [layer for layer in branch.modules() if isinstance(layer, nn.Conv2d)][-1]
        maps = branch(x)[0].detach()
        lively = maps.flatten(1).std(dim=1).argsort(descending=True)[:_SHOWN].tolist()
        for place, number in enumerate(lively, start=1):
            tile = _tile(conv.weight[number].detach())
            most = float(tile.abs().max())
            axes[row, place].imshow(tile, cmap="RdBu", vmin=-most, vmax=most)
            axes[row, place + _SHOWN + 1].imshow(maps[number], cmap="viridis")
        side = conv.kernel_size[0]
        axes[row, 1].set_title(f"{words} branch: filters {side}x{side}", fontsize=9, loc="left")
        axes[row, _SHOWN + 2].set_title("their feature maps", fontsize=9, loc="left")
    set_margins(figure, 4, columns, top=0.3, between_rows=0.35, between_columns=0.06)
    return figure


def _tile(weights: Tensor) -> Tensor:
    """Return of a filter ``(in, k, k)`` what is drawn: a map, or all weights where k is 1."""
    if weights.shape[1] > 1:
        return weights[weights.flatten(1).norm(dim=1).argmax()]
    side = int(np.ceil(np.sqrt(len(weights))))
    laid_out = torch.zeros(side * side)
    laid_out[: len(weights)] = weights.flatten()
    return laid_out.view(side, side)


def trained_net(data: Digits, epochs: int, checkpoint: str | None) -> GoogLeNet:
    """Return a net that has learnt digits: a checkpoint's, or one that is trained here."""
    if checkpoint is not None:
        net = ImageClassifier.load_from_checkpoint(checkpoint).net
        if not isinstance(net, GoogLeNet) or net.get_parameter("conv1.conv.weight").shape[1] != 1:
            remedy = "give a checkpoint of `zoo fit inception`, a GoogLeNet of grey images"
            raise refuse("options.checkpoint", checkpoint, remedy)
        return net
    task = ImageClassifier(GoogLeNet(1, 10, image_size=8), lr=0.004, schedule="one_cycle")
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data)
    print(
        f"accuracy on validation after {epochs} epochs: {trainer.callback_metrics['val/acc']:.4f}"
    )
    assert isinstance(task.net, GoogLeNet)
    return task.net


def study(
    folder: Path,
    *,
    seeds: list[int],
    epochs: int,
    block: str,
    sample: int,
    checkpoint: str | None,
) -> None:
    """Show a block's shapes, what a wrong padding gets, and what its branches have learnt.

    Args:
        folder: Gets the table and the pictures.
        seeds: The first trains the net.
        epochs: How long it is trained.
        block: Which block is shown, 3a to 5b.
        sample: Which image of validation it sees.
        checkpoint: A checkpoint of `inception` to show in the place of a net that is trained here.
    """
    quiet()
    blocks = [name for name, _ in GoogLeNet(1, 10).named_children() if name.startswith(_BLOCK)]
    one_of("options.block", block, [name.removeprefix(_BLOCK) for name in blocks])
    L.seed_everything(seeds[0], verbose=False)
    data = Digits(batch_size=32, seed=seeds[0])
    net = trained_net(data, epochs, checkpoint).cpu().eval()
    data.setup("validate")
    batch = data.prepare_batch(next(iter(data.val_dataloader())), training=False, epoch=0)
    if not 0 <= sample < len(batch.image):
        raise refuse("options.sample", sample, f"give 0 to {len(batch.image) - 1}")
    x = image = batch.image[sample : sample + 1]
    with torch.no_grad():
        for name, layer in net.named_children():
            if name == _BLOCK + block:
                break
            x = layer(x)
        shown = net.get_submodule(_BLOCK + block)
        assert isinstance(shown, InceptionBlock)
        steps = steps_of(shown, x)
        padding = 1 if min(x.shape[2:]) > 2 else 3  # a smaller map has no place for the kernel
        wrong = sentence_of_wrong_padding(shown, x, padding)
    entering = (x.shape[1], x.shape[2], x.shape[3])
    rows: list[dict[str, str | float | int | None]] = [
        {
            "branch": branch,
            "layer": step.layer,
            "padding": step.padding,
            "leaves": _shape(step.shape),
        }
        for branch, own in steps.items()
        for step in own
    ]
    channels = sum(own[-1].shape[0] for own in steps.values())
    whole = _shape((channels, *entering[1:]))
    rows.append({"branch": "all", "layer": "concatenation", "padding": None, "leaves": whole})
    write_table(folder, rows)
    print(f"block {block} is given {_shape(entering)}")
    print(f"with the 5x5 convolution padded by {padding}: {wrong}")
    save_picture(lambda: draw_shapes(steps, entering), folder / "shapes.png")
    with torch.no_grad():
        save_picture(lambda: draw_branches(shown, x, image[0]), folder / "branches.png")
