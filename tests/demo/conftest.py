"""Pages that are served to the tests, over the loopback."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.model.model import Model


class Served:
    """A page that is being served.

    Args:
        model: Whose page it is.
        page: The ``gradio.Blocks``.
        port: Where.
        folder: Where Gradio keeps files.
    """

    def __init__(self, model: Model, page: Any, port: int, folder: Path) -> None:
        self.model, self.page, self.port, self.folder = model, page, port, folder
        self.url = f"http://127.0.0.1:{port}"

    def client(self) -> Any:
        import gradio_client

        return gradio_client.Client(self.url, verbose=False, analytics_enabled=False)

    def ask(self, *inputs: Any) -> Any:
        return self.client().predict(*inputs, api_name="/ask")

    def get(self, path: str, host: str = "localhost") -> tuple[int, bytes]:
        """Ask for a path as it stands, which no client tidies up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, response.read()


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Serve the page of weights by their name, until the module's tests are done."""
    pytest.importorskip("gradio", reason="pip install 'lightning-zoo[demo]'")
    from zoo.demo.page import page_of
    from zoo.demo.serving import listen, server_of

    folder = tmp_path_factory.mktemp("uploads")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")

        def served(name: str, examples: list[Any] | None = None) -> Served:
            model = zoo.load(name, device="cpu")
            page = page_of(model, name, examples or [])
            listening = stack.enter_context(listen("127.0.0.1", 0))
            server = server_of(page, listening, "127.0.0.1", folder)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join()

            stack.callback(stop)
            return Served(model, page, listening.getsockname()[1], folder)

        yield served
