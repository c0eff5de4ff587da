"""A net that starts from the weights of another training: all that fit, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from datamodules.core.errors import many, refuse
from datamodules.core.protocols import SupportsRebuilding
from zoo.tasks.base import Task
from zoo.tasks.net_spec import head_parameters

_NET = "net."
#: A vocabulary is filled up to a multiple of this at most, for a matrix that is faster so.
_MOST_PADDED = 128
#: What of the data gives the outputs of a net their meaning.
_MEANINGS = ("class_names", "label_kind", "target_name")


@dataclass(frozen=True)
class Taken:
    """What a net took of a checkpoint's weights.

    Attributes:
        source: The checkpoint's file.
        tensors: How many of the net's tensors were taken, whole or in part.
        values: How many numbers.
        of_tensors: How many tensors the net has.
        of_values: How many numbers they hold.
        afresh: The tensors that start as without the checkpoint, by why they do.
        partly: Of which tensors some rows were taken, and how many.
        unused: What the checkpoint holds and the net has no place for.
    """

    source: str
    tensors: int
    values: int
    of_tensors: int
    of_values: int
    afresh: dict[str, list[str]] = field(default_factory=dict)
    partly: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return the section ``init_from`` of ``summary.json``."""
        return dict(vars(self))

    def rows(self) -> list[tuple[str, str]]:
        """Return what is said of it, by name and text."""
        share = self.values / max(self.of_values, 1)
        head = f"of {self.source}: {self.tensors:,} of {many(self.of_tensors, 'tensor')}"
        rows = [("weights", f"{head}, {share:.1%} of their {self.of_values:,} values")]
        rows += [("in part", f"{name}: {what}") for name, what in self.partly.items()]
        rows += [("afresh", f"{_named(names)}: {why}") for why, names in self.afresh.items()]
        if self.unused:
            rows.append(("left", f"{_named(self.unused)}: the net has no such tensor"))
        return rows


def take_weights(
    module: LightningModule, checkpoint: Mapping[str, Any], path: str, data: object
) -> Taken:
    """Give a net the weights of a checkpoint that have the name and the shape of its own.

    The last layer starts afresh where its outputs mean something else: other classes, another
    number. Vectors of tokens go by the token where the tokenizers differ: those that both know are
    taken. A task's own tensors, such as a fitted temperature, are none of the net's and stay.

    Args:
        module: The task, which is changed.
        checkpoint: Of any training; only its weights and what its data were matter.
        path: Its file, for messages.
        data: What will be trained on.

    Raises:
        OptionError: If no matrix of weights fits.
    """
    net = module.net if isinstance(module, Task) else module
    prefix = _NET if isinstance(module, Task) else ""
    wanted: dict[str, Any] = {
        name: value for name, value in module.state_dict().items() if name.startswith(prefix)
    }
    saved: dict[str, Any] = {
        name: value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }
    then, now = _inputs_of(checkpoint), _inputs_of_data(data)
    renewed = any(then.get(name) != now.get(name) for name in _MEANINGS)
    head = {prefix + name for name in head_parameters(net)}
    rows = _token_rows(net, head, prefix, then.get("tokenizer"), now.get("tokenizer"))
    now_known = _vocabulary(now["tokenizer"]) if rows else {}
    state: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    afresh: dict[str, list[str]] = {}
    partly: dict[str, str] = {}
    for name, own in wanted.items():
        found, why = saved.get(name), None
        if found is None:
            why = "the checkpoint has none"
        elif name in head and renewed:
            why = f"the last layer, whose outputs mean something else{_outputs(then, now)}"
        elif name in rows and found.shape[1:] == own.shape[1:] and _has(found, rows[name][1]):
            ours, theirs = rows[name]
            state[name] = own.clone()
            state[name][ours] = found[theirs].to(own.dtype)
            counts[name] = state[name][ours].numel()
            known = len(now_known)
            partly[name] = f"the rows of {len(ours):,} of {many(known, 'token')}, known to both"
        elif found.shape != own.shape:
            why = f"{tuple(found.shape)} there, {tuple(own.shape)} here"
        else:
            state[name], counts[name] = found, found.numel()
        if why is not None:
            afresh.setdefault(why, []).append(name.removeprefix(prefix))
    if not any(wanted[name].ndim > 1 and counts[name] for name in state):
        raise _none_fits(path, net, saved, afresh)
    module.load_state_dict(state, strict=False)
    if isinstance(module, Task):
        module.taken = frozenset(state)
    return Taken(
        path,
        len(state),
        sum(counts.values()),
        len(wanted),
        sum(value.numel() for value in wanted.values()),
        afresh,
        {name.removeprefix(prefix): what for name, what in partly.items()},
        [name.removeprefix(prefix) for name in saved if name not in wanted],
    )


def _none_fits(
    path: str, net: nn.Module, saved: Mapping[str, Any], afresh: Mapping[str, list[str]]
) -> Exception:
    why, names = next(iter(afresh.items()), ("the net has no weights", []))
    first = f"{names[0]}: {why}" if names else why
    return refuse(
        "init_from",
        path,
        f"none of its {many(len(saved), 'tensor')} fits {type(net).__name__} by name and shape "
        f"({first}): give a checkpoint of a like net, or the net the options that that one had",
    )


def _inputs_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of what prepares a checkpoint's inputs; none where it is not known."""
    spec = (checkpoint.get("zoo") or {}).get("inputs") or {}
    arguments = spec.get("init_args")
    return arguments if isinstance(arguments, dict) else {}


def _inputs_of_data(data: object) -> dict[str, Any]:
    spec = data.inputs_spec() if isinstance(data, SupportsRebuilding) else {}
    return dict(spec.get("init_args", {}))


def _outputs(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return how the outputs differ, in a few words."""
    had, has = then.get("class_names"), now.get("class_names")
    if not had or not has:
        return ""
    if len(had) != len(has):
        return f" ({len(had)} classes there, {len(has)} here)"
    return f" ({has[0]!r} here is {had[0]!r} there)" if had[0] != has[0] else ""


def _token_rows(
    net: nn.Module, head: set[str], prefix: str, then: Any, now: Any
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return rows here and there of the tokens that both tokenizers know.

    Returns:
        They are given for each tensor that has a row for each token, if the tokenizers differ.
    """
    if then == now or not isinstance(then, str) or not isinstance(now, str):
        return {}
    before, after = _vocabulary(then), _vocabulary(now)
    both = sorted(after.keys() & before.keys(), key=after.__getitem__)
    rows = (
        torch.tensor([after[token] for token in both], dtype=torch.int64),
        torch.tensor([before[token] for token in both], dtype=torch.int64),
    )
    vectors = {
        f"{prefix}{name}.weight"
        for name, module in net.named_modules()
        if isinstance(module, nn.Embedding)
    }
    sizes = {prefix + name: len(value) for name, value in net.named_parameters() if value.ndim}
    of_tokens = [
        name
        for name, size in sizes.items()
        if name in vectors | head and _is_of(size, len(after), name)
    ]
    return dict.fromkeys(of_tokens, rows)


def _is_of(rows: int, tokens: int, name: str) -> bool:
    """Return whether a tensor has a row for each token, or a few more, up to a multiple of 8."""
    padded = rows % 8 == 0 and 0 < rows - tokens < _MOST_PADDED and "pos" not in name
    return rows == tokens or padded


def _has(found: Tensor, rows: Tensor) -> bool:
    return not len(rows) or len(found) > int(rows.max())


def _vocabulary(text: str) -> dict[str, int]:
    from tokenizers import Tokenizer

    known: dict[str, int] = Tokenizer.from_str(text).get_vocab()
    return known


def _named(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
