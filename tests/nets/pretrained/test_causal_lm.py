"""Language models of the hub, tiny and random ones that a test saves, with no network."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from torch import Tensor

from zoo.nets import PretrainedCausalLM
from zoo.nets.pretrained import causal_lm as pretrained_lm

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2_SIZES = {"vocab_size": 40, "n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 32} | {
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "gpt2": lambda: transformers.GPT2Config(**GPT2_SIZES),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES),
    "mistral": lambda: transformers.MistralConfig(**SIZES, sliding_window=3),
    # rounding is not the same in each row of a batch
    "wide": lambda: transformers.LlamaConfig(
        **SIZES | {"hidden_size": 256, "intermediate_size": 704, "initializer_range": 0.02}
    ),
    # caps its logits
    "gemma2": lambda: transformers.Gemma2Config(**SIZES, head_dim=8, sliding_window=3),
    # takes no positions
    "bloom": lambda: transformers.BloomConfig(
        vocab_size=40, hidden_size=16, n_head=2, n_layer=2, initializer_range=0.3
    ),
}
each_kind = pytest.mark.parametrize("kind", CONFIGS)
each_main_kind = pytest.mark.parametrize("kind", ["llama", "gpt2"])
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    paths = {}
    for kind, make_config in CONFIGS.items():
        torch.manual_seed(0)
        paths[kind] = tmp_path_factory.mktemp(kind)
        transformers.AutoModelForCausalLM.from_config(make_config()).save_pretrained(paths[kind])
    return paths


@pytest.fixture(autouse=True)
def _unreachable_hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def build(folder: Path, **options: Any) -> PretrainedCausalLM:
    torch.manual_seed(1)
    return PretrainedCausalLM(str(folder), **options)


def train_adapter(net: PretrainedCausalLM) -> PretrainedCausalLM:
    """Moves the adapter away from where it does nothing."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net


def draw(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 40, (length,), generator=generator) for length in lengths]


def theirs(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


# --- the net -------------------------------------------------------------------------------------


@each_kind
@torch.no_grad()
def test_gives_the_models_logits(folders, kind):
    net = build(folders[kind])
    assert all(module.training for module in net.modules())
    net.eval()
    (text,) = draw(9)
    expected = theirs(folders[kind])(text[None]).logits
    torch.testing.assert_close(net(text[None]), expected)
    assert net.vocab_size == 40
    assert net.max_length == (None if kind == "bloom" else 32)
    if kind == "gemma2":
        assert net.output_layer is None
    else:
        assert net.output_layer is not None
        assert net.output_layer.weight is net.model.get_output_embeddings().weight
        torch.testing.assert_close(net.output_layer(net.features(text[None])), expected)
    places = torch.arange(9)[None]
    torch.testing.assert_close(net(text[None], places), expected, **CLOSE)


@each_kind
@torch.no_grad()
def test_texts_of_a_packed_row_are_as_if_alone(folders, kind):
    net = build(folders[kind]).eval()
    texts = draw(5, 1, 7, 4)
    row = torch.cat([*texts, torch.zeros(3, dtype=torch.long)])
    segment_ids = torch.cat([torch.full((len(t),), n) for n, t in enumerate(texts)])
    segment_ids = torch.nn.functional.pad(segment_ids, (0, 3), value=-1)
    places = torch.nn.functional.pad(torch.cat([torch.arange(len(t)) for t in texts]), (0, 3))
    rows = torch.stack([row, row.roll(1)])  # a row of other bounds beside it
    both = torch.stack([segment_ids, segment_ids.roll(1)])
    if kind == "bloom":
        with pytest.raises(ValueError, match=r"a bloom cannot keep the texts of one row apart"):
            net(rows, None, both)
        rows, both = rows[:1, :5], both[:1, :5]  # a text a row is no matter
        torch.testing.assert_close(net(rows, None, both), net(rows))
        return
    alone = torch.cat([net(text[None])[0] for text in texts])
    for given in (None, torch.stack([places, places.roll(1)])):
        packed = net(rows, given, both)
        torch.testing.assert_close(packed[0, :17], alone, **CLOSE)
        features = net.features(rows, given, both)
        assert features.shape[:2] == (2, 20)
    one_row = net(row[None, :17], torch.arange(17)[None])
    assert (one_row[0] - alone).abs().max() > 1e-3  # attention would cross otherwise


@each_kind
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_texts_of_a_packed_row_share_their_start(folders, kind, attention):
    if kind == "bloom":
        attention = "eager"  # has no other
    net = build(folders[kind], attention=attention).eval()
    start, *rests = draw(3, 5, 2)
    row = torch.cat([start, *rests, torch.zeros(2, dtype=torch.long)])[None]
    places = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 3, 4, 0, 0]])
    segment_ids = torch.tensor([[0] * 8 + [1] * 2 + [-1] * 2])
    if kind in ("bloom", "mistral", "gemma2"):  # the last two look back at a few tokens alone
        match = "apart" if kind == "bloom" else r"cannot share the start .* share_prefix to false"
        with pytest.raises(ValueError, match=match):
            net(row, places, segment_ids, shared_prefix_len=3)
        return
    alone = [net(torch.cat([start, rest])[None])[0] for rest in rests]
    together = net(row, places, segment_ids, shared_prefix_len=3)[0]
    torch.testing.assert_close(together[:8], alone[0], **CLOSE)
    torch.testing.assert_close(together[8:10], alone[1][3:], **CLOSE)


@each_kind
@torch.no_grad()
def test_steps_give_the_logits_of_the_whole(folders, kind):
    net = build(folders[kind]).eval()
    (text,) = draw(12)
    expected = net(text[None])[0]
    logits, state = net.step(text[None, :5])
    torch.testing.assert_close(logits[0], expected[4], **CLOSE)
    for place in range(5, 10):
        logits, state = net.step(text[None, place : place + 1], state)
        torch.testing.assert_close(logits[0], expected[place], **CLOSE)
    logits, state = net.step(text[None, 10:], state)
    torch.testing.assert_close(logits[0], expected[11], **CLOSE)


@each_main_kind
def test_gradient_checkpointing_changes_no_gradient(folders, kind):
    gradients = []
    for checkpointing in (False, True):
        net = build(folders[kind], gradient_checkpointing=checkpointing, lora=True)
        train_adapter(net)
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        assert net.model.is_gradient_checkpointing == checkpointing
        net.features(draw(9)[0][None]).square().mean().backward()
        gradients.append({n: p.grad for n, p in net.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_weights_have_the_type_that_is_asked_for(folders):
    net = build(folders["llama"], dtype="bfloat16", lora=True)
    kinds = {p.requires_grad: p.dtype for p in net.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    whole = build(folders["llama"])
    again = PretrainedCausalLM(**{**whole._hub_mixin_config, "dtype": "bfloat16"})
    for built in (whole, again):
        assert len({parameter.dtype for parameter in built.parameters()}) == 1
    assert again.model.dtype == torch.bfloat16
    with torch.no_grad():
        logits = net.eval()(draw(9)[0][None])
        torch.testing.assert_close(logits.float(), whole.eval()(draw(9)[0][None]), rtol=0, atol=0.3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_the_one_that_is_asked_for(folders, attention):
    net = build(folders["llama"], attention=attention)
    assert net.model.config._attn_implementation == attention
    again = PretrainedCausalLM(**net._hub_mixin_config)
    assert again.model.config._attn_implementation == attention


@each_main_kind
def test_is_rebuilt_without_the_folder(folders, tmp_path, kind):
    folder = shutil.copytree(folders[kind], tmp_path / "model")
    net = build(folder).eval()
    shutil.rmtree(folder)
    record = json.loads(json.dumps(net._hub_mixin_config))
    again = PretrainedCausalLM(**record).eval()
    tokens = draw(9)[0][None]
    with torch.no_grad():
        assert not torch.equal(again(tokens), net(tokens))
        again.load_state_dict(net.state_dict())
        assert torch.equal(again(tokens), net(tokens))
    net.save_pretrained(tmp_path / "saved")
    from_files = PretrainedCausalLM.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(from_files(tokens), net(tokens))


# --- LoRA ----------------------------------------------------------------------------------------

LORA: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "some": {"lora_targets": ["q_proj", "v_proj"]},
}


@pytest.mark.parametrize("options", LORA.values(), ids=LORA)
@torch.no_grad()
def test_lora_is_pefts(folders, options):
    net = build(folders["llama"], lora=True, lora_rank=3, lora_alpha=7.0, **options)
    train_adapter(net).eval()
    config = peft.LoraConfig(
        r=3,
        lora_alpha=7,
        target_modules=options.get("lora_targets", "all-linear"),
        use_rslora=options.get("rslora", False),
        use_dora=options.get("dora", False),
        task_type="CAUSAL_LM",
    )
    wrapped = peft.get_peft_model(theirs(folders["llama"]), config).eval()
    state = {n.replace("model.", "base_model.model.", 1): v for n, v in net.state_dict().items()}
    state.pop("base._extra_state")
    report = wrapped.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert not any("lora" in name for name in report.missing_keys)
    tokens = draw(9)[0][None]
    torch.testing.assert_close(net(tokens), wrapped(tokens).logits, **CLOSE)
    assert (net(tokens) - theirs(folders["llama"])(tokens).logits).abs().max() > 1e-2
    trained = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    ours = {name for name, p in net.named_parameters() if p.requires_grad}
    assert len(trained) == len(ours) > 0


@each_main_kind
@pytest.mark.parametrize("options", LORA.values(), ids=LORA)
@torch.no_grad()
def test_merged_equals_unmerged(folders, kind, options):
    if kind == "gpt2" and "lora_targets" in options:
        options = {"lora_targets": ["c_attn"]}
    net = train_adapter(build(folders[kind], lora=True, **options)).eval()
    tokens = draw(9)[0][None]
    expected = net(tokens)
    merged = net.to_transformers()
    assert type(merged) is type(theirs(folders[kind]))
    assert not any("lora" in name or "base_layer" in name for name in merged.state_dict())
    torch.testing.assert_close(merged(tokens).logits, expected, **CLOSE)
    assert torch.equal(net(tokens), expected)  # the net is as it was


def test_a_merged_model_is_saved_and_read(folders, tmp_path):
    net = train_adapter(build(folders["llama"], lora=True)).eval()
    net.to_transformers().save_pretrained(tmp_path)
    tokens = draw(9)[0][None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(tmp_path)(tokens).logits, net(tokens), **CLOSE)


@torch.no_grad()
def test_the_adapter_can_be_switched_off(folders):
    net = train_adapter(build(folders["llama"], lora=True)).eval()
    tokens = draw(9)[0][None]
    trained = [p.requires_grad for p in net.parameters()]
    adapted = net(tokens)
    with net.adapter_off():
        torch.testing.assert_close(net(tokens), theirs(folders["llama"])(tokens).logits)
    assert torch.equal(net(tokens), adapted)
    assert [p.requires_grad for p in net.parameters()] == trained
    with pytest.raises(ValueError, match="lora is false; it leaves no base model"):
        build(folders["llama"]).adapter_off()


def test_a_state_dict_holds_the_adapter_alone(folders):
    net = train_adapter(build(folders["llama"], lora=True)).eval()
    state = net.state_dict()
    added = {name for name, p in net.named_parameters() if p.requires_grad}
    assert set(state) == added | {"base._extra_state"}
    again = build(folders["llama"], lora=True).eval()
    tokens = draw(9)[0][None]
    with torch.no_grad():
        assert not torch.equal(again(tokens), net(tokens))
        again.load_state_dict(copy.deepcopy(state))
        assert torch.equal(again(tokens), net(tokens))
    state.pop(next(iter(added)))
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict(state)
    holder = torch.nn.ModuleDict({"net": net})  # as a task holds it
    assert all(name.startswith("net.") for name in holder.state_dict())
    assert holder.load_state_dict(holder.state_dict()).missing_keys == []


def test_an_adapter_for_another_base_model_is_refused(folders, tmp_path):
    state = build(folders["llama"], lora=True).state_dict()
    model = theirs(folders["llama"])
    model.save_pretrained(tmp_path / "copy", max_shard_size="5KB")
    assert (tmp_path / "copy" / "model.safetensors.index.json").exists()
    copied = build(tmp_path / "copy", lora=True)
    copied.load_state_dict(state)  # the same weights in other files
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 0.01
    model.save_pretrained(tmp_path / "other")
    other = build(tmp_path / "other", lora=True)
    with pytest.raises(ValueError, match=r"other'; .* an adapter for another base model; s"):
        other.load_state_dict(state)


def test_base_weights_in_4_bits(folders):
    pytest.importorskip("bitsandbytes")
    if not torch.cuda.is_available():
        pytest.skip("4-bit weights need a GPU")
    net = build(folders["wide"], lora=True, load_in_4bit=True, dtype="bfloat16")
    assert net.model_is_quantised
    train_adapter(net.to("cpu")).to("cuda")
    tokens = draw(9)[0][None].cuda()
    net(tokens).float().square().mean().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
    again = build(folders["wide"], lora=True, load_in_4bit=True, dtype="bfloat16").eval()
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        expected = net.eval()(tokens).float()
        torch.testing.assert_close(again(tokens).float(), expected)
        merged = net.to_transformers().cuda()(tokens).logits.float()
    assert (merged - expected).abs().max() < 0.2 * expected.abs().max()  # 4 bits round coarsely


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vocab_size": 41}, "option vocab_size is 41; "),
        ({"lora": True, "lora_rank": 0}, "option lora_rank is 0; "),
        ({"lora": True, "lora_targets": ["q_prj"]}, "'q_prj'; it is no linear .* mean 'q_proj'"),
        (
            {"lora": True, "lora_targets": ["lm_head"]},
            "'lm_head'; it is no linear layer of the model",
        ),
        ({"dora": True}, "option dora is true; .*it is a kind of LoRA; set lora to true too"),
        (
            {"load_in_4bit": True},
            "option load_in_4bit is true; .*it is a kind of LoRA; set lora to true too",
        ),
        ({"dtype": "float8"}, "option dtype is 'float8'"),
        ({"attention": "flash"}, "option attention is 'flash'"),
        ({"architecture": "{"}, "architecture is no configuration of a language model"),
    ],
)
def test_refuses_what_does_not_fit(folders, options, said):
    with pytest.raises(ValueError, match=said) as caught:
        build(folders["llama"], **options)
    assert "\n" not in str(caught.value)


def test_refuses_what_the_machine_lacks(folders, monkeypatch):
    find_spec = pretrained_lm.check_installed.__globals__["importlib"].util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "bitsandbytes" else find_spec(name, *rest),
    )
    with pytest.raises(ValueError, match="load_in_4bit needs bitsandbytes, which is not installed"):
        build(folders["llama"], lora=True, load_in_4bit=True)
    monkeypatch.setattr(pretrained_lm, "check_installed", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="load_in_4bit is true; it needs a GPU, and there is none"):
        build(folders["llama"], lora=True, load_in_4bit=True)


def test_refuses_a_text_beyond_the_context(folders):
    net = build(folders["llama"]).eval()
    with pytest.raises(ValueError, match=r"it reads 32 tokens, and here are 33; set max_len"):
        net(draw(33)[0][None])
    _, state = net.step(draw(32)[0][None])
    with pytest.raises(ValueError, match="it reads 32 tokens, and here are 33"):
        net.step(draw(1)[0][None], state)
    segment_ids = torch.arange(2).repeat_interleave(20)[None]  # a row may be longer than its texts
    assert net(draw(40)[0][None], None, segment_ids).isfinite().all()


def test_refuses_an_encoder(tmp_path):
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=24,
    )
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a bert does not write on from left to right"):
        build(tmp_path)


def test_refuses_a_damaged_file(folders, tmp_path):
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="could not be loaded as a language model") as caught:
        build(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"model is '\./none'; it does not exist; give a folder"):
        PretrainedCausalLM("./none")


def test_says_which_weights_a_file_lacks(folders, tmp_path):
    import safetensors.torch

    folder = shutil.copytree(folders["qwen2"], tmp_path / "model")
    state = safetensors.torch.load_file(folder / "model.safetensors")
    del state["model.layers.0.mlp.up_proj.weight"]
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.warns(UserWarning, match=r"has no weights for model\.layers\.0\.mlp\.up_proj"):
        build(folder)
