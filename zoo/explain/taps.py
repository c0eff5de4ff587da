"""What a net computes on its way, as more outputs of the module that is exported.

No net is asked for anything: modules are watched by hooks, and functions that bring tensors
together by torch's own override. So nets of other libraries show what they do, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.export.whole import Whole
from zoo.nets.layers.norms import FilterResponseNorm2d, RMSNorm2d

Kind = Literal["map", "concat", "sum", "norm", "attention", "recurrent"]

#: Channels of a map that are shown: more would take long to compute and to look through.
CHANNELS = 64
#: Numbers that all maps of one input may have together; the later ones are left out beyond.
_MOST_NUMBERS = 3_000_000

_NORMS = (
    nn.BatchNorm2d,
    nn.InstanceNorm2d,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    RMSNorm2d,
    FilterResponseNorm2d,
)
_ADDS = (torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__)


@dataclass
class Tap:
    """Something that is shown of a net.

    Args:
        kind: ``map``: what a block makes, (B, C, H, W). ``concat``: maps that are put behind one
            another along the channels, and ``sum``: two that are added, each part an output.
            ``norm``: mean and deviation of each channel before and behind a norm, (B, 4, C).
            ``attention``: weights (B, heads, T, T). ``recurrent``: what a layer has at each token,
            (B, T, H), and its gates, (B, T, gates, H).
        module: The name of the module that it happens in.
        type: The class of that module.
        outputs: Names of the outputs, in the order of ``parts`` where there are parts.
        parts: What the parts are called.
        channels: How many channels each output has in truth, where it is a map.
        heads: How many heads, of attention.
    """

    kind: Kind
    module: str
    type: str
    outputs: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    heads: int = 0

    def facts(self) -> dict[str, Any]:
        """Return it as plain data."""
        return vars(self)


class _Named(NamedTuple):
    """A module and its name in the net, "" of the net itself."""

    name: str
    module: nn.Module


class _Watch(TorchFunctionMode):
    """What is seen of one call of a net.

    Args:
        plan: Of each thing that might be shown whether it is, in the order of the call; empty where
            that is to be found out. In a graph sizes have no numbers to ask for.
    """

    def __init__(self, plan: list[bool]) -> None:
        super().__init__()
        self.plan, self.is_planned, self.place = plan, bool(plan), 0
        self.at_work: list[_Named] = []
        self.found: list[tuple[Tap, list[Tensor]]] = []
        #: Which module made a tensor, by the tensor's identity; it is held so that it stays one.
        self.made: dict[int, tuple[_Named, Tensor]] = {}
        self.inputs: list[list[Tensor]] = []
        self.numbers = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._keep("attention", [_weights(*args, **kwargs)])
            return func(*args, **kwargs)
        parts: list[Tensor] = []
        if func is torch.cat:
            given, dim = (*args, kwargs.get("dim", 0))[:2]
            parts = list(given) if dim in (1, -3) else []
        elif func in _ADDS and len(args) == 2 and "alpha" not in kwargs:
            parts = [each for each in args if isinstance(each, Tensor)]
        copies = []
        if len(parts) > 1 and all(part.ndim == 4 for part in parts):
            sizes = [part.shape[2:] for part in parts]
            if self._is_shown(lambda: sizes.count(sizes[0]) == len(sizes), parts):
                copies = [part.clone() for part in parts]
        result = func(*args, **kwargs)
        if copies:
            kind: Kind = "concat" if func is torch.cat else "sum"
            names = [self._called(part, kind == "sum") for part in parts]
            self._keep(kind, [*copies, result.clone()], names)
        return result

    def enter(self, named: _Named, args: Any) -> None:
        """Note that a module begins."""
        self.at_work.append(named)
        self.inputs.append([arg.clone() for arg in args if isinstance(arg, Tensor)][:1])

    def leave(self, named: _Named, output: Any) -> None:
        """Keep what a module has made, where it is shown."""
        module, given = named.module, self.inputs.pop()
        if isinstance(module, nn.LSTM | nn.GRU | nn.RNN):
            if given and module.batch_first and not module.bidirectional:
                self._recurrent(module, given[0], output[0])
        elif isinstance(output, Tensor):
            self.made[id(output)] = (named, output)
            if output.ndim == 4:
                self._map(module, given, output)
        self.at_work.pop()

    def _map(self, module: nn.Module, given: list[Tensor], output: Tensor) -> None:
        if isinstance(module, _NORMS):
            if given:
                self._keep("norm", [_statistics(given[0], output)])
        elif _is_block(*self.at_work[-1]) and self._is_shown(lambda: True, [output]):
            self._keep("map", [output.clone()])

    def _is_shown(self, fits: Callable[[], bool], maps: list[Tensor]) -> bool:
        """Return whether maps are shown: the first time by asking, then by what was answered."""
        if not self.is_planned:
            numbers = sum(each[0, :CHANNELS].numel() for each in maps)
            is_shown = fits() and self.numbers + numbers <= _MOST_NUMBERS
            self.numbers += numbers * is_shown
            self.plan.append(is_shown)
        self.place += 1
        return self.plan[self.place - 1]

    def _recurrent(self, module: nn.LSTM | nn.GRU | nn.RNN, x: Tensor, hidden: Tensor) -> None:
        """Keep a layer's states and gates; both follow from its inputs and its states."""
        before = F.pad(hidden, (0, 0, 1, 0))[:, :-1]
        weights: Any = module
        ahead = F.linear(x, weights.weight_ih_l0, getattr(module, "bias_ih_l0", None))
        back = F.linear(before, weights.weight_hh_l0, getattr(module, "bias_hh_l0", None))
        if isinstance(module, nn.LSTM):
            names = ["input", "forget", "cell", "output"]
            sums = (ahead + back).chunk(4, dim=2)
            gates = [each.tanh() if n == 2 else each.sigmoid() for n, each in enumerate(sums)]
        elif isinstance(module, nn.GRU):
            names = ["reset", "update", "new"]
            a, b = ahead.chunk(3, dim=2), back.chunk(3, dim=2)
            reset, update = ((a[n] + b[n]).sigmoid() for n in range(2))
            gates = [reset, update, (a[2] + reset * b[2]).tanh()]
        else:
            names, gates = [], []
        outputs = [hidden.clone(), torch.stack(gates, dim=2)] if gates else [hidden.clone()]
        self._keep("recurrent", outputs, names)

    def _keep(self, kind: Kind, outputs: list[Tensor], parts: Sequence[str] = ()) -> None:
        name, module = self.at_work[-1]
        channels = [each.shape[1] for each in outputs] if kind in ("map", "concat", "sum") else []
        if channels:
            outputs = [each[:, :CHANNELS] for each in outputs]
        tap = Tap(kind, name, type(module).__name__, parts=[*parts], channels=channels)
        tap.heads = outputs[0].shape[1] if kind == "attention" else 0
        self.found.append((tap, outputs))

    def _called(self, part: Tensor, is_added: bool) -> str:
        """Return what a part of a sum or a concatenation is called: where it comes from."""
        made = self.made.get(id(part))
        if made is None:
            return "input"
        name, module = made[0]
        own = name.rpartition(".")[2]
        if is_added and not name.startswith(f"{self.at_work[-1].name}."):
            return f"shortcut from {own}"  # what is made before the block
        sizes = [max(each.kernel_size) for each in module.modules() if isinstance(each, nn.Conv2d)]
        pools = any(isinstance(each, nn.MaxPool2d | nn.AvgPool2d) for each in module.modules())
        if pools:
            return f"{own} (pool)"
        return f"{own} ({max(sizes)}x{max(sizes)})" if sizes else own


def _is_block(name: str, module: nn.Module) -> bool:
    """Return whether what a module makes is shown: blocks at the top, and layers between them.

    What lies deeper is seen where blocks bring it together. A row of blocks gives what its last
    block does.
    """
    depth = name.count(".")
    if not name or depth > 1 or (depth == 0 and isinstance(module, nn.Sequential)):
        return False
    shown = nn.Conv2d | nn.ConvTranspose2d | nn.MaxPool2d | nn.AvgPool2d
    return isinstance(module, shown) or any(True for _ in module.children())


def _statistics(before: Tensor, behind: Tensor) -> Tensor:
    """Return mean and deviation of each channel, before and behind: (B, 4, C)."""
    found = []
    for each in (before, behind):
        flat = each.flatten(2)[:, :CHANNELS]
        mean = flat.mean(dim=2)
        found += [mean, (flat - mean.unsqueeze(2)).square().mean(dim=2).sqrt()]
    return torch.stack(found, dim=1)


def _weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return what attention weighs by, (B, heads, T, T), as torch documents its function."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
    if is_causal:
        allowed = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, -torch.inf)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(dim=-1)


class Tapped(nn.Module):
    """A module that also gives what its net computes on the way.

    Args:
        module: Gives the answers; holds the net as ``net``.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        assert isinstance(module.net, nn.Module)
        self.net = module.net  # under the name by which an export names its layers
        self.module = module
        # found here, as a tracer gives out others that stand for them
        self._named = [_Named(*each) for each in self.net.named_modules()]
        self.taps: list[Tap] = []
        self._plan: list[bool] = []

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the answers, then what the taps give."""
        watch, hooks = _Watch(self._plan), []
        for named in self._named:

            def enter(_: nn.Module, args: Any, named: _Named = named) -> None:
                watch.enter(named, args)

            def leave(_: nn.Module, args: Any, output: Any, named: _Named = named) -> None:
                watch.leave(named, output)

            hooks.append(named.module.register_forward_pre_hook(enter))
            hooks.append(named.module.register_forward_hook(leave))
        try:
            with watch:
                answers = self.module(*inputs)
        finally:
            for hook in hooks:
                hook.remove()
        found = _without_doubles(watch.found)
        self.taps = [tap for tap, _ in found]
        answers = answers if isinstance(answers, tuple) else (answers,)
        return (*answers, *(each for _, outputs in found for each in outputs))


def _without_doubles(found: list[tuple[Tap, list[Tensor]]]) -> list[tuple[Tap, list[Tensor]]]:
    """Leave out maps that their block's own, or what it joins or adds, shows already."""
    joined = {tap.module for tap, _ in found if tap.kind in ("concat", "sum")}
    shown = joined | {tap.module for tap, _ in found if tap.kind == "map"}

    def is_seen(tap: Tap) -> bool:
        block = tap.module.rpartition(".")[0]
        return tap.module in joined or (block != "" and block in shown)

    return [each for each in found if each[0].kind != "map" or not is_seen(each[0])]


def tapped(whole: Whole) -> Whole:
    """Return the same module with what its net computes on the way as further outputs.

    Which there are is found out by running the example, and stands in ``facts`` as ``taps``.
    """
    module = Tapped(whole.module)
    with torch.no_grad():
        module(*whole.example)
    names = list(whole.outputs)
    for number, tap in enumerate(module.taps):
        count = len(tap.channels) or (2 if tap.kind == "recurrent" and tap.parts else 1)
        tap.outputs = [f"tap_{number}_{each}" for each in range(count)]
        names += tap.outputs
    taps = [tap.facts() for tap in module.taps]
    # all inputs are one argument, that of a language model's step too
    return replace(
        whole,
        module=module,
        outputs=names,
        dynamic=(tuple(whole.axes),),
        facts=whole.facts | {"taps": taps},
    )
