"""The page of a model: one interface for each task, which asks the model as Python does.

Nothing that comes from a page is taken as a path or as an address: texts are handed on as values of
columns, images as files that Gradio itself has written, and what names a file elsewhere is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from zoo.demo.limits import FORMATS, KEPT_S, LOOK_S, MOST_CHARACTERS, MOST_PIXELS, MOST_WAITING
from zoo.errors import UserError
from zoo.inference.generation import fitted, pieces
from zoo.inference.outputs import (
    Answers,
    ImageClassAnswers,
    MaskAnswers,
    NumberAnswers,
    TextClassAnswers,
)
from zoo.model.model import Model, cut, unseen
from zoo.model.results import ClassResult, LabelsResult, MaskResult, NumberResult

#: Classes that a page shows, the likeliest first.
_MOST_CLASSES = 10
_TOO_LARGE = f"the image is too large; give one of {MOST_PIXELS:,} pixels at most"
#: What all pages share. Results are kept nowhere, and nothing is reported to anybody.
_COMMON: dict[str, Any] = {
    "api_name": "ask",
    "flagging_mode": "never",
    "analytics_enabled": False,
    "cache_examples": False,
    "delete_cache": (LOOK_S, KEPT_S),
}


class _Guarded:
    """A page that takes no file but an uploaded one, and says what is wrong in a sentence.

    Gradio fetches what an address names, and looks at where a file lies only as long as it serves
    the page by itself.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *more: Any) -> Any:
        """Return what a function of the page is called with."""
        if _names_other_file(inputs, Path(get_upload_folder()).resolve()):
            raise gr.Error("files are uploaded here, not fetched from elsewhere")
        try:
            return await super().preprocess_data(block_fn, inputs, *more)  # type: ignore[misc]
        except gr.Error:
            raise
        except Exception as error:  # whatever it is, of the visitor's making
            is_large = isinstance(error.__cause__, Image.DecompressionBombError)
            raise gr.Error(_TOO_LARGE if is_large else "this input cannot be read") from error


class _Form(_Guarded, gr.Interface):  # type: ignore[misc]
    """Fields to fill in, and an answer beside them."""


class _Chat(_Guarded, gr.ChatInterface):  # type: ignore[misc]
    """A conversation."""


def _names_other_file(value: Any, folder: Path) -> bool:
    """Return whether a file among some values does not lie in a folder."""
    if isinstance(value, dict):
        path = value.get("path")
        is_other = isinstance(path, str) and not Path(path).resolve().is_relative_to(folder)
        return is_other or any(_names_other_file(each, folder) for each in value.values())
    return isinstance(value, list) and any(_names_other_file(each, folder) for each in value)


def page_of(model: Model, title: str, examples: Sequence[Any] = ()) -> Any:
    """Return the page of a model, a ``gradio.Blocks``.

    Args:
        model: The model.
        title: What stands above it.
        examples: Inputs to try: files of images, texts, rows or prompts.

    Raises:
        UserError: If there is none for its task.
    """
    make = _maker(model)
    if make is None or model.data is None:
        raise UserError(
            f"{model!r} has no demo: there is one for image classifiers, segmenters, text "
            "classifiers, regressors of tables and language models that the zoo trained on data "
            "modules of its own"
        )
    parameters = sum(parameter.numel() for parameter in model.net.parameters())
    about = f"{type(model.net).__name__} of {parameters:,} parameters, {model.name}."
    page = make(model, examples, {"title": title, "description": about, **_COMMON})
    return page.queue(max_size=MOST_WAITING)


def _maker(model: Model) -> Callable[..., Any] | None:
    if model.writes:
        return _writer
    makers: dict[type[Answers], Callable[..., Any]] = {
        ImageClassAnswers: _image_classifier,
        MaskAnswers: _segmenter,
        TextClassAnswers: _text_classifier,
        NumberAnswers: _table,
    }
    return next((make for kind, make in makers.items() if isinstance(model.answers, kind)), None)


# -------------------------------------------------------------------- images


def _image() -> Any:
    """Return a field for an image; its file is read by the zoo, as ``predict`` reads it."""
    return gr.Image(
        type="filepath",
        image_mode=None,
        label="image",
        sources=["upload", "webcam", "clipboard"],
        height=300,
    )


def _checked_image(path: str | None) -> str:
    """Return an uploaded image's path.

    Raises:
        gradio.Error: If there is none, or it is no image that is decoded here.
    """
    if path is None:
        raise gr.Error("give an image first")
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
    except OSError as error:
        raise gr.Error(f"this is no image; give one of {', '.join(FORMATS)}") from error
    if width * height > MOST_PIXELS:
        raise gr.Error(_TOO_LARGE)
    return path


def _image_classifier(model: Model, examples: Sequence[str], common: dict[str, Any]) -> Any:
    def classify(image: str | None) -> dict[str, float]:
        return _shares(_asked(model, _checked_image(image)))

    return _Form(
        classify,
        _image(),
        _label(model),
        examples=[[path] for path in examples] or None,
        **common,
    )


def _segmenter(model: Model, examples: Sequence[str], common: dict[str, Any]) -> Any:
    def segment(image: str | None) -> tuple[Any, dict[str, float]]:
        path = _checked_image(image)
        result = _asked(model, path)
        assert isinstance(result, MaskResult)
        data, _ = model.data.of(path)
        pixels = next(iter(data.predict_dataloader())).image[0]  # (C, H, W), as the net sees them
        seen = pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()
        # The first class is what all others stand before.
        masks = [
            ((result.mask == number).astype(float), name)
            for number, name in enumerate(result.shares)
            if number
        ]
        return (seen, masks), result.shares

    return _Form(
        segment,
        _image(),
        [gr.AnnotatedImage(label="mask", format="png"), gr.Label(label="share of the pixels")],
        examples=[[path] for path in examples] or None,
        **common,
    )


# -------------------------------------------------------------------- texts and tables


def _text_classifier(model: Model, examples: Sequence[Any], common: dict[str, Any]) -> Any:
    named = model.data.text_column
    columns: list[str] = named if isinstance(named, list) else [named]

    def classify(*texts: str) -> dict[str, float]:
        for text in texts:
            _check_length(text)
        if not any(map(str.strip, texts)):
            raise gr.Error("write a text first")
        return _shares(_asked(model, dict(zip(columns, texts, strict=True))))

    return _Form(
        classify,
        [gr.Textbox(label=name, lines=4, max_length=MOST_CHARACTERS) for name in columns],
        _label(model),
        examples=[[text] for text in examples] if examples and len(columns) == 1 else None,
        **common,
    )


def _table(model: Model, examples: Sequence[Sequence[Any]], common: dict[str, Any]) -> Any:
    data = model.data

    def predict(*values: Any) -> float:
        result = _asked(model, dict(zip(data.columns, values, strict=True)))
        assert isinstance(result, NumberResult)
        return result.value

    numbers = [gr.Number(value=mean, label=name) for name, mean in data.means.items()]
    others = [
        gr.Dropdown(known, value=known[0], label=name) for name, known in data.categories.items()
    ]
    return _Form(
        predict,
        [*numbers, *others],
        gr.Number(label=data.target_name),
        examples=[list(row) for row in examples] or None,
        **common,
    )


def _check_length(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise gr.Error(f"the text has {len(text):,} characters; give {MOST_CHARACTERS:,} at most")


def _label(model: Model) -> Any:
    return gr.Label(label="probability", num_top_classes=min(_MOST_CLASSES, len(model.class_names)))


def _shares(result: Any) -> dict[str, float]:
    assert isinstance(result, ClassResult | LabelsResult)
    return result.probabilities


def _asked(model: Model, given: Any) -> Any:
    """Return a model's answer; what is wrong with an input is shown in the page."""
    try:
        return model(given)
    except UserError as error:
        raise gr.Error(_without_folder(str(error), given)) from error


def _without_folder(sentence: str, given: Any) -> str:
    """Return a sentence that does not tell where an upload lies on this machine."""
    if not isinstance(given, str):
        return sentence
    return sentence.replace(f"{Path(given).parent}{os.sep}", "")


# -------------------------------------------------------------------- language models


def _writer(model: Model, examples: Sequence[str], common: dict[str, Any]) -> Any:
    data = model.data

    def write(message: str, history: list[dict[str, Any]]) -> Iterator[str]:
        _check_length(message)
        prompt = [*map(_plain, history), {"role": "user", "content": message}]
        try:
            tokens = model.tokens_of(data, prompt if data.is_chat else message)
            for said in (
                cut(len(tokens), len(fitted(model.net, tokens))),
                unseen(tokens, data.pad_id),
            ):
                if said is not None:
                    gr.Info(said)
            new = model.write(tokens, data.stop_ids)
        except UserError as error:
            raise gr.Error(str(error)) from error
        written = ""
        for piece in pieces(new, data.decode):
            written += piece
            yield written

    return _Chat(
        write,
        # Without the button that shows a chat to all the world.
        chatbot=gr.Chatbot(
            render_markdown=False, label="the model", height="60vh", buttons=["copy", "copy_all"]
        ),
        textbox=gr.Textbox(
            placeholder="a message" if data.is_chat else "the beginning of a text",
            max_length=MOST_CHARACTERS,
            show_label=False,
        ),
        examples=list(examples) or None,
        **common,
    )


def _plain(message: dict[str, Any]) -> dict[str, str]:
    """Return a message of a chat as the tokenizer takes it; pictures in it are passed over."""
    content = message["content"]
    parts = content if isinstance(content, list) else [content]
    texts = [
        part["text"] if isinstance(part, dict) else part
        for part in parts
        if isinstance(part, str) or (isinstance(part, dict) and "text" in part)
    ]
    return {"role": str(message["role"]), "content": "\n".join(map(str, texts))}
