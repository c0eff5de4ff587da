"""What the page says of a text or a row is what `zoo.load` says of it, view by view."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.__main__ import main
from zoo.cli.explain import explain

pytestmark = pytest.mark.slow

FIT = (
    "--wandb off --trainer.max_epochs 1 --trainer.limit_train_batches 3 --trainer.accelerator cpu "
    "--trainer.limit_val_batches 1 --trainer.limit_test_batches 1 --data.batch_size 8 --quiet"
)
WORDS = "good bad dull warm slow fine 영화 재미 배우 정말 👍 film plot".split()  # noqa: SIM905
TEXTS = [
    "a good film",
    "dull, slow; and bad!",
    "정말 재미있는 영화",
    "👍👍 fine",
    "  two  spaces\nand a line ",
    "naïve cafe\u0301 ﬁne",
    "nothing_known 12345 Ωmega",
    "",
    "warm " * 5,
    "slow plot " * 40,  # longer than what the nets read
]
NETS = {
    "lstm": "--model.net RNNClassifier --model.net.cell lstm --model.net.bidirectional true "
    "--model.net.hidden_size 6 --model.net.embedding_dim 5 --data.tokenizer char "
    "--data.truncate tail",
    "transformer": "--model.net TransformerClassifier --model.net.embedding_dim 8 "
    "--model.net.num_heads 2 --model.net.num_layers 2 --data.tokenizer bpe "
    "--data.vocab_size 300 --data.truncate both",
}
#: Gives the values of an output of the last answer.
OUTPUT = "(name) => Array.from(ZOO.latest.outputs[name].data, Number)"


class Page:
    """A page that is open, with what it complained of and asked for.

    Args:
        browser: The browser.
        folder: The page's.
    """

    def __init__(self, browser: Any, folder: Path) -> None:
        self.page = browser.new_page(viewport={"width": 360, "height": 800})
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._note)
        self.page.goto((folder / "index.html").as_uri())
        self.page.locator("html[data-answers]").wait_for(timeout=60_000)

    def _note(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(request.url)

    def ask(self, text: str) -> None:
        """Type a text, and wait for the answer to it."""
        self.page.evaluate("delete ZOO.latest")
        self.page.fill("textarea", text)
        self.page.wait_for_function("(text) => ZOO.latest?.about.text === text", arg=text)

    def output(self, name: str) -> np.ndarray:
        return np.array(self.page.evaluate(OUTPUT, name))

    def close(self) -> None:
        assert self.wrong == []
        assert self.page.evaluate("document.documentElement.scrollWidth") <= 360
        self.page.close()


@pytest.fixture(scope="module")
def open_page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """Open the page of a file of weights; at the end nothing may have been wrong with it."""
    opened: list[Page] = []

    def open_page(weights: str, *options: str) -> Page:
        out = tmp_path_factory.mktemp("page") / "out"
        option = "--ckpt_path" if os.path.exists(weights) else "--weights"
        assert explain([option, weights, *options, str(out)]) == 0
        opened.append(Page(browser, out))
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()


@pytest.fixture(scope="module", params=NETS)
def classifier(
    request: pytest.FixtureRequest, open_page: Callable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Page]:
    """A net of a few steps, as Python has it and in a page."""
    folder = tmp_path_factory.mktemp("run")
    draw = np.random.default_rng(0)
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(" ".join(draw.choice(WORDS, 6)), "ab"[n % 2]) for n in range(80)]
        csv.writer(file).writerows([("text", "label"), *rows])
    data = f"--data TextClassification --data.path {folder / 't.csv'} --data.max_length 32"
    words = f"--model TextClassifier {NETS[request.param]} {data} {FIT}"
    root = folder / "runs"
    assert main(["fit", *words.split(), "--trainer.default_root_dir", str(root)]) == 0
    (best,) = root.rglob("best.ckpt")
    return zoo.load(best, device="cpu"), open_page(str(best))


def test_ten_texts_get_the_probabilities_of_python(classifier: tuple[Any, Page]) -> None:
    model, page = classifier
    for text in TEXTS:
        page.ask(text)
        expected = model({"text": text}).probabilities
        found = page.output("probabilities")
        np.testing.assert_allclose(found, [*expected.values()], atol=1e-4, err_msg=repr(text))


def test_a_longer_text_is_cut_as_in_training_and_told(classifier: tuple[Any, Page]) -> None:
    model, page = classifier
    page.ask(TEXTS[-1])
    count = page.page.evaluate("ZOO.latest.about.ids.length")
    data, _ = model.data.of({"text": TEXTS[-1]})
    batch = next(iter(data.predict_dataloader()))
    assert page.page.evaluate("ZOO.latest.about.ids") == batch.tokens[0, :count].tolist()
    assert count == int(batch.lengths[0]) == 32
    assert "The net reads 32 tokens" in page.page.locator("#texts").inner_text()


def test_occlusion_says_what_the_answer_becomes_without_a_word(
    classifier: tuple[Any, Page],
) -> None:
    model, page = classifier
    page.ask("a good dull film")
    page.page.get_by_role("button", name="Leave out each word").click()
    items = page.page.locator("#occlusion li")
    items.nth(3).wait_for()
    whole = model({"text": "a good dull film"})
    cut = [" good dull film", "a  dull film", "a good  film", "a good dull "]
    found = [float(item.split("\n")[-1].replace("−", "-")) for item in items.all_inner_texts()]
    expected = [
        whole.probability - model({"text": text}).probabilities[whole.label] for text in cut
    ]
    np.testing.assert_allclose(found, expected, atol=2e-4)


# -------------------------------------------------------------------- language models


@pytest.fixture(scope="module")
def writer(open_page: Callable) -> tuple[Any, Page]:
    return zoo.load("gpt-reviews", device="cpu"), open_page("gpt-reviews")


def chances(model: Any, text: str) -> torch.Tensor:
    tokens = torch.tensor([model.data.encode_prompt(text)[-model.net.max_length :]])
    with torch.no_grad():
        logits: torch.Tensor = model.net(tokens)[0, -1]
    return logits


def test_the_next_token_is_as_likely_as_in_python(writer: tuple[Any, Page]) -> None:
    model, page = writer
    for text in [text for text in TEXTS if text]:
        page.ask(text)
        found = page.output("logits")
        np.testing.assert_allclose(found, chances(model, text), atol=1e-3, err_msg=repr(text))


def test_temperature_and_top_k_cut_what_is_drawn_from(writer: tuple[Any, Page]) -> None:
    model, page = writer
    page.ask("The film was")
    set_to = "(box, value) => { box.value = value; box.dispatchEvent(new Event('input')); }"
    page.page.get_by_label("Temperature").evaluate(set_to, "-0.3")
    page.page.get_by_label("Top-k").evaluate(set_to, "3")
    logits = chances(model, "The film was")
    best = logits.topk(3)
    expected = (best.values / 10**-0.3).softmax(dim=0)
    shown = page.page.locator("#next .bars .number").all_inner_texts()
    np.testing.assert_allclose([*map(float, shown)], expected, atol=1e-3)
    names = page.page.locator("#next .bars button").all_inner_texts()
    assert [name.strip() for name in names] == [
        model.data.decode([token]).strip() for token in best.indices.tolist()
    ]


def test_a_token_is_chosen_by_keyboard_and_the_text_goes_on(writer: tuple[Any, Page]) -> None:
    model, page = writer
    page.ask("The film was")
    first = model.data.decode([int(chances(model, "The film was").argmax())])
    button = page.page.locator("#next .bars button").first
    button.focus()
    page.page.keyboard.press("Enter")
    text = f"The film was{first}"
    page.page.wait_for_function("(text) => ZOO.latest?.about.text === text", arg=text)
    assert page.page.locator("textarea").input_value() == text


# -------------------------------------------------------------------- tables


def test_partial_dependence_is_the_mean_over_the_rows(open_page: Callable) -> None:
    model, page = zoo.load("mlp-diabetes", device="cpu"), open_page("mlp-diabetes")
    page.page.locator("#dependence select").select_option("bmi")
    page.page.locator("#dependence summary").click()
    lines = page.page.locator("#dependence tr").all_inner_texts()
    shown = np.array([[float(cell) for cell in line.split("\t")] for line in lines[1:]])
    rows = page.page.evaluate("ZOO.data.samples.map((sample) => sample.row)")
    mean, std = model.data.means["bmi"], model.data.stds["bmi"]
    values = mean + std * np.linspace(-2, 2, 25)
    lines_of_rows = [[model({**row, "bmi": value}).value for value in values] for row in rows]
    np.testing.assert_allclose(shown[:, 0], values, atol=1e-3)
    np.testing.assert_allclose(shown[:, 1], lines_of_rows[0], atol=2e-3)
    np.testing.assert_allclose(shown[:, 2], np.mean(lines_of_rows, axis=0), atol=2e-3)
