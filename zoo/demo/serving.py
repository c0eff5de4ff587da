"""Where a page is served, until somebody stops it."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from datamodules.core.errors import refuse
from zoo.demo.limits import MOST_BYTES, Limited

#: Seconds that open connections are waited for.
_GRACE_S = 1


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; 0 takes any port that is free.

    Raises:
        OptionError: If another program listens there, or it may not be listened there.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise refuse("host", host, "give an address of this machine, such as 127.0.0.1") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            remedy = "another program listens there; give another, or 0 for any that is free"
            raise refuse("port", port, remedy) from error
        if error.errno == errno.EACCES:
            remedy = "it needs an administrator's rights; give one of 1024 or more"
            raise refuse("port", port, remedy) from error
        raise refuse("host", host, "give an address of this machine, such as 127.0.0.1") from error
    return listening


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Have Gradio write its files into a folder that is gone afterwards, and report nothing.

    It reads these variables when it is imported.
    """
    with TemporaryDirectory(prefix="zoo-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        yield Path(folder)


def serve(page: Any, listening: socket.socket, host: str, folder: Path) -> None:
    """Serve a page until Ctrl-C or SIGTERM.

    Args:
        page: The ``gradio.Blocks``.
        listening: Where.
        host: The address that was asked for.
        folder: Where Gradio keeps files.
    """
    server = server_of(page, listening, host, folder)
    with _asked_to_stop(server):
        server.run(sockets=[listening])


def server_of(page: Any, listening: socket.socket, host: str, folder: Path) -> Any:
    """Return a page's ``uvicorn.Server``, whose arguments are those of :func:`serve`."""
    import uvicorn

    config = uvicorn.Config(
        _application(page, listening.getsockname()[1], host, folder),
        # Open connections are cut when it ends, of which it would print a traceback each; what goes
        # wrong in a function of the page Gradio prints.
        log_level="critical",
        timeout_graceful_shutdown=_GRACE_S,
        ws="none",
    )
    return uvicorn.Server(config)


def _application(page: Any, port: int, host: str, folder: Path) -> Any:
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=host,
        server_port=port,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        # Fonts of the reader's own machine: Gradio's come from elsewhere.
        theme=gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
    )
    # As Gradio's own server says: it looks at where a file lies only once it is launched.
    page.has_launched = page.is_running = True
    limited: Any = Limited(app, folder)
    if not is_loopback(host):
        return limited
    # A page from elsewhere whose name was made to mean this machine asks under its own name.
    return TrustedHostMiddleware(limited, ["localhost", "127.0.0.1", "[::1]", host])


@contextmanager
def _asked_to_stop(server: Any) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end the server, and no more: it has nothing to save."""

    def stop(signum: int, frame: FrameType | None) -> None:
        server.should_exit = True

    before: dict[int, Any] = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
