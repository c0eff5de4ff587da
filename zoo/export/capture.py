"""From a module to a graph of operators, and from that to files."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from zoo.errors import UserError
from zoo.export.whole import Whole

#: Bytes of weights from which they lie beside an ONNX file: none may be larger than 2 GB.
_LARGEST = 1 << 30

#: Under which key files hold what else a user has to know.
FACTS = "zoo"


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the exporters print of their own steps, and of shapes that they guess."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    aside = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(aside), redirect_stderr(aside):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _layers(net: nn.Module) -> Iterator[list[str]]:
    """Give the names of the layers that are at work, the innermost last."""
    at_work: list[str] = []
    hooks = []
    for name, module in net.named_modules():

        def enter(_: nn.Module, args: Any, name: str = name) -> None:
            at_work.append(name)

        def leave(_: nn.Module, args: Any, output: Any) -> None:
            at_work.pop()

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield at_work
    finally:
        for hook in hooks:
            hook.remove()


def capture(whole: Whole) -> ExportedProgram:
    """Return the module's graph.

    Raises:
        UserError: If an operator cannot be captured; names the layer.
    """
    from torch.export._patches import (
        register_gru_while_loop_decomposition,
        register_lstm_while_loop_decomposition,
    )

    # Recurrent layers stay one operator of any length: their own form is unrolled step by step.
    recurrent = (register_lstm_while_loop_decomposition(), register_gru_while_loop_decomposition())
    with _quiet(), _layers(whole.module) as at_work, recurrent[0], recurrent[1]:
        # what an earlier export has found out of such a layer's shapes
        torch._subclasses.FakeTensorMode.cache_clear()
        try:
            return torch.export.export(
                whole.module, whole.example, dynamic_shapes=whole.dynamic, strict=False
            )
        except UserError:
            raise
        except Exception as error:  # of dozens of classes, most of them private
            raise _refusal(whole.module, at_work[-1:], error) from error


def _refusal(module: nn.Module, layer: list[str], error: Exception) -> UserError:
    if layer:
        place = _place(module, layer[0])
    else:  # seen when all was captured: an axis has the example's length
        plain = [name for name, each in module.named_modules() if type(each) is nn.RNN]
        place = _place(module, plain[0] if plain else "net")
        if plain:
            return UserError(
                f"{place} cannot be exported, as its steps would be written out one by one: choose "
                "cell lstm or gru"
            )
    line = str(error).strip().split("\n")[0] or type(error).__name__
    return UserError(
        f"{place} cannot be exported ({line[:160]}): choose another layer there, without branches "
        "that depend on values or lengths"
    )


def _place(module: nn.Module, name: str) -> str:
    """Return what a layer is called: its name within the net, and its class."""
    name = name or "net"  # what stands around the net has no name of its own
    own = name.removeprefix("net.") if name != "net" else ""
    kind = type(module.get_submodule(name)).__name__
    return f"layer {own} ({kind})" if own else f"the net, {kind},"


def save_torch(program: ExportedProgram, path: Path, facts: dict[str, Any]) -> None:
    """Write a graph as torch.export does, ``facts`` inside."""
    text = json.dumps(facts, ensure_ascii=False)
    with _quiet():
        torch.export.save(program, str(path), extra_files={f"{FACTS}.json": text})


def save_onnx(whole: Whole, program: ExportedProgram, path: Path, facts: dict[str, Any]) -> None:
    """Write a graph as ONNX, ``facts`` inside as metadata.

    Raises:
        UserError: If ONNX has no operator for one of the graph's; names the layer.
    """
    try:
        with _quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=whole.inputs,
                output_names=whole.outputs,
            )
    except Exception as error:  # a private class
        raise _untranslated(whole.module, program, error) from error
    assert made is not None
    made.model.metadata_props[FACTS] = json.dumps(facts, ensure_ascii=False)
    _name_axes(whole, made.model)
    for node in made.model.graph:
        node.metadata_props.clear()  # stack traces, larger than a small net
    size = sum(p.numel() * p.element_size() for p in whole.module.parameters())
    made.save(str(path), external_data=size > _LARGEST)


def _name_axes(whole: Whole, model: Any) -> None:
    """Call the axes of any length what they are, in place of s27 and s77."""
    import onnx_ir as ir

    names = {}
    for value, axes in zip(model.graph.inputs, whole.axes, strict=True):
        for axis, dim in axes.items():
            symbol = value.shape[axis]
            if isinstance(symbol, ir.SymbolicDim) and symbol.value is not None:
                names[symbol.value] = dim.__name__
    for value in (*model.graph.inputs, *model.graph.outputs):
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                parts = re.split(r"(\w+)", size.value)
                value.shape[axis] = "".join(str(names.get(part, part)) for part in parts)


def _untranslated(module: nn.Module, program: ExportedProgram, error: Exception) -> UserError:
    """Return what is said where ONNX lacks an operator, or something else goes wrong."""
    found = re.search(r"translating node %?(\w+)", _all_words(error))
    if found is None:
        return _refusal(module, [], error)
    # What ONNX is made of is finer than the graph: special_bessel_j0 has become bessel_j0.
    nodes = [node for node in program.graph.nodes if found[1] in node.name]
    if not nodes:
        return _refusal(module, [], error)
    node = min(nodes, key=lambda each: len(each.name))
    stack = [*(node.meta.get("nn_module_stack") or {"": ("", "")}).values()]
    return UserError(
        f"{_place(module, stack[-1][0])} cannot be exported: ONNX has no operator for "
        f"{node.target}; choose another layer there, or --to torch"
    )


def _all_words(error: BaseException | None) -> str:
    words = []
    while error is not None:
        words.append(str(error))
        error = error.__cause__
    return "\n".join(words)
