"""What a page shows: a net's facts, and inputs to begin with."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.export.whole import Whole
from zoo.tasks.base import Task

#: Inputs that a page brings along.
MOST_SAMPLES = 10
#: Tokens of a text that a language model goes on from, and letters of one that it is called by.
_BEGINNING, _NAMED = 16, 60


@dataclass
class Some:
    """Inputs to begin with.

    Args:
        batches: As a loader gives them.
        names: What each is called, over all batches.
        labelled: Whether they have labels.
    """

    batches: list[Any]
    names: list[str]
    labelled: bool = False


def most_wrong(whole: Whole, batches: list[Any]) -> Some:
    """Return the labelled samples that the net is most wrong about, the worst first.

    By the probability of the label, or a number's distance from the target; the others, such as
    texts to be written on, stay in their order.

    Args:
        whole: What is exported.
        batches: As the test split's loader gives them.
    """
    rows = [_row(batch, n) for batch in batches for n in range(len(batch[0]))]
    facts = whole.facts
    if facts["task"] == "regression" or (facts["task"] == "classification" and _is_single(rows)):
        rows.sort(key=lambda row: _error(whole, row), reverse=True)
    return Some(rows[:MOST_SAMPLES], [], labelled=True)


def _is_single(rows: list[Any]) -> bool:
    return all(row.label.ndim == 1 for row in rows)


def _error(whole: Whole, row: Any) -> float:
    found = whole.expected(row)[0]
    if whole.facts["task"] == "regression":
        return float((found - row.target[0]).abs())
    label = int(row.label[0])
    return 1 - float(found[label]) if 0 <= label < len(found) else 0.0


def _row(batch: Any, number: int) -> Any:
    """Return one sample of a batch as a batch."""
    # of a language model some parts are of the batch, no tensors
    parts = (part[number : number + 1] if isinstance(part, Tensor) else part for part in batch)
    return type(batch)(*parts)


def page_data(title: str, task: Task, whole: Whole, data: Any, some: Some) -> dict[str, Any]:
    """Return what a page shows, as plain data.

    Args:
        title: Its heading.
        task: The task, with its weights.
        whole: What was exported.
        data: What prepares inputs.
        some: Inputs to begin with.
    """
    facts = whole.facts
    makers = {"images": _images, "texts": _texts, "tokens": _texts, "table": _rows}
    samples = makers[facts["inputs"]](whole, data, some)
    if facts["inputs"] == "images" and facts["task"] == "classification":
        for sample, image in zip(samples, _each(some, whole), strict=True):
            sample["gradcam"] = grad_cam(whole.module, image)
    known = getattr(data, "text_tokenizer", None)
    return {
        "title": title,
        "net": type(task.net).__name__,
        "parameters": f"{sum(p.numel() for p in task.net.parameters()):,}",
        "facts": facts,
        "samples": samples,
        "tokenizer": None if known is None else known.json,
        "unknown": None if known is None else known.unk_id,
        "columns": _columns(whole),
    }


def _each(some: Some, whole: Whole) -> list[Tensor]:
    """Return images (1, C, H, W), one by one, as the exported module takes them."""
    return [image[None] for batch in some.batches for image in whole.feed(batch)[0]][:MOST_SAMPLES]


def _images(whole: Whole, data: Any, some: Some) -> list[dict[str, Any]]:
    names = whole.facts.get("class_names", [])
    made: list[dict[str, Any]] = []
    for batch in some.batches:
        for number, image in enumerate(batch.image):
            channels, height, width = image.shape
            pixels = image.permute(1, 2, 0).contiguous().numpy().tobytes()
            sample = {
                "name": some.names[len(made)] if some.names else f"{len(made) + 1}",
                "height": height,
                "width": width,
                "channels": channels,
                "pixels": base64.b64encode(pixels).decode("ascii"),
            }
            labels = getattr(batch, "label", None) if some.labelled else None
            label = None if labels is None else labels[number]
            if label is not None and label.ndim == 0 and 0 <= int(label) < len(names):
                sample["label"] = names[int(label)]
            made.append(sample)
    return made[:MOST_SAMPLES]


def _texts(whole: Whole, data: Any, some: Some) -> list[dict[str, Any]]:
    """Return texts, of a language model the beginnings of some."""
    prompts = getattr(data, "prompts", None)
    if prompts is not None:
        found = [prompt for prompt in prompts if isinstance(prompt, str)]
    else:
        rows = [row for batch in some.batches for row in _rows_of_tokens(batch)]
        begins = _BEGINNING if whole.facts["inputs"] == "tokens" else None
        found = [data.text_tokenizer.decode(row[:begins].tolist()) for row in rows]
    texts = [text for text in found if text.strip()]
    return [{"name": text[:_NAMED], "text": text} for text in texts[:MOST_SAMPLES]]


def _rows_of_tokens(batch: Any) -> list[Tensor]:
    lengths = getattr(batch, "lengths", None)
    if lengths is None:
        return list(batch.tokens)
    return [row[:length] for row, length in zip(batch.tokens, lengths.tolist(), strict=True)]


def _rows(whole: Whole, data: Any, some: Some) -> list[dict[str, Any]]:
    """Return rows of a table, by column."""
    numbers, categories = whole.facts["numbers"], whole.facts["categories"]
    made: list[dict[str, Any]] = []
    for batch in some.batches:
        columns = dict(zip(whole.inputs, whole.feed(batch), strict=True))
        for place in range(len(batch[0])):
            row: dict[str, Any] = {}
            if numbers:
                row |= zip(numbers, columns["numbers"][place].tolist(), strict=True)
            if categories:
                codes = columns["categories"][place].tolist()
                for (name, known), code in zip(categories.items(), codes, strict=True):
                    row[name] = known[code] if code >= 0 else None
            made.append({"name": f"{len(made) + 1}", "row": row})
    return made[:MOST_SAMPLES]


def _columns(whole: Whole) -> dict[str, dict[str, float]]:
    """Return mean and deviation of each column of numbers, over the training rows."""
    if not whole.facts.get("numbers"):
        return {}
    asked: Any = getattr(whole.module, "module", whole.module)
    means, factors = asked.prepare.means.tolist(), asked.prepare.factors.tolist()
    return {
        name: {"mean": mean, "std": 1 / factor if factor else 0.0}
        for name, mean, factor in zip(whole.facts["numbers"], means, factors, strict=True)
    }


def grad_cam(module: nn.Module, image: Tensor) -> dict[str, Any] | None:
    """Return where a net looked: Grad-CAM (Selvaraju et al., arXiv 1610.02391).

    The channels of the last map of more than one pixel, each weighed by the mean over its pixels of
    the gradient of the answer's logit, summed; what is below 0 is cut off, and the rest scaled to
    its highest. Of a net with one logit the logit of class 0 is its negative.

    Args:
        module: What was exported: prepares images and asks the net.
        image: One image (1, C, H, W) of uint8.

    Returns:
        The heat as bytes in base64, its height and width, and the class that it is of; None where
        the net has no such map.
    """
    maps: list[Tensor] = []

    def keep(_: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            maps.append(output)

    made: Any = getattr(module, "module", module)  # taps stand around what asks
    hooks = [each.register_forward_hook(keep) for each in made.net.modules()]
    try:
        with torch.enable_grad():
            logits = made.ask(made.prepare(image).requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    if not maps:
        return None
    if logits.shape[1] > 1:
        label = int(logits.detach()[0].argmax())
        chosen = logits[0, label]
    else:
        label = int(logits.detach()[0, 0] > 0)
        chosen = logits[0, 0] if label else -logits[0, 0]
    (gradient,) = torch.autograd.grad(chosen, maps[-1])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = (weights * maps[-1]).sum(dim=1)[0].relu().detach()
    highest = float(heat.max())
    scaled = (255 * heat / highest if highest > 0 else heat).round().to(torch.uint8)
    return {
        "values": base64.b64encode(scaled.numpy().tobytes()).decode("ascii"),
        "height": heat.shape[0],
        "width": heat.shape[1],
        "label": label,
    }
