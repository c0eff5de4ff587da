"""What a demo takes from those who use it: so much at once, so many files, and no more."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

#: Bytes of a request: an image, or a chat so far.
MOST_BYTES = 10 * 2**20
#: Uploaded files that are kept at a time.
MOST_FILES = 200
#: Seconds after which an uploaded file is deleted, and between two looks.
KEPT_S, LOOK_S = 600, 60
#: Pixels of an image; 4096 x 4096.
MOST_PIXELS = 2**24
#: Characters of a text.
MOST_CHARACTERS = 100_000
#: Those who wait for an answer at a time.
MOST_WAITING = 20
#: What images are decoded of; PIL knows others, one of which runs a program (PostScript).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class _TooLargeError(Exception):
    """A request turned out to be longer than it may be."""


class Limited:
    """An ASGI application whose requests are short, and whose uploads are few.

    A request that says its length is refused before a byte of it is read, one that does not as soon
    as it is too long.

    Args:
        app: The application.
        uploads: The folder that it keeps uploaded files in.
    """

    def __init__(self, app: _App, uploads: Path) -> None:
        self.app = app
        self.uploads = uploads

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            await _refuse(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
            return
        if scope["path"].rstrip("/").endswith("/upload") and self._is_full():
            await _refuse(send, HTTPStatus.TOO_MANY_REQUESTS, _TOO_MANY)
            return
        got, begun, refused = 0, False, False

        async def counted() -> _Message:
            nonlocal got, refused
            message = await receive()
            got += len(message.get("body", b""))
            if got > MOST_BYTES:
                if not begun and not refused:
                    refused = True
                    await _refuse(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
                raise _TooLargeError
            return message

        async def noted(message: _Message) -> None:
            nonlocal begun
            begun = True
            if not refused:  # else it is the application's word on why it stopped
                await send(message)

        try:
            await self.app(scope, counted, noted)
        except Exception:
            if not refused:
                raise

    def _is_full(self) -> bool:
        return sum(len(files) for _, _, files in os.walk(self.uploads)) >= MOST_FILES


_TOO_LARGE = f"this demo takes no more than {MOST_BYTES // 2**20} MB at once"
_TOO_MANY = f"this demo keeps no more than {MOST_FILES} files at a time; wait some minutes"


async def _refuse(send: _Send, status: HTTPStatus, sentence: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode()})
