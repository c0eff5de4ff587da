"""A pretrained language model from recipe to checkpoint and back, on a tiny random Llama."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.tasks import LanguageModel

pytest.importorskip("transformers")
pytest.importorskip("peft")

RECIPE = """\
model:
  class_path: LanguageModel
  init_args:
    net:
      class_path: PretrainedCausalLM
      init_args: {{model: {model}, lora: {lora}, lora_rank: 2, lora_dropout: 0.2}}
    lr: 0.01
    schedule: constant
    sample_tokens: 8
    ema_decay: {ema}
data:
  class_path: TextCorpus
  init_args:
    path: corpus.txt
    tokenizer: {model}
    max_length: 16
    batch_size: 8
    windows_per_epoch: 48
    val_fraction: 0.1
    test_fraction: 0.1
wandb: 'off'
trainer:
  {{max_epochs: 1, accelerator: cpu, devices: 1, enable_progress_bar: false,
   default_root_dir: {root}}}
"""


@pytest.fixture
def fit(zoo, tiny_llama):
    """Trains; gives the checkpoint of the last step."""
    Path("corpus.txt").write_text("the name of this is the capital of the assistant. " * 60)

    def run(name: str, options: str = "", **values: Any) -> Path:
        values = {"model": tiny_llama, "lora": "true", "ema": "null", "root": name} | values
        Path(f"{name}.yaml").write_text(RECIPE.format(**values))
        ended = zoo(f"fit --config {name}.yaml {options}")
        assert ended.code == 0, ended.err
        (path,) = Path(name).glob("*/*/checkpoints/last.ckpt")
        return path

    return run


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


@pytest.mark.parametrize(
    ("lora", "ema"),
    [
        ("true", "null"),
        *(
            pytest.param(lora, ema, marks=pytest.mark.slow)
            for lora, ema in (("true", "0.9"), ("false", "null"), ("false", "0.9"))
        ),
    ],
)
def test_a_run_that_goes_on_ends_as_an_uninterrupted_one(fit, zoo, lora, ema):
    whole = read(fit("whole", "--trainer.max_epochs 2", lora=lora, ema=ema))
    half = fit("half", lora=lora, ema=ema)
    ended = zoo(f"fit --config half.yaml --trainer.max_epochs 2 --ckpt_path {half}")
    assert ended.code == 0, ended.err
    again = read(half)
    assert again["global_step"] == whole["global_step"] == 12
    for key in ("state_dict", *(["current_model_state"] if ema != "null" else [])):
        assert again[key].keys() == whole[key].keys()
        for name, value in whole[key].items():
            assert torch.equal(again[key][name], value), name
            if lora == "true":
                assert ".lora_" in name or name == "net.base._extra_state"


def test_a_checkpoint_of_lora_is_small_and_tests_alike(fit, zoo, tiny_llama):
    last = fit("run")
    weights = sum(file.stat().st_size for file in tiny_llama.glob("*.safetensors"))
    assert sum(v.numel() * 4 for v in read(last)["state_dict"].values()) < weights / 2
    first, second = zoo(f"test --ckpt_path {last}"), zoo(f"test --ckpt_path {last}")
    assert first.code == second.code == 0, first.err
    figure = next(line for line in first.out.splitlines() if line.startswith("test loss"))
    assert figure in second.out
    task = LanguageModel.load_from_checkpoint(str(last))
    state = {f"net.{name}": value for name, value in task.net.state_dict().items()}
    for name, value in read(last)["state_dict"].items():
        assert torch.equal(state[name], value)


def test_a_wholly_trained_model_needs_its_folder_no_more(fit, zoo, tiny_llama, tmp_path):
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    last = fit("run", lora="false", model=folder)
    expected = zoo(f"test --ckpt_path {last}")
    shutil.rmtree(folder)
    ended = zoo(f"test --ckpt_path {last}")
    assert ended.code == 0, ended.err
    figure = next(line for line in expected.out.splitlines() if line.startswith("test loss"))
    assert figure in ended.out


def test_an_adapter_is_refused_where_its_base_model_is_not(fit, zoo, tiny_llama, tmp_path):
    import safetensors.torch

    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    last = fit("run", model=folder)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    state["model.norm.weight"] += 1
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    ended = zoo(f"test --ckpt_path {last}")
    assert ended.code == 2
    assert "; the checkpoint holds an adapter for another base model" in ended.err
    assert "Traceback" not in ended.err
    shutil.rmtree(folder)
    ended = zoo(f"test --ckpt_path {last}")
    assert ended.code == 2
    assert "give a folder with config.json" in ended.err
    ended = zoo(f"test --ckpt_path {last} --model.net.model {tiny_llama}")
    assert ended.code == 0, ended.err


def test_preferences_are_learned(zoo, tiny_llama):
    rows = [
        {"prompt": f"What is {n}?", "chosen": f"the name of {n}", "rejected": f"{n} assistant"}
        for n in range(60)
    ]
    Path("pairs.json").write_text(json.dumps(rows))
    text = RECIPE.format(model=tiny_llama, lora="true", ema="null", root="runs")
    text = text.replace("LanguageModel", "PreferenceTuning").replace("TextCorpus", "Preferences")
    text = text.replace("corpus.txt", "pairs.json").replace("    windows_per_epoch: 48\n", "")
    Path("r.yaml").write_text(text.replace("max_length: 16", "max_length: 64"))
    ended = zoo("fit --config r.yaml --trainer.max_epochs 3")
    assert ended.code == 0, ended.err
    (summary,) = Path("runs").glob("*/*/summary.json")
    figures = json.loads(summary.read_text())["test"]
    assert set(figures) == {"loss", "reward_accuracy", "reward_margin"}
    assert figures["reward_accuracy"] > 0.9
    assert figures["reward_margin"] > 0
    assert "train/reward_margin" in (summary.parent / "metrics.csv").read_text().split("\n")[0]


def test_the_datas_tokenizer_may_not_have_more_tokens(zoo, tiny_llama):
    parts = ["ba", "co", "du", "fe", "gi", "ha", "jo", "ku", "le", "mi"]
    Path("corpus.txt").write_text(" ".join(a + b + c for a in parts for b in parts for c in parts))
    text = RECIPE.format(model=tiny_llama, lora="true", ema="null", root="runs")
    Path("r.yaml").write_text(text.replace(f"tokenizer: {tiny_llama}", "tokenizer: bpe"))
    ended = zoo("fit --config r.yaml --data.vocab_size 350")
    assert ended.code == 2
    assert "option data.vocab_size is 350" in ended.err
    assert "has no more than 300 tokens" in ended.err
    assert "set the data's tokenizer to" in ended.err
