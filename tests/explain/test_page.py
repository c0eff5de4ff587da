"""Pages in a real browser: torch's numbers, no request, and all by keyboard."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

PAGES = ["googlenet-digits", "unet-cells", "mlp-diabetes", "gru-reviews", "gpt-reviews"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a page is made before

#: Gives inputs and outputs of the last answer, their numbers as bytes in base64.
LATEST = """() => {
  const packed = ({ buffer, byteOffset, byteLength }) => {
    const bytes = new Uint8Array(buffer, byteOffset, byteLength);
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) {
      text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    }
    return btoa(text);
  };
  const plain = (all) => Object.fromEntries(Object.entries(all).map(([name, tensor]) =>
    [name, { type: tensor.type, dims: tensor.dims, bytes: packed(tensor.data) }]));
  const { inputs, outputs } = ZOO.latest;
  return { inputs: plain(inputs), outputs: plain(outputs) };
}"""


def _array(found: dict[str, Any]) -> npt.NDArray[Any]:
    """Return a tensor of the page's as an array."""
    flat = np.frombuffer(base64.b64decode(found["bytes"]), dtype=found["type"])
    return flat.reshape(found["dims"])


class Watched:
    """A page that is open, with what it said and asked for."""

    def __init__(self, browser: Any, folder: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto((folder / "index.html").as_uri())
        self.page.locator("html[data-answers]").wait_for(timeout=60_000)

    def answers(self) -> int:
        """Return how often the net has answered."""
        return int(self.page.locator("html").get_attribute("data-answers") or 0)

    def after(self, act: Any) -> dict[str, Any]:
        """Do something that asks the net; return its answer."""
        before = self.answers()
        act()
        self.page.locator(f"html:not([data-answers='{before}'])").wait_for(timeout=60_000)
        return self.page.evaluate(LATEST)


@pytest.fixture
def opened(browser, make_page, request):
    """A page, and what was exported into it."""
    folder, whole = make_page(request.param)
    watched = Watched(browser, folder)
    yield watched, whole
    watched.context.close()


def _ten(watched: Watched, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the net ten times, as its users do."""
    page = watched.page
    if facts["inputs"] == "images":
        buttons = page.locator("#images button.thumb")
        return [watched.after(buttons.nth(n).click) for n in range(buttons.count())]
    if facts["inputs"] == "table":
        buttons = page.locator("#table button")
        return [watched.after(buttons.nth(n).click) for n in range(buttons.count())]
    texts = ["a film", "I did not like it", "배우들이 좋았다", "!", "  two  spaces ", "naïve 👍"]
    texts += ["the best of " + "all " * n for n in (1, 5, 40)] + ["word " * 400]
    return [watched.after(lambda text=text: page.fill("textarea", text)) for text in texts]


@pytest.mark.parametrize("opened", PAGES, indirect=True)
def test_every_number_of_ten_answers_is_torchs(opened):
    watched, whole = opened
    answers = _ten(watched, whole.facts)
    assert len(answers) == 10
    for answer in answers:
        feed = [torch.tensor(_array(answer["inputs"][name])) for name in whole.inputs]
        with torch.no_grad():
            expected = whole.module(*feed)
        assert len(expected) == len(whole.outputs) == len(answer["outputs"])
        for name, tensor in zip(whole.outputs, expected, strict=True):
            found, right = _array(answer["outputs"][name]), tensor.double().numpy()
            assert found.shape == right.shape
            reach = max(1.0, np.abs(right).max(initial=0.0))
            difference = np.abs(found - right)
            assert difference.max(initial=0.0) / reach < 1e-4, name
    own = {"file", "data", "blob"}
    assert {url.split(":")[0] for url in watched.asked} <= own
    assert watched.said == []


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's script, from npm's registry."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which brings axe-core")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--silent", "--prefix", str(folder), "axe-core@4.14.1"]
    try:
        subprocess.run(command, capture_output=True, timeout=120, check=True)
    except subprocess.SubprocessError:
        pytest.skip("axe-core cannot be had: npm's registry is not reached")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


@pytest.mark.parametrize("opened", PAGES, indirect=True)
def test_axe_finds_nothing_serious_in_light_and_dark_and_both_languages(opened, axe):
    watched, _ = opened
    page = watched.page
    page.add_script_tag(content=axe)
    for button in (None, "한국어", None):
        if button:
            page.get_by_role("button", name=button).click()
        page.locator("details").evaluate_all("all => all.forEach((each) => each.open = true)")
        found = page.evaluate("async () => (await axe.run()).violations")
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        names = [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in serious]
        assert names == [], json.dumps(names, indent=1, ensure_ascii=False)
        page.locator("#settings button").last.click()  # dark


@pytest.mark.parametrize("opened", ["googlenet-digits"], indirect=True)
def test_an_image_is_drawn_and_looked_into_by_keyboard_alone(opened):
    watched, whole = opened
    page = watched.page
    page.locator("canvas.draw").focus()
    watched.after(lambda: page.keyboard.press("Space"))
    for _ in range(3):
        answer = watched.after(lambda: page.keyboard.press("Shift+ArrowDown"))
    pixels = _array(answer["inputs"]["images"])
    assert pixels.max() > 100  # something white is drawn
    assert pixels.min() == 0
    heat = page.locator("#answer input[type=range]")
    before = page.locator("#answer .number").first.inner_text()
    heat.focus()
    page.keyboard.press("End")  # temperature 10
    assert float(page.locator("#answer .number").first.inner_text()) < float(before)
    block = page.locator("#maps details").filter(has_text="inception3b")
    block.locator("summary").focus()
    page.keyboard.press("Enter")
    block.locator("canvas").first.wait_for()
    assert block.locator("canvas").count() == 5  # four branches and what they are joined to
    channels = whole.module.net.inception3b.out_channels
    assert f"{channels} channels in all" in block.inner_text()


@pytest.mark.parametrize("opened", ["googlenet-digits"], indirect=True)
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg is no image"),
        ("a.txt", b"hello", "a.txt is no image"),
        ("a.png", b"hello, I am no picture and long enough to look", "a.png is no image"),
        (
            "wide.png",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x4e\x20\0\0\x4e\x20\x08\0\0\0\0" + bytes(40),
            "wide.png is too large",
        ),
    ],
    ids=["svg", "text", "broken", "20,000 pixels"],
)
def test_what_is_no_image_or_too_large_is_told(opened, name, content, said):
    watched, _ = opened
    before = watched.answers()
    kinds = {"svg": "image/svg+xml", "txt": "text/plain", "png": "image/png"}
    payload = {"name": name, "mimeType": kinds[name.split(".")[1]], "buffer": content}
    watched.page.set_input_files("#images input[type=file]", payload)
    watched.page.locator("#status.bad").wait_for()
    assert said in watched.page.locator("#status").inner_text()
    assert watched.answers() == before


@pytest.mark.parametrize("opened", ["googlenet-digits"], indirect=True)
def test_a_browser_without_simd_is_told(opened, browser):
    context = browser.new_context()
    context.add_init_script("WebAssembly.validate = () => false")
    page = context.new_page()
    page.goto(opened[0].page.url)
    page.locator("#status.bad").wait_for()
    assert "no WebAssembly SIMD" in page.locator("#status").inner_text()
    context.close()


@pytest.mark.parametrize("opened", ["gpt-reviews"], indirect=True)
def test_a_text_longer_than_the_nets_positions_is_cut_and_told(opened):
    watched, whole = opened
    answer = watched.after(lambda: watched.page.fill("textarea", "a long film " * 500))
    assert answer["inputs"]["tokens"]["dims"] == [1, whole.facts["max_length"]]
    assert (
        f"reads {whole.facts['max_length']} tokens" in watched.page.locator("#texts").inner_text()
    )
