"""``zoo export``: what transformers makes of the folder."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datamodules.language.inputs import PromptInputs
from zoo.tasks import LanguageModel

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

RECIPE = """\
model:
  class_path: LanguageModel
  init_args: {{net: {net}, lr: 0.01, sample_tokens: 0}}
data:
  class_path: TextCorpus
  init_args:
    {{path: corpus.txt, tokenizer: {tokenizer}, max_length: 16, batch_size: 8,
     windows_per_epoch: 48, val_fraction: 0.1, test_fraction: 0.1}}
wandb: 'off'
trainer:
  {{max_epochs: 1, accelerator: cpu, devices: 1, enable_progress_bar: false,
   default_root_dir: runs}}
"""
GPT = "{class_path: GPT, init_args: {embedding_dim: 16, num_layers: 2, num_heads: 2%s}}"
PRETRAINED = "{class_path: PretrainedCausalLM, init_args: {model: %s%s}}"
NETS = {
    "gpt": (GPT % "", "Qwen3ForCausalLM"),
    "gpt2": (GPT % ", layout: gpt2", "GPT2LMHeadModel"),
    "llama": (GPT % ", layout: llama", "LlamaForCausalLM"),
    "lora": (PRETRAINED % ("MODEL", ", lora: true"), "LlamaForCausalLM"),
    "dora": (PRETRAINED % ("MODEL", ", lora: true, dora: true"), "LlamaForCausalLM"),
    "full": (PRETRAINED % ("MODEL", ""), "LlamaForCausalLM"),
}


@pytest.fixture
def fit(zoo, tiny_llama):
    def run(net: str, **values: Any) -> Path:
        Path("corpus.txt").write_text("the name of this is the capital of the assistant. " * 60)
        values = {"net": net.replace("MODEL", str(tiny_llama)), "tokenizer": tiny_llama} | values
        Path("r.yaml").write_text(RECIPE.format(**values))
        ended = zoo("fit --config r.yaml")
        assert ended.code == 0, ended.err
        (path,) = Path("runs").glob("*/*/checkpoints/best.ckpt")
        return path

    return run


@pytest.mark.parametrize("kind", NETS)
def test_transformers_gives_the_same_logits_and_goes_on_alike(fit, zoo, kind):
    net, architecture = NETS[kind]
    best = fit(net)
    ended = zoo(f"export --ckpt_path {best} --to hf out/model")
    assert ended.code == 0, ended.err
    assert ended.out == "written to out/model\n"
    task = LanguageModel.load_from_checkpoint(str(best)).eval()
    model = transformers.AutoModelForCausalLM.from_pretrained("out/model").eval()
    assert type(model).__name__ == architecture
    tokenizer = transformers.AutoTokenizer.from_pretrained("out/model")
    tokens = torch.randint(3, 300, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, task.net(tokens), rtol=0, atol=1e-5)

    spec = torch.load(best, weights_only=True)["zoo"]["inputs"]["init_args"]
    data = PromptInputs(["The name"], **spec)
    prompt = data.encode_prompt("The name")
    assert tokenizer("The name", add_special_tokens=False)["input_ids"] == prompt
    task.temperature, task.sample_tokens = 0.0, 8
    ours = list(task.write(prompt, stop_ids=data.stop_ids))
    asked = torch.tensor([prompt])
    theirs = model.generate(
        asked, attention_mask=torch.ones_like(asked), max_new_tokens=8, do_sample=False
    )
    continued = theirs[0, len(prompt) :].tolist()
    assert continued[: len(ours)] == ours
    assert len(continued) == len(ours) or continued[len(ours)] in data.stop_ids
    assert tokenizer.decode(ours) == data.decode(ours)


def test_the_folder_holds_all_that_is_asked_for(fit, zoo, tiny_llama, tmp_path):
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    (base / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    best = fit(NETS["lora"][0].replace("MODEL", str(base)))
    Path("out").mkdir()  # an empty folder will do
    ended = zoo("export r --ckpt_path best --to hf out")  # the newest run's
    assert ended.code == 0
    assert ended.err.startswith(f"checkpoint {best}\n")
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    config = json.loads(Path("out/tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["model_max_length"] == 128
    assert json.loads(Path("out/generation_config.json").read_text())["eos_token_id"] == [2]
    card = Path("out/README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "mit"
    assert "Licence of the base model: mit" in card
    summary = json.loads((best.parent.parent / "summary.json").read_text())
    assert f"| loss | {summary['test']['loss']:.4f} |" in card
    assert f"- torch {summary['versions']['torch']}" in card
    recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.S)[1])
    assert recipe["model"]["init_args"]["lr"] == 0.01
    assert recipe["data"]["init_args"]["path"] == "corpus.txt"
    moved = shutil.move(best, tmp_path / "alone.ckpt")  # without a run beside it
    assert zoo(f"export --ckpt_path {moved} --to hf again").code == 0
    card = Path("again/README.md").read_text()
    assert "None are known of these weights" in card
    assert len(card) < 5000  # no tokenizer in it


def test_a_chat_is_rendered_as_in_training(zoo, tiny_llama):
    rows = [{"instruction": f"Name {n}", "output": f"the name is {n}."} for n in range(40)]
    Path("chats.json").write_text(json.dumps(rows))
    data = f"""\
data:
  class_path: Instructions
  init_args: {{path: chats.json, tokenizer: {tiny_llama}, max_length: 64, packing: true}}
"""
    net = NETS["lora"][0].replace("MODEL", str(tiny_llama))
    text = RECIPE.format(net=net, tokenizer=tiny_llama)
    start, end = text.index("data:"), text.index("wandb:")
    Path("r.yaml").write_text(text[:start] + data + text[end:])
    assert zoo("fit --config r.yaml").code == 0
    (best,) = Path("runs").glob("*/*/checkpoints/best.ckpt")
    ended = zoo(f"export --ckpt_path {best} --to hf out")
    assert ended.code == 0, ended.err
    spec = torch.load(best, weights_only=True)["zoo"]["inputs"]["init_args"]
    ours = PromptInputs(["Name 7"], **spec)
    tokenizer = transformers.AutoTokenizer.from_pretrained("out")
    chat = [{"role": "user", "content": "Name 7"}]
    tokens = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    assert tokens["input_ids"] == ours.encode_prompt("Name 7")
    assert tokens["input_ids"][0] == 1  # <|im_start|>, as the model's own template has it
    generation = transformers.GenerationConfig.from_pretrained("out")
    assert generation.eos_token_id == [2]  # <|im_end|>, with which an answer ends


def test_weights_by_their_name_come_with_their_figures(zoo):
    ended = zoo("export --weights mlp-diabetes --to safetensors out")
    assert ended.code == 0, ended.err
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "On the test split:" in card
    assert "| r2 | 0.5131 |" in card
    both = zoo("export --weights mlp-diabetes --ckpt_path x.ckpt --to safetensors other")
    assert both.err.startswith("zoo: options --ckpt_path and --weights name the same: leave one")
    none = zoo("export --to safetensors other")
    assert none.err == "zoo: option --ckpt_path is missing; see `zoo export --help`\n"


def test_refusals(fit, zoo, checkpoint, tiny_llama, tmp_path):
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    best = fit(NETS["lora"][0].replace("MODEL", str(base)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for command, said in (
        (
            f"--ckpt_path {best} --to hf full",
            "option to is 'full'; it is there and not empty: name another folder",
        ),
        (
            f"--ckpt_path {best} --to onnnx out",
            "option to is 'onnnx'; give one of onnx, torch, safetensors, hf",
        ),
        (f"--ckpt_path {best} --to hf", "option --to needs 2 values; see `zoo export --help`"),
        (f"--ckpt_path {best}", "option --to is missing; see `zoo export --help`"),
        (
            "--ckpt_path none.ckpt --to hf out",
            "option ckpt_path is 'none.ckpt'; give a file that is there",
        ),
        (f"--ckpt_path {checkpoint} --to hf out", "transformers has no form for GoogLeNet"),
        (
            f"--ckpt_path {best} --to hf full/file/out",
            "option to is 'full/file/out'; it cannot be written",
        ),
        (f"--ckpt_path {best} --to hf out --model.net.lorra true", "lorra"),
        (f"--ckpt_path {best} --to hf out --model.net.lora_rank 4", "does not fit the net"),
    ):
        ended = zoo(f"export {command}")
        assert (ended.code, ended.out) == (2, ""), command
        assert said in ended.err, ended.err
        assert ended.err.count("\n") == 1
    shutil.rmtree(base)
    ended = zoo(f"export --ckpt_path {best} --to hf out")
    assert ended.code == 2
    assert "does not exist; give a folder with config.json" in ended.err
    assert not Path("out").exists()
    ended = zoo(f"export --ckpt_path {best} --to hf out --model.net.model {tiny_llama}")
    assert ended.code == 0, ended.err
    with pytest.raises(SystemExit, match="0"):
        zoo("export --help")


def test_a_net_that_transformers_does_not_have(fit, zoo):
    best = fit(GPT % ", activation: relu2")
    ended = zoo(f"export --ckpt_path {best} --to hf out")
    assert ended.code == 2
    assert "this net cannot be exported: transformers has this net neither as GPT-2" in ended.err
    assert not Path("out").exists()
