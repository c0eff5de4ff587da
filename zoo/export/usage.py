"""The lines of Python in a README that run what was exported."""

from __future__ import annotations

from typing import Any, NamedTuple

from zoo.export.check import Kind


class _Way(NamedTuple):
    """How a kind of file is opened and asked.

    Attributes:
        imports: What is imported.
        opens: Makes ``facts`` and what is asked.
        asks: The call, whose inputs ``{0}`` stands for as names and arrays.
        needs: What is installed.
    """

    imports: str
    opens: str
    needs: str


_WAYS: dict[Kind, _Way] = {
    "onnx": _Way(
        "import onnxruntime",
        'session = onnxruntime.InferenceSession("{file}")\n'
        'facts = json.loads(session.get_modelmeta().custom_metadata_map["zoo"])',
        "onnxruntime",
    ),
    "torch": _Way(
        "import torch",
        'extra = {{"zoo.json": ""}}\n'
        'model = torch.export.load("{file}", extra_files=extra).module()\n'
        'facts = json.loads(extra["zoo.json"])',
        "torch",
    ),
}

#: How an image of another shape is brought to the net's size, as the training's data brought it.
_FITS = {
    "crop": ["image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)"],
    "pad": [
        "ratio = max(image.width / width, image.height / height)",
        "inner = [max(1, round(side / ratio)) for side in image.size]",
        "small, image = image.resize(inner, 2), Image.new(image.mode, (width, height))",
        "image.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))",
    ],
    "squash": ["image = image.resize((width, height), Image.Resampling.BILINEAR)"],
}


def usage(kind: Kind, file: str, facts: dict[str, Any]) -> str:
    """Return the section of a README that says how a file is run.

    Args:
        kind: What wrote it.
        file: Its name.
        facts: What a user has to know.
    """
    way = _WAYS[kind]
    lines, needs, words = _LINES[facts["inputs"]](kind, facts)
    imports = ["import json", "import numpy as np", way.imports]
    body = "\n".join([*lines.imports, "", way.opens.format(file=file), *lines.body])
    code = "\n".join([*imports, body])
    installs = " ".join([way.needs, "numpy", *needs])
    start = f"## Use\n\n`pip install {installs}`, then, in this folder:"
    return f"{start}\n\n```python\n{code}\n```\n\n{words}"


class _Lines(NamedTuple):
    """What an input of one kind takes.

    Attributes:
        imports: What more is imported.
        body: From the input to what is printed.
    """

    imports: list[str]
    body: list[str]


_Made = tuple[_Lines, list[str], str]


def _call(kind: Kind, arrays: dict[str, str]) -> str:
    """Return the call that gives the first output."""
    if kind == "onnx":
        given = ", ".join(f'"{name}": {value}' for name, value in arrays.items())
        return f"session.run(None, {{{given}}})[0]"
    given = ", ".join(f"torch.from_numpy({value})" for value in arrays.values())
    return f"model({given})"


def _plain(kind: Kind, facts: dict[str, Any], call: str) -> list[str]:
    """Return what prints an answer to the first sample."""
    first = f"{call}[0]" if kind == "onnx" else f"{call}[0].numpy()"
    if facts["task"] == "regression":
        return [
            f"value = {first}",
            'print(facts["target_name"], value)' if "target_name" in facts else "print(value)",
        ]
    if "threshold" in facts:
        named = 'for name, p in zip(facts["class_names"], probabilities) if p > facts["threshold"]'
        return [f"probabilities = {first}", f"print([name {named}])"]
    return [
        f"probabilities = {first}",
        'print(facts["class_names"][probabilities.argmax()], probabilities.max())',
    ]


def _open_image(facts: dict[str, Any]) -> list[str]:
    """Return what opens an image; PIL itself would clip more than 8 bits at 255."""
    mode = "L" if facts["channels"] == 1 else "RGB"
    lines = ['image = ImageOps.exif_transpose(Image.open("image.png"))']
    if facts.get("window"):
        lines += [
            'low, high = np.percentile(np.array(image), facts["window"])',
            "grey = (np.array(image, float) - low) * (255 / (high - low))",
            'if image.mode[0] in "IF": image = Image.fromarray('
            "grey.round().clip(0, 255).astype(np.uint8))",
        ]
    else:
        lines.append(
            'if image.mode[0] == "I": image = Image.fromarray('
            "((np.array(image).astype(np.int64) + 128) // 257).astype(np.uint8))"
        )
    return [*lines, f'image = image.convert("{mode}")']


#: The pixels of one image as a batch.
_FIRST = "pixels.transpose(2, 0, 1)[None].copy()"


def _images(kind: Kind, facts: dict[str, Any]) -> _Made:
    lines = _Lines(["from PIL import Image, ImageOps"], _open_image(facts))
    shape = f"height, width, {facts['channels']}"
    deep = "Images are uint8 (batch, channels, height, width); normalisation is inside."
    if facts.get("window"):
        deep += f" Of more than 8 bits the percentiles {facts['window']} become 0 and 255."
    if facts["task"] != "segmentation":
        lines.body.extend(
            [
                'height, width = facts["image_size"]',
                *_FITS[facts["resize"]],
                f"pixels = np.array(image, np.uint8).reshape({shape})",
                *_plain(kind, facts, _call(kind, {"images": _FIRST})),
            ]
        )
        return lines, ["pillow"], deep
    if "multiple_of" not in facts:
        lines.body.append('image = image.crop((0, 0, *facts["image_size"][::-1]))')
    lines.body.extend(
        [
            "width, height = image.size",
            f"pixels = np.array(image, np.uint8).reshape({shape})",
        ]
    )
    if "multiple_of" in facts:
        lines.body.extend(
            [
                'step, least = facts["multiple_of"], facts["smallest"]',
                "below, right = (max(-(-n // step) * step, least) - n for n in (height, width))",
                'mode = "reflect" if below < height and right < width else "edge"',
                "pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode=mode)",
            ]
        )
        deep += f" Height and width are multiples of {facts['multiple_of']}."
    else:
        height, width = facts["image_size"]
        deep += (
            f" They have {height} x {width} pixels, as this net does not say how it shrinks them: "
            "the lines take the top left corner of a larger one."
        )
    call = _call(kind, {"images": _FIRST})
    first = "[0]" if kind == "onnx" else "[0][0].numpy()"
    lines.body.extend(
        [
            f"mask = {call}{first}[:height, :width]",
            'Image.fromarray(mask).save("mask.png")',
            'print({name: (mask == n).mean() for n, name in enumerate(facts["class_names"])})',
        ]
    )
    return lines, ["pillow"], deep + " A mask holds the classes' numbers."


def is_joined(facts: dict[str, Any]) -> bool:
    """Whether texts are cut by lines of their own, as no tokenizer cuts them as the zoo does.

    A pair is one row, which is cut as a whole, and both ends of a text may be kept.
    """
    return not isinstance(facts["text_column"], str) or facts["truncate"] == "both"


#: Which of a row's tokens are kept.
_KEPT = {
    "head": "ids[:room]",
    "tail": "ids[-room:]",
    "both": "ids if len(ids) <= room else ids[: (room + 1) // 2] + ids[len(ids) - room // 2 :]",
}


def _texts(kind: Kind, facts: dict[str, Any]) -> _Made:
    body = [
        'tokenizer = Tokenizer.from_file("tokenizer.json")',
        "tokenizer.encode_special_tokens = True",
    ]
    if is_joined(facts):
        pairs = not isinstance(facts["text_column"], str)
        texts = '["one text", "and another"]' if pairs else '["a text of your own"]'
        joined = 'parts[0] + facts["between"] + parts[1]' if pairs else "parts[0]"
        body += [
            "tokenizer.no_truncation()",
            f"texts = {texts}",
            "parts = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]",
            f'ids = {joined} or [facts["unknown"]]',
            'room = facts["max_length"] - len(facts["prefix"] + facts["suffix"])',
            f'ids = facts["prefix"] + ({_KEPT[facts["truncate"]]}) + facts["suffix"]',
            "tokens, lengths = np.array([ids], np.int64), np.array([len(ids)], np.int64)",
        ]
    else:
        body += [
            'texts = tokenizer.encode_batch(["a text of your own"])',
            "tokens = np.array([text.ids for text in texts], np.int64)",
            "lengths = np.array([sum(text.attention_mask) for text in texts], np.int64)",
        ]
    body += _plain(kind, facts, _call(kind, {"tokens": "tokens", "lengths": "lengths"}))
    words = "Lengths are tokens without padding; how far a text is padded changes nothing."
    return _Lines(["from tokenizers import Tokenizer"], body), ["tokenizers"], words


def _table(kind: Kind, facts: dict[str, Any]) -> _Made:
    row: dict[str, Any] = {name: 0.0 for name in facts["numbers"]}
    row |= {name: of[0] for name, of in facts["categories"].items()}
    body, arrays = [f"row = {row!r}"], {}
    if facts["numbers"]:
        body.append('numbers = np.array([[row[name] for name in facts["numbers"]]], np.float64)')
        arrays["numbers"] = "numbers"
    if facts["categories"]:
        body.append('known = facts["categories"].items()')
        find = "of.index(row[name]) if row[name] in of else -1 for name, of in known"
        body.append(f"categories = np.array([[{find}]], np.int64)")
        arrays["categories"] = "categories"
    body += _plain(kind, facts, _call(kind, arrays))
    return _Lines([], body), [], "Columns are in the order of `facts`; a category not known is -1."


def _tokens(kind: Kind, facts: dict[str, Any]) -> _Made:
    zeros = "np.zeros([{'batch': 1, 'past': 0}.get(n, n) for n in shape], np.float32)"
    body = [
        'tokenizer = Tokenizer.from_file("tokenizer.json")',
        'ids = new = tokenizer.encode("Once upon a time", add_special_tokens=False).ids',
        f'state = [{zeros} for shape in facts["state"].values()]',
        'for _ in range(min(40, facts["max_length"] - len(ids))):'
        if facts["max_length"]
        else "for _ in range(40):",
    ]
    if kind == "onnx":
        body += [
            '    given = dict(zip(facts["state"], state), tokens=np.array([new], np.int64))',
            "    logits, *state = session.run(None, given)",
        ]
    else:
        body += [
            "    arrays = [np.array([new], np.int64), *state]",
            "    logits, *state = (part.numpy() for part in model(*map(torch.from_numpy, arrays)))",
        ]
    body += [
        "    new = [int(logits[0].argmax())]",
        '    if new[0] in facts["stop_ids"]: break',
        "    ids = ids + new",
        "print(tokenizer.decode(ids))",
    ]
    words = (
        "A step takes the next tokens, one or several, and what it remembers of those before, "
        "which is empty at first. The lines take the likeliest token each time."
    )
    if facts.get("chat_template"):
        words += " A question belongs into the chat template, `chat_template` in `facts`."
    return _Lines(["from tokenizers import Tokenizer"], body), ["tokenizers"], words


_LINES = {"images": _images, "texts": _texts, "table": _table, "tokens": _tokens}
