"""``zoo demo``: what it refuses, says and offers, and how it ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.__main__ import main
from zoo.demo.serving import is_loopback

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Keep the pages that would have been served."""
    pytest.importorskip("gradio", reason="pip install 'lightning-zoo[demo]'")
    served: list[Any] = []

    def serve(page: Any, *_: Any) -> None:
        files = [row[0] for row in examples(page) if Path(str(row[0])).is_file()]
        served.append((page, [np.asarray(Image.open(file)) for file in files]))

    monkeypatch.setattr("zoo.demo.serving.serve", serve)
    return served


def examples(page: Any) -> list[Any]:
    return page.examples or []


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["demo", *words]) == 2
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "zoo: option --ckpt_path is missing"),
        (["--ckpt_path", "a.ckpt", "--weights", "b"], "zoo: options --weights and --ckpt_path"),
        (
            ["--weights", "mlp-diabetes", "--port", "many"],
            "zoo: option port is 'many'; give",
        ),
        (["--weights", "mlp-diabetes", "--port", "65536"], "zoo: option port is 65536; give"),
        (["--weights", "mlp-diabetes", "--examples", "-1"], "zoo: option examples is -1; give 0"),
        (["--weights", "mlp-diabetes", "--share", "1"], "zoo: option --share is not known"),
    ],
)
def test_bad_options_get_a_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    said = refusal(capsys, *words)
    assert said.startswith(sentence)
    assert "\n" not in said


def test_without_gradio_the_line_that_installs_it_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.cli.demo.find_spec", lambda name: None)
    assert "pip install 'lightning-zoo[demo]'" in refusal(capsys, "--weights", "mlp-diabetes")


def test_a_port_in_use_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], pages: list[Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refusal(capsys, "--weights", "mlp-diabetes", "--port", str(port))
    assert said.startswith(f"zoo: option port is {port}; another program listens there; give")


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host"])
def test_an_address_of_elsewhere_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], pages: list[Any], host: str
) -> None:
    said = refusal(capsys, "--weights", "mlp-diabetes", "--host", host, "--port", "0")
    assert said.startswith(f"zoo: option host is {host!r}; give an address of this machine")


def test_an_address_that_others_reach_is_told(
    capsys: pytest.CaptureFixture[str], pages: list[Any]
) -> None:
    base = ["demo", "--weights", "mlp-diabetes", "--port", "0", "--examples", "0"]
    assert main(base) == 0
    assert "whoever" not in capsys.readouterr().out
    assert main([*base, "--host", "0.0.0.0"]) == 0
    assert "whoever reaches 0.0.0.0 may use it: no password" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback_is_told_apart(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


def test_examples_are_of_the_test_split(pages: list[Any]) -> None:
    assert main(["demo", "--weights", "googlenet-digits", "--port", "0", "--examples", "10"]) == 0
    ((_, images),) = pages
    model = zoo.load("googlenet-digits", device="cpu")
    assert sorted(result.label for result in model(images)) == [*"0123456789"]  # one of each


def test_rows_to_try_are_the_tables_own(pages: list[Any]) -> None:
    from datamodules import Diabetes

    assert main(["demo", "--weights", "mlp-diabetes", "--port", "0", "--examples", "3"]) == 0
    rows = examples(pages[0][0])
    model, data = zoo.load("mlp-diabetes", device="cpu"), Diabetes()
    data.setup("test")
    features = next(iter(data.test_dataloader())).features[:3]
    np.testing.assert_allclose(model.data.of(rows)[0]._table.features, features, atol=1e-5)


def test_data_that_is_not_at_hand_is_not_fetched(
    capsys: pytest.CaptureFixture[str],
    pages: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--weights", "resnet-fashion", "--port", "0"]) == 0
    assert "there are no examples, as the run's data cannot be read" in capsys.readouterr().out
    assert examples(pages[0][0]) == []
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_when_told_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    pytest.importorskip("gradio", reason="pip install 'lightning-zoo[demo]'")
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    words = ["--weights", "mlp-diabetes", "--port", "0", "--examples", "0"]
    command = [sys.executable, "-u", "-m", "zoo", "demo", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.fullmatch(r"the demo is at http://127.0.0.1:(\d+) \(Ctrl-C ends it\)\n", line)
        assert found is not None
        # A page that stays open, whose line never ends by itself.
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        connection.request("GET", "/gradio_api/heartbeat/abc", headers={"Host": "localhost"})
        assert connection.getresponse().status == 200
        server.send_signal(number)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out, err) == (0, "stopped\n", "")
    assert [*tmp_path.iterdir()] == []
