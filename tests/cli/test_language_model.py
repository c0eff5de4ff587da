"""A text file of one's own: a language model learns from it, and writes on from its checkpoint."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

RECIPE = """
model:
  class_path: LanguageModel
  init_args:
    net: {class_path: GPT, init_args: {embedding_dim: 16, num_layers: 1, num_heads: 2}}
    sample_tokens: 20
    lr: 0.02
data:
  class_path: TextCorpus
  init_args:
    {path: text.txt, tokenizer: char, max_length: 16, batch_size: 8, windows_per_epoch: 80}
trainer: {max_epochs: 2, accelerator: cpu, enable_progress_bar: false, log_every_n_steps: 5}
"""


@pytest.fixture
def fit(zoo: Callable[[str], Any]) -> Callable[..., Path]:
    """Trains on counting, in two scripts, and gives the run's folder."""
    lines = "".join(f"{number} 번째, " for number in range(3000))
    Path("text.txt").write_text(lines, encoding="utf-8")
    Path("lm.yaml").write_text(RECIPE, encoding="utf-8")

    def run(options: str = "") -> Path:
        ended = zoo(f"fit --config lm.yaml --wandb off {options}")
        assert ended.code == 0, ended.err
        return sorted(Path("runs/lm").iterdir())[-1]

    return run


def test_leaves_figures_samples_and_curves(fit: Callable[..., Path]) -> None:
    run = fit()
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["test"]) == {"loss", "perplexity", "bits_per_byte", "bits_per_char"}
    # A Hangul syllable is one character of three bytes.
    assert 1.1 < summary["test"]["bits_per_char"] / summary["test"]["bits_per_byte"] < 2
    assert summary["parameters"] > 1000
    assert summary["flops_per_sample"] > 16 * 2 * summary["parameters"] * 0.5
    with (run / "samples.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20", "20"]  # the last is the tested one's
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        metrics = list(csv.DictReader(file))
    for column in ("time/tokens_per_s", "time/tflops_per_s", "val/perplexity"):
        assert any(float(row[column]) > 0 for row in metrics if row[column]), column
    assert (run / "curves.png").is_file()


def test_writes_on_from_the_checkpoint_alone(
    fit: Callable[..., Path], zoo: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit()
    Path("elsewhere").mkdir()
    (run / "checkpoints" / "best.ckpt").rename("elsewhere/model.ckpt")
    monkeypatch.chdir("elsewhere")
    ended = zoo("predict --ckpt_path model.ckpt --inputs 12 번")
    assert ended.code == 0, ended.err
    (path,) = Path("runs/predict").glob("*/predictions.csv")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == ["12", "번"]
    for row in rows:
        assert row["prompt"] + row["text"] in ended.out
        assert 1 <= len(row["text"]) <= 20
    assert "째" in rows[1]["text"]  # which always follows

    again = zoo("predict --ckpt_path model.ckpt --inputs 12 번 --model.sample_tokens 4")
    assert f"번{rows[1]['text'][:4]}\n" in again.out


def test_prompts_may_come_line_by_line(
    fit: Callable[..., Path], zoo: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit()
    monkeypatch.setattr(sys, "stdin", io.StringIO("12\n번\n"))
    ended = zoo(f"predict --ckpt_path {run}/checkpoints/best.ckpt")
    assert ended.code == 0, ended.err
    (path,) = Path("runs/predict").glob("*/predictions.csv")
    with path.open(encoding="utf-8") as file:
        assert [row["prompt"] for row in csv.DictReader(file)] == ["12", "번"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    ended = zoo(f"predict --ckpt_path {run}/checkpoints/best.ckpt")
    assert ended.code == 2
    assert "nothing was given to write on from" in ended.err


def test_of_a_prompt_longer_than_the_context_the_end_is_read(
    fit: Callable[..., Path], zoo: Callable[[str], Any]
) -> None:
    run = fit()
    end = "12" * 8
    ended = zoo(f"predict --ckpt_path {run}/checkpoints/best.ckpt --inputs 번{end} {end}")
    assert ended.code == 0, ended.err
    cut = "the prompt has 17 tokens and the net's context 16: its first 1 are left out\n"
    assert ended.err.count(cut) == 1
    (path,) = Path("runs/predict").glob("*/predictions.csv")
    with path.open(encoding="utf-8") as file:
        first, second = (row["text"] for row in csv.DictReader(file))
    assert first == second


def test_characters_that_training_never_saw_are_counted(
    fit: Callable[..., Path], zoo: Callable[[str], Any]
) -> None:
    run = fit()
    ended = zoo(f"predict --ckpt_path {run}/checkpoints/best.ckpt --inputs 12xyz 34")
    assert ended.code == 0, ended.err
    said = "3 of the prompt's 5 tokens are not in the net's vocabulary\n"
    assert ended.err.count(said) == ended.err.count("vocabulary") == 1


def test_a_vocabulary_of_another_size(fit: Callable[..., Path], zoo: Callable[[str], Any]) -> None:
    run = fit()
    Path("text.txt").write_text("abc" * 2000, encoding="utf-8")
    ended = zoo(f"fit --config lm.yaml --wandb off --ckpt_path {run}/checkpoints/best.ckpt")
    assert ended.code == 2
    assert "does not fit the net of this run, as net.embedding.weight is" in ended.err


def test_a_resumed_run_is_the_uninterrupted_one(
    fit: Callable[..., Path], zoo: Callable[[str], Any]
) -> None:
    half = fit("--trainer.max_epochs 1 --model.schedule constant")
    for options in ("--ckpt_path last", ""):
        ended = zoo(f"fit --config lm.yaml --wandb off --model.schedule constant {options}")
        assert ended.code == 0, ended.err
    (straight,) = set(Path("runs/lm").iterdir()) - {half}
    weights = [
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (half, straight)
    ]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_memory_that_runs_out(
    fit: Callable[..., Path], zoo: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.tasks import LanguageModel

    def fail(self: LanguageModel, batch: Any, batch_idx: int) -> None:
        torch.empty(2**55)

    monkeypatch.setattr(LanguageModel, "training_step", fail)
    fit_options = "fit --config lm.yaml --wandb off"
    ended = zoo(fit_options)
    assert ended.code == 1
    assert "not enough memory" in ended.err
    assert "data.batch_size" in ended.err
    assert "Traceback" not in ended.err
