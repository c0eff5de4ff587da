"""A trained net with what comes before and behind it: the module that is exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from zoo.errors import UserError
from zoo.nets.outputs import main_logits
from zoo.nets.protocols import KnowsItsReach, LimitsLength, Steps
from zoo.tasks import ImageSegmenter, LanguageModel, Regressor, TextClassifier
from zoo.tasks.base import Task
from zoo.tasks.classifier import Classifier

#: What is given to a net at once, as arrays by their names.
Feed = tuple[Tensor, ...]

#: A side's upper bound, in multiples of what the net asks for.
_LARGEST = 4096
#: Tokens that a language model without a limit of its own is given at most.
_LONGEST = 1 << 16
_EXAMPLES = 2  # an example batch of one would be taken for a batch that is always one


@dataclass
class Whole:
    """A module to be exported, and how it is called.

    Args:
        module: Takes raw inputs and gives what a user wants of them.
        inputs: The names of its inputs.
        outputs: The names of its outputs; the first is compared, but for a segmenter's.
        example: Inputs that it is exported by.
        dynamic: Of each input the axes that may have any length.
        facts: What else a user has to know, as plain data.
        feed: Makes inputs of a loader's batch.
        expected: What the task itself gives for such a batch, to compare with ``compared``.
        compared: Which output is compared.
        unit: What a difference is divided by, so that it is on the net's own scale.
        padded: Whether outputs may reach beyond what is compared, on the right and at the bottom.
    """

    module: nn.Module
    inputs: list[str]
    outputs: list[str]
    example: Feed
    dynamic: tuple[Any, ...]
    facts: dict[str, Any]
    feed: Callable[[Any], Feed]
    expected: Callable[[Any], Tensor]
    compared: int = 0
    unit: float = 1.0
    padded: bool = False

    @property
    def axes(self) -> list[dict[int, Any]]:
        """The axes that may have any length, input by input."""
        groups = (each if isinstance(each, tuple) else (each,) for each in self.dynamic)
        return [axes for group in groups for axes in group]

    @property
    def batch_axes(self) -> list[int]:
        """The axis of each input along which samples lie."""
        return [
            next(axis for axis, dim in axes.items() if dim.__name__ == "batch")
            for axes in self.axes
        ]


class _Normalised(nn.Module):
    """Images of uint8 as floats of mean 0 and deviation 1, channel by channel.

    Args:
        mean: Of each channel, on the scale 0 to 1.
        std: Of each channel, likewise.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        means, stds = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
        self.register_buffer("scale", (1 / (255 * stds)).float()[:, None, None])
        self.register_buffer("shift", (-means / stds).float()[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to floats of the same shape."""
        return images.to(torch.float32) * self.scale + self.shift


class _Encoded(nn.Module):
    """Rows of a table as the net takes them: numbers standardised, categories one-hot.

    Args:
        means: Of each column of numbers.
        stds: Of each, likewise; a column of deviation 0 becomes 0.
        counts: How many categories each other column has.
    """

    means: Tensor
    factors: Tensor

    def __init__(self, means: list[float], stds: list[float], counts: list[int]) -> None:
        super().__init__()
        self.register_buffer("means", torch.tensor(means, dtype=torch.float64))
        factors = [1 / std if std > 0 else 0.0 for std in stds]
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float64))
        self.counts = counts

    def forward(self, *columns: Tensor) -> Tensor:
        """Map numbers ``(B, N)`` and categories ``(B, M)``, -1 where unknown, to ``(B, F)``."""
        parts, columns = [], tuple(columns)
        if len(self.means):
            # float64 until here: a year and a millisecond may stand in one column
            parts.append(((columns[0] - self.means) * self.factors).float())
        for place, count in enumerate(self.counts):
            codes = columns[-1][:, place : place + 1]
            parts.append((codes == torch.arange(count)).float())
        return torch.cat(parts, dim=1)


class _OwnUnit(nn.Module):
    """Numbers on the net's scale in the target's own unit.

    Mean and deviation are tensors: numbers in a graph become float32 in ONNX.

    Args:
        mean: Of the training targets.
        std: Likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float64))

    def forward(self, logits: Tensor) -> Tensor:
        """Map ``(B, 1)`` to float64 ``(B,)``."""
        return logits[:, 0].double() * self.std + self.mean


class _Answers(nn.Module):
    """The inputs prepared, the net's own task asked, the logits turned into an answer.

    Args:
        net: The net, whose weights go along.
        prepare: Makes what the task takes.
        ask: The task's ``forward``, which may look at several views of an image.
        answer: Makes the outputs of its logits.
    """

    def __init__(
        self,
        net: nn.Module,
        prepare: nn.Module | None,
        ask: Callable[..., Tensor],
        answer: Callable[[Tensor], Any],
    ) -> None:
        super().__init__()
        self.net, self.prepare = net, prepare
        self.ask, self.answer = ask, answer

    def forward(self, *inputs: Tensor) -> Any:
        """Return the outputs."""
        prepared = inputs if self.prepare is None else (self.prepare(*inputs),)
        return self.answer(self.ask(*prepared))


class _Step(nn.Module):
    """A step of a language model, whose memory is an input and an output.

    Args:
        net: The language model.
        pack: Makes the net's own state of the inputs.
        unpack: Makes the outputs of the net's state.
    """

    def __init__(
        self,
        net: nn.Module,
        pack: Callable[[Feed], Any],
        unpack: Callable[[Any], Feed],
    ) -> None:
        super().__init__()
        self.net, self.pack, self.unpack = net, pack, unpack

    def forward(self, tokens: Tensor, *state: Tensor) -> Feed:
        """Map tokens ``(B, T)`` and a state to logits ``(B, vocab)`` and the state behind."""
        assert isinstance(self.net, Steps)
        logits, kept = self.net.step(tokens, self.pack(state))
        return (logits, *self.unpack(kept))


def whole(task: Task, spec: dict[str, Any], data: Any) -> Whole:
    """Return a task's net with all that comes before and behind it.

    Args:
        task: The task, with its weights.
        spec: What prepares inputs, as the checkpoint holds it: its arguments.
        data: The same, built; or the run's data.

    Raises:
        UserError: If there is no form for such a task.
    """
    task = task.float().eval().requires_grad_(False)
    task.net.to(memory_format=torch.contiguous_format)
    if isinstance(task, LanguageModel):
        return _language(task)
    if isinstance(task, TextClassifier):
        return _text(task, spec)
    if isinstance(task, ImageSegmenter):
        return _segmenter(task, spec, data)
    if isinstance(task, Classifier) and "image_size" in spec:
        return _image(task, spec, data)
    if isinstance(task, Regressor) and "categories" in spec:
        return _table(task, spec)
    raise UserError(
        f"a {type(task).__name__} on {type(data).__name__} cannot be exported: export a "
        "classifier, a segmenter, a regressor or a language model on data of the zoo"
    )


def _batch() -> Any:
    return Dim("batch", min=1)


def _answers(task: Classifier) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """Return what makes probabilities of logits, and what a user has to know of them."""
    temperature = task.temperature

    def probabilities(logits: Tensor) -> Tensor:
        return task.probabilities(logits, temperature)

    facts: dict[str, Any] = {"temperature": temperature, "label_kind": task.label_kind}
    if task.multilabel:
        facts["threshold"] = 0.5
    return probabilities, facts


def _predicted(task: Task) -> Callable[[Any], Tensor]:
    """Return what asks the task for an answer as ``predict`` does."""

    def expected(batch: Any) -> Tensor:
        answers = task.predict_step(batch, 0)
        values = next(value for name, value in answers.items() if name != "index")
        assert isinstance(values, Tensor)
        return values

    return expected


def _image(task: Classifier, spec: dict[str, Any], data: Any) -> Whole:
    answer, facts = _answers(task)
    height, width = _sides(spec["image_size"])
    channels = spec["in_channels"]
    module = _Answers(task.net, _Normalised(spec["mean"], spec["std"]), task.forward, answer)
    expected = _predicted(task)
    return Whole(
        module,
        ["images"],
        ["probabilities"],
        (torch.zeros(_EXAMPLES, channels, height, width, dtype=torch.uint8),),
        (({0: _batch()},),),
        {
            "task": "classification",
            "inputs": "images",
            **_names(spec),
            "image_size": [height, width],
            "channels": channels,
            "resize": spec.get("resize", "crop"),
            "window": spec.get("window"),
            **facts,
        },
        lambda batch: (batch.image.contiguous(),),
        lambda batch: expected(data.prepare_batch(batch, training=False, epoch=0)),
    )


def _names(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: spec[key] for key in ("class_names", "target_name") if key in spec}


def _sides(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _segmenter(task: ImageSegmenter, spec: dict[str, Any], data: Any) -> Whole:
    net, channels = task.net, spec["in_channels"]
    # Multiples of what the pools halve away: a graph has no branch for a border that is padded. Of
    # a net that does not say what that is, the one size that it was trained on.
    step = net.downsampling if isinstance(net, KnowsItsReach) else 0
    sides = tuple(2 * step for _ in range(2)) if step else _sides(spec["image_size"])
    axes: dict[int, Any] = {0: _batch()}
    if step:
        axes |= {2 + n: step * Dim(f"side_{n}", min=2, max=_LARGEST) for n in range(2)}

    def ask(images: Tensor) -> Tensor:
        return main_logits(net(images), net)

    def answer(logits: Tensor) -> Feed:
        return logits.argmax(dim=1).to(torch.uint8), logits.softmax(dim=1)

    def fitted(images: Tensor) -> Tensor:
        """Continue images to the next multiple, or to the one size, as the README's lines do."""
        if not step:
            images = images[:, :, : sides[0], : sides[1]]
        wanted = [max(-(-side // step), 2) * step for side in images.shape[2:]] if step else sides
        below, right = (want - side for want, side in zip(wanted, images.shape[2:], strict=True))
        mode = "reflect" if below < images.shape[2] and right < images.shape[3] else "replicate"
        return nn.functional.pad(images.float(), (0, right, 0, below), mode=mode).to(torch.uint8)

    def expected(batch: Any) -> Tensor:
        """Return what predict gives: of the images as they are, where they may have any size."""
        given = batch if step else batch._replace(image=fitted(batch.image))
        prepared = data.prepare_batch(given, training=False, epoch=0)
        logits: Tensor = task(prepared.image)
        return logits.softmax(dim=1)

    return Whole(
        _Answers(net, _Normalised(spec["mean"], spec["std"]), ask, answer),
        ["images"],
        ["mask", "probabilities"],
        (torch.zeros(_EXAMPLES, channels, *sides, dtype=torch.uint8),),
        ((axes,),),
        {
            "task": "segmentation",
            "inputs": "images",
            **_names(spec),
            "channels": channels,
            "window": spec.get("window"),
            **({"multiple_of": step, "smallest": 2 * step} if step else {"image_size": sides}),
        },
        lambda batch: (fitted(batch.image).contiguous(),),
        expected,
        compared=1,
        padded=True,
    )


def _table(task: Regressor, spec: dict[str, Any]) -> Whole:
    means, stds, categories = spec["means"], spec["stds"], spec["categories"]
    counts = [len(names) for names in categories.values()]
    prepare = _Encoded([*means.values()], [*stds.values()], counts)
    own_means = torch.tensor([*means.values()], dtype=torch.float64)
    own_stds = torch.tensor([*stds.values()], dtype=torch.float64)
    expected = _predicted(task)
    net, unit = task.net, _OwnUnit(task.target_mean, task.target_std)

    def feed(batch: Any) -> Feed:
        """Take the encoding back: rows as they stand in the table."""
        numbers = batch.features[:, : len(means)].double() * own_stds + own_means
        codes, first = [], len(means)
        for count in counts:
            hot = batch.features[:, first : first + count]
            codes.append(hot.argmax(dim=1).masked_fill(~hot.any(dim=1), -1))
            first += count
        parts = [numbers] if means else []
        return (*parts, torch.stack(codes, dim=1)) if codes else tuple(parts)

    example: list[Tensor] = []
    if means:
        example.append(torch.zeros(_EXAMPLES, len(means), dtype=torch.float64))
    if counts:
        example.append(torch.zeros(_EXAMPLES, len(counts), dtype=torch.int64))
    batch = _batch()
    return Whole(
        _Answers(net, prepare, lambda rows: main_logits(net(rows), net), unit),
        [*(["numbers"] if means else []), *(["categories"] if counts else [])],
        ["value"],
        tuple(example),
        (tuple({0: batch} for _ in example),),
        {
            "task": "regression",
            "inputs": "table",
            "target_name": spec["target_name"],
            "numbers": [*means],
            "categories": categories,
        },
        feed,
        expected,
        unit=task.target_std,
    )


def _text(task: TextClassifier, spec: dict[str, Any]) -> Whole:
    answer, facts = _answers(task)
    longest = spec["max_length"]
    batch, time = _batch(), Dim("time", min=1, max=longest)
    length = min(longest, 7)
    tokens = torch.ones(_EXAMPLES, length, dtype=torch.int64)
    return Whole(
        _Answers(task.net, None, task.forward, answer),
        ["tokens", "lengths"],
        ["probabilities"],
        (tokens, torch.tensor([length, max(1, length - 2)])),
        (({0: batch, 1: time}, {0: batch}),),
        {
            "task": "classification",
            "inputs": "texts",
            **_names(spec),
            "max_length": longest,
            "truncate": spec["truncate"],
            "text_column": spec.get("text_column", "text"),
            **facts,
        },
        lambda each: (each.tokens, each.lengths),
        _predicted(task),
    )


def _language(task: LanguageModel) -> Whole:
    net = task.net
    if not isinstance(net, Steps):
        raise UserError(
            f"{type(net).__name__} has no method step to write with, and so cannot be exported: "
            "choose GPT, RNNLanguageModel or PretrainedCausalLM"
        )
    limit = net.max_length if isinstance(net, LimitsLength) else None
    longest = limit or _LONGEST
    tokens = torch.ones(_EXAMPLES, 3, dtype=torch.int64)
    with torch.no_grad():
        _, state = net.step(tokens, None)
    layers = getattr(state, "layers", state)
    is_cache = hasattr(layers[0], "keys")
    pack: Callable[[Feed], Any]
    unpack: Callable[[Any], Feed]
    if is_cache:
        pack, unpack = _cache_packers(state)
    else:
        pack, unpack = list, tuple
    parts = unpack(state)
    batch = _batch()
    time = Dim("time", min=1, max=longest)
    # (layers, 2, B, heads, past, d), or (1, B, H) of a recurrent layer
    past = {2: batch, 4: Dim("past", min=0, max=longest - 1)} if is_cache else {1: batch}
    words = {2: "batch", 4: "past"} if is_cache else {1: "batch"}
    names = ["past"] if is_cache else [f"state_{number}" for number in range(len(parts))]

    def feed(each: Any) -> Feed:
        empty = [part[:, :, :1, :, :0] if is_cache else part[:, :1] for part in parts]
        shapes = [list(part.shape) for part in empty]
        for shape in shapes:
            shape[2 if is_cache else 1] = len(each.tokens)
        return (each.tokens, *(torch.zeros(shape) for shape in shapes))

    def expected(each: Any) -> Tensor:
        logits: Tensor = task(each.tokens)
        return logits[:, -1]

    return Whole(
        _Step(net, pack, unpack),
        ["tokens", *names],
        ["logits", *(f"next_{name}" for name in names)],
        (tokens, *parts),
        ({0: batch, 1: time}, tuple(past for _ in parts)),
        {
            "task": "language modelling",
            "inputs": "tokens",
            "max_length": limit,
            "state": {
                name: [words.get(axis, size) for axis, size in enumerate(part.shape)]
                for name, part in zip(names, parts, strict=True)
            },
        },
        feed,
        expected,
    )


def _cache_packers(
    state: Any,
) -> tuple[Callable[[Feed], Any], Callable[[Any], Feed]]:
    """Return what makes a cache of keys and values of one tensor, and the way back.

    Args:
        state: A cache as the net gives it: a list of pairs, or one of transformers.
    """
    layers = getattr(state, "layers", state)
    of_layer = type(layers[0])

    def pack(given: Feed) -> Any:
        pairs = [(layer[0], layer[1]) for layer in given[0].unbind(0)]
        if layers is state:
            return [of_layer(*pair) for pair in pairs]
        from transformers import DynamicCache

        return DynamicCache(pairs)

    def unpack(kept: Any) -> Feed:
        of_kept = getattr(kept, "layers", kept)
        return (torch.stack([torch.stack([each.keys, each.values]) for each in of_kept]),)

    return pack, unpack
