"""Folders that come to be whole or not at all, and what is written into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.core.errors import refuse
from datamodules.core.files import replaced
from zoo.errors import UserError
from zoo.export.capture import capture, save_onnx, save_torch
from zoo.export.check import OPENERS, Kind, Samples, count, first, largest_difference, milliseconds
from zoo.export.quantize import figure, is_static, quantize
from zoo.export.source import Source
from zoo.export.usage import is_joined, usage
from zoo.export.whole import Whole, whole
from zoo.run.weights_file import write_weights

_FILES: dict[Kind, str] = {"onnx": "model.onnx", "torch": "model.pt2"}
_QUANTIZED = "model_int8.onnx"
_LIBRARIES: dict[Kind, str] = {"onnx": "onnxruntime", "torch": "pytorch"}
#: Samples that speed is measured by at once.
_TIMED = 32


@dataclass
class Real:
    """Real inputs: to compare, to measure ranges by, and to count the test figure on.

    Args:
        data: What prepares them.
        samples: Inputs to compare on.
        calibration: Inputs to measure ranges by, none of the test split; none where nothing is
            quantised.
        labelled: Whether ``samples`` are the test split's, with its labels.
    """

    data: Any
    samples: Samples
    calibration: list[Any]
    labelled: bool = False


def check_free(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        UserError: If it does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise refuse("to", str(out), "it is there and not empty: name another folder")


@contextmanager
def fresh_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside the wanted one that takes its name when it is whole.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with replaced(out.absolute()) as scratch:
            scratch.mkdir()
            yield scratch
    except OSError as error:
        raise refuse(
            "to",
            str(out),
            f"it cannot be written ({error.strerror or error}): name another folder",
        ) from error


def export_graph(source: Source, kind: Kind, out: Path, real: Real, *, int8: bool = False) -> None:
    """Write a net as a graph with all that comes before and behind it, and compare them.

    Args:
        source: What is exported.
        kind: ``onnx`` or ``torch``.
        out: The folder.
        real: Inputs to compare on.
        int8: Whether a file of 8 bits is written, too.

    Raises:
        UserError: If the net cannot be exported, or gives something else then.
    """
    spec = source.spec["init_args"]
    made = whole(source.task, spec, real.data)
    with fresh_folder(out) as folder:
        _write_beside(folder, made, spec, real.data)
        program = capture(made)
        path = folder / _FILES[kind]
        if kind == "onnx":
            save_onnx(made, program, path, made.facts)
        else:
            save_torch(program, path, made.facts)
        run = OPENERS[kind](path)
        difference = largest_difference(made, run, real.samples)
        told = [
            f"{_FILES[kind]}: {_megabytes(path)}; largest difference from the net "
            f"{difference:.1e} on {count(real.samples)} {real.samples.source}"
        ]
        if int8:
            told += _quantized(made, folder, real)
        lines = "\n".join(f"- {line}" for line in told)
        text = usage(kind, _QUANTIZED if int8 else _FILES[kind], made.facts)
        made_card = source.card(f"{text}\n\n{lines}\n", library=_LIBRARIES[kind])
        made_card.save(folder / "README.md")
    print(*told, sep="\n", flush=True)


_USE_WEIGHTS = """\
## Use

`pip install lightning-zoo`, then, in this folder:

```python
import zoo

model = zoo.load("model.safetensors")
print(model)
```

`model(inputs)` answers images, texts, rows or prompts; `zoo predict --ckpt_path` and
`zoo fit --init_from` take the file, too.
"""


def export_weights(source: Source, out: Path) -> None:
    """Write the weights and what builds their net again, as the zoo itself reads them.

    Args:
        source: What is exported.
        out: The folder.

    Raises:
        UserError: If it cannot be written.
    """
    figures = source.known.figures
    known = {"test": figures} if figures else {}
    with fresh_folder(out) as folder:
        write_weights(source.checkpoint | known, folder / "model.safetensors")
        source.card(_USE_WEIGHTS).save(folder / "README.md")


def _megabytes(path: Path) -> str:
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    return f"{size / 1e6:.2f} MB"


def _quantized(made: Whole, folder: Path, real: Real) -> list[str]:
    """Write the file of 8 bits; return what is said of its size, its speed and its price."""
    source, target = folder / _FILES["onnx"], folder / _QUANTIZED
    quantize(made, source, target, [made.feed(batch) for batch in real.calibration])
    runs = [OPENERS["onnx"](path) for path in (source, target)]
    feed = made.feed(real.samples.batches[0])
    timed = min(_TIMED, len(real.samples.batches[0][0]))
    feed = first(made, feed, timed)
    whole_ms, small_ms = milliseconds([partial(run, feed) for run in runs])
    ranges = "static" if is_static(made) else "dynamic"
    told = [
        f"{_QUANTIZED}: {_megabytes(target)} ({ranges}); {timed} inputs take {small_ms:.2f} ms "
        f"and {whole_ms:.2f} ms in float32"
    ]
    if real.labelled:
        figures = [figure(made, run, real.samples.batches) for run in runs]
        (name, before), (_, after) = figures
        told.append(
            f"test {name} {after:.4f} in 8 bits and {before:.4f} in float32, of "
            f"{count(real.samples)} {real.samples.source}"
        )
    else:
        told.append("what it costs in the test figure is not known: the run's data are not read")
    return told


def _write_beside(folder: Path, made: Whole, spec: dict[str, Any], data: Any) -> None:
    """Write the tokenizer, and what of it a user has to know into the facts."""
    if made.facts["inputs"] not in ("texts", "tokens"):
        return
    from tokenizers import Tokenizer

    known = getattr(data, "text_tokenizer", None)
    if known is None:
        raise UserError("the data have no tokenizer, without which the export could not be used")
    tokenizer = Tokenizer.from_str(known.json)
    tokenizer.no_padding()
    if made.facts["inputs"] == "texts" and is_joined(made.facts):
        made.facts |= {
            "prefix": known.prefix,
            "between": known.between,
            "suffix": known.suffix,
            "unknown": known.unk_id,
        }
    elif made.facts["inputs"] == "texts":
        tokenizer.enable_padding(pad_id=known.pad_id, pad_token=known.token(known.pad_id))
        direction = "left" if spec["truncate"] == "tail" else "right"
        tokenizer.enable_truncation(spec["max_length"], direction=direction)
    else:
        made.facts["stop_ids"] = list(data.stop_ids)
        made.facts["chat_template"] = spec.get("chat_template")
    tokenizer.save(str(folder / "tokenizer.json"))
    made.facts["tokenizer"] = "tokenizer.json"
