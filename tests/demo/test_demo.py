"""The page of a model, asked as a visitor's program asks it."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="pip install 'lightning-zoo[demo]'")

from gradio_client import handle_file
from gradio_client.exceptions import AppError

from zoo.demo import limits
from zoo.demo.limits import MOST_BYTES
from zoo.inference.generation import pieces

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def digits(serve: Callable[..., Any]) -> Any:
    return serve("googlenet-digits")


@pytest.fixture(scope="module")
def writer(serve: Callable[..., Any]) -> Any:
    return serve("gpt-reviews")


def picture(path: Path, height: int, width: int, *channels: int) -> str:
    shape = (height, width, *channels)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)).save(path)
    return str(path)


def confidences(answer: Any) -> dict[str, float]:
    return {each["label"]: each["confidence"] for each in answer["confidences"]}


def test_an_image_gets_the_probabilities_that_python_gets(digits: Any, tmp_path: Path) -> None:
    digit = picture(tmp_path / "digit.png", 8, 8)
    answer, expected = digits.ask(handle_file(digit)), digits.model(digit)
    assert answer["label"] == expected.label
    assert confidences(answer) == expected.probabilities


def test_a_segmenter_shows_the_mask_over_the_image(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    page, image = serve("unet-cells"), picture(tmp_path / "cells.png", 70, 50, 3)
    expected = page.model(image)
    shown, shares = page.ask(handle_file(image))
    assert confidences(shares) == expected.shares
    assert [each["label"] for each in shown["annotations"]] == ["cell"]
    drawn = np.asarray(Image.open(shown["annotations"][0]["image"]).convert("RGBA"))[:, :, 3]
    np.testing.assert_array_equal(drawn > 0, expected.mask == 1)
    assert Image.open(shown["image"]).size == (50, 70)


def test_a_text_is_classified_and_never_taken_for_a_path(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    page, file = serve("gru-reviews"), tmp_path / "review.txt"
    file.write_text("A wonderful, warm and moving film.")
    text = "Dull, and far too long."
    assert confidences(page.ask(text)) == page.model(text).probabilities
    as_text = page.model({"text": str(file)}).probabilities
    assert as_text != page.model(str(file)).probabilities
    assert confidences(page.ask(str(file))) == as_text
    with pytest.raises(AppError, match="write a text first"):
        page.ask("  ")
    with pytest.raises(AppError, match="100,001 characters"):
        page.ask("a" * 100_001)


def test_a_row_gets_the_number_that_python_gets(serve: Callable[..., Any]) -> None:
    page = serve("mlp-diabetes")
    row = [48.0, 1, 26, 100, 180, 110, 50, 4, 4.5, 90]
    assert page.ask(*row) == page.model(row).value
    with pytest.raises(AppError, match="finite number"):
        page.ask(None, *row[1:])


def test_a_language_model_writes_piece_by_piece(writer: Any) -> None:
    job = writer.client().submit("The film was", api_name="/ask")
    text = job.result(timeout=120)
    assert text == "".join(writer.model.stream("The film was"))
    shown = job.outputs()
    assert len(shown) > 10
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(shown))


def test_a_prompt_is_never_taken_for_a_path(writer: Any, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    path, data = str(tmp_path / "secret.txt"), writer.model.data
    tokens = data.encode_prompt(path)
    expected = "".join(pieces(writer.model.write(tokens, data.stop_ids), data.decode))
    assert writer.ask(path) == expected != "".join(writer.model.stream(path))


# -------------------------------------------------------------------- uploads


def test_an_upload_of_a_gigabyte_is_refused_before_it_is_read(digits: Any) -> None:
    with socket.create_connection(("127.0.0.1", digits.port), timeout=60) as line:
        head = (
            "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n"
        )
        line.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_that_does_not_say_its_length_is_cut(digits: Any, path: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    chunk, sent = b"100000\r\n" + b"a" * 2**20 + b"\r\n", 0
    with socket.create_connection(("127.0.0.1", digits.port), timeout=60) as line:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        kind = "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        line.sendall(f"{head}{kind}{len(part):x}\r\n".encode() + part + b"\r\n")
        with suppress(OSError):  # it hangs up
            while sent < 2**30:
                line.sendall(chunk)
                sent += 2**20
        answer = b""
        with suppress(OSError):  # its answer may have gone with the line
            answer = line.recv(4096)
    assert sent < 8 * MOST_BYTES
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")


def test_no_more_files_are_taken_than_are_kept(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_FILES", 0)
    digit = picture(tmp_path / "digit.png", 8, 8)
    with pytest.raises(Exception, match="429 Too Many Requests"):
        digits.ask(handle_file(digit))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read|no image"),
        ("a text", "cannot be read|no image"),
        ("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "this is no image; give one of BMP"),
    ],
)
@pytest.mark.parametrize("name", ["file.png", "file.svg"])
def test_what_is_no_image_is_refused(
    digits: Any, tmp_path: Path, content: str, sentence: str, name: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(AppError, match=sentence):
        digits.ask(handle_file(str(tmp_path / name)))


@pytest.mark.parametrize("side", [5_000, 20_000])
def test_an_image_of_too_many_pixels_is_refused(digits: Any, tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "large.png")
    with pytest.raises(AppError, match="16,777,216 pixels at most"):
        digits.ask(handle_file(str(tmp_path / "large.png")))


# -------------------------------------------------------------------- files of the machine


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../../../etc/passwd",
        "/gradio_api/file=%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/file//etc/passwd",
        "/static/../../../../../../../../etc/passwd",
        "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/svelte/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        f"/gradio_api/file={ROOT / 'pyproject.toml'}",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/proxy=http://127.0.0.1/",
    ],
)
def test_no_file_of_the_machine_is_given_out(digits: Any, path: str) -> None:
    status, body = digits.get(path)
    assert 400 <= status < 500
    assert b"root:" not in body
    assert b"[project]" not in body


def call(page: Any, value: Any) -> str:
    """Return what the page answers to a value that Gradio's client would not send."""
    url = f"{page.url}/gradio_api/call/ask"
    body = json.dumps({"data": [value]}).encode()
    sent = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(sent) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as response:
        return response.read().decode()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        str(ROOT / ".github" / "run.png"),
        ".github/run.png",
        "http://127.0.0.1:9/x.png",
        "https://example.com/x.png",
    ],
)
def test_no_file_is_taken_that_was_not_uploaded(
    digits: Any, writer: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for page, value in ((digits, file), (writer, [file])):
        answer = call(page, value)
        assert answer.startswith("event: error")
        assert "not fetched from elsewhere" in answer
    assert not [*digits.folder.rglob("passwd"), *digits.folder.rglob("run.png")]


def test_what_a_page_gives_out_lies_in_the_folder_too(digits: Any) -> None:
    """Gradio looks at this by itself, but only where it believes that the page is served."""
    assert digits.page.has_launched
    assert digits.page.is_running


def test_an_uploaded_file_lies_in_the_folder_whatever_it_is_called(
    digits: Any, tmp_path: Path
) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../../x.png"\r\n\r\n'
    body = part + b"pixels\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    url = f"{digits.url}/gradio_api/upload"
    with urllib.request.urlopen(urllib.request.Request(url, body, kind)) as response:
        (path,) = json.load(response)
    assert Path(path).resolve().is_relative_to(digits.folder.resolve())


def test_a_page_from_elsewhere_is_not_answered(digits: Any) -> None:
    assert digits.get("/config")[0] == 200
    assert digits.get("/config", host="elsewhere.example")[0] == 400


def test_nothing_of_the_page_comes_from_elsewhere(digits: Any) -> None:
    config = json.loads(digits.get("/config")[1])
    assert not config["analytics_enabled"]
    assert b"fonts.googleapis" not in digits.get("/theme.css")[1] + digits.get("/")[1]
