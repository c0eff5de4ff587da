"""``zoo explain``: what it refuses and says, and what it brings along."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from zoo.__main__ import main

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "zoo" / "explain" / "runtime"
DIGITS = ["--weights", "googlenet-digits"]


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the verb, which has to refuse; gives the sentence."""

    def run(*words: str) -> str:
        assert main(["explain", *words]) == 2
        return capsys.readouterr().err.strip()

    return run


def test_onnxruntimes_files_are_those_of_its_package() -> None:
    facts = json.loads((RUNTIME / "package.json").read_text("utf-8"))
    found = {}
    for name in facts["sha256"]:
        packed = RUNTIME / f"{name}.gz"
        content = gzip.decompress(packed.read_bytes()) if packed.exists() else None
        found[name] = hashlib.sha256(content or (RUNTIME / name).read_bytes()).hexdigest()
    assert found == facts["sha256"]
    assert facts["licence"] == "MIT"
    assert (RUNTIME / "LICENSE").read_text("utf-8").startswith("MIT License")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["out"], "zoo: option --ckpt_path is missing"),
        ([*DIGITS], "zoo: OUT is missing; name a folder, new or empty"),
        ([*DIGITS, "full"], "zoo: OUT is 'full': it is there and not empty; name another folder"),
        (
            [*DIGITS, "--data.root", "files", "full"],
            "zoo: OUT is 'full': it is there and not empty",
        ),
        ([*DIGITS, "--inputs", "a.png", "full"], "zoo: OUT is 'full': it is there and not"),
        ([*DIGITS, "full/a.txt"], "zoo: OUT is 'full/a.txt': it is there and not empty"),
        (
            [*DIGITS, "out", "--single_file"],
            "zoo: OUT is 'out': a single file's name ends in .html",
        ),
        ([*DIGITS, "a.html", "--single_file"], "zoo: OUT is 'a.html': it is there; name another"),
        (
            [*DIGITS, "out", "--max_size", "0"],
            "zoo: option max_size is 0.0; give megabytes above 0",
        ),
        (
            [*DIGITS, "out", "--max_size", "nan"],
            "zoo: option max_size is nan; give megabytes above",
        ),
    ],
)
def test_what_is_wrong_is_told_before_torch_is_loaded(
    tmp_path: Path, words: list[str], sentence: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    (tmp_path / "a.html").touch()
    command = "import sys; from zoo.__main__ import main; code = main(sys.argv[1:]); "
    command += "print('torch' in sys.modules); sys.exit(code)"
    ended = subprocess.run(
        [sys.executable, "-c", command, "explain", *words],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(sentence)
    assert "Traceback" not in ended.stderr
    assert ended.stdout == "False\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.html", "full"]


def test_weights_above_the_size_are_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    said = refusal(*DIGITS, str(tmp_path / "out"), "--max_size", "0.5")
    assert said == "zoo: option max_size is 0.5; give 2 or more, as the weights are 1 MB"
    assert not (tmp_path / "out").exists()


def test_an_input_of_another_kind_is_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no image")
    said = refusal(*DIGITS, "--inputs", str(tmp_path / "a.txt"), str(tmp_path / "out"))
    assert "a.txt" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_net_whose_inside_cannot_be_had_makes_a_page_with_partial_alone(
    refusal: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from zoo.errors import UserError
    from zoo.export import capture

    real = capture.capture

    def fails_inside(whole: Any) -> Any:
        if "taps" in whole.facts:
            raise UserError("the net cannot be exported: layer block.0")
        return real(whole)

    monkeypatch.setattr(capture, "capture", fails_inside)
    Image.new("L", (8, 8), 90).save(tmp_path / "a.png")
    words = [*DIGITS, "--inputs", str(tmp_path / "a.png"), str(tmp_path / "out")]
    assert "block.0; --partial makes a page without what is inside" in refusal(*words)
    assert not (tmp_path / "out").exists()
    assert main(["explain", *words, "--partial"]) == 0
    page = (tmp_path / "out" / "net.js").read_text("utf-8")
    assert '"taps"' not in page
    assert '"gradcam"' in page


@pytest.mark.slow
def test_a_single_file_holds_all_and_no_text_ends_its_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "<script>.png"
    Image.new("L", (8, 8), 90).save(image)
    out = tmp_path / "page.html"
    assert main(["explain", *DIGITS, "--inputs", str(image), "--single_file", str(out)]) == 0
    page = out.read_text("utf-8")
    assert "src=" not in page.replace("img-src", "").replace("script-src", "").split("<body>")[0]
    assert "\\u003cscript>.png" in page
    assert page.count("</script>") == page.count("<script") == 5
    assert sorted(each.name for each in tmp_path.iterdir()) == ["<script>.png", "page.html"]
    assert "open" in capsys.readouterr().out
