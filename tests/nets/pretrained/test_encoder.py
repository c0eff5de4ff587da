"""Encoders of the hub, tiny and random ones that a test saves, with no network."""

import http.server
import importlib.util
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from torch import Tensor

from datamodules.core import hub
from zoo.nets.pretrained.encoder import PretrainedEncoder

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

PAD = 1
SIZES = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "pad_token_id": PAD,
    "initializer_range": 0.3,
}
CONFIGS: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(**SIZES),
    "roberta": lambda: transformers.RobertaConfig(**SIZES),
    "distilbert": lambda: transformers.DistilBertConfig(
        **{"vocab_size": 30, "dim": 8, "n_heads": 2, "n_layers": 3, "hidden_dim": 12},
        max_position_embeddings=16,
        pad_token_id=PAD,
        initializer_range=0.3,
    ),
}
each_kind = pytest.mark.parametrize("kind", CONFIGS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Saved models, without a head, as encoders lie on the hub."""
    paths = {}
    for kind, make_config in CONFIGS.items():
        torch.manual_seed(0)
        paths[kind] = tmp_path_factory.mktemp(kind)
        transformers.AutoModel.from_config(make_config()).save_pretrained(paths[kind])
    return paths


@pytest.fixture(autouse=True)
def _unreachable_hub(monkeypatch):
    """A hub that refuses each connection, and an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def build(folder: Path, **options: Any) -> PretrainedEncoder:
    torch.manual_seed(1)
    return PretrainedEncoder(str(folder), 3, pad_id=PAD, **options)


def draw(lengths: tuple[int, ...] = (5, 1, 9), width: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(PAD + 1, 30, (len(lengths), width), generator=generator)
    ends = torch.tensor(lengths)
    return tokens.masked_fill(torch.arange(width) >= ends.unsqueeze(1), PAD), ends


# --- the net -------------------------------------------------------------------------------------


@each_kind
def test_gives_the_encoders_logits(folders, kind):
    net = build(folders[kind])
    assert all(module.training for module in net.modules())
    torch.manual_seed(1)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        folders[kind], num_labels=3
    )
    tokens, lengths = draw()
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=(tokens != PAD).long()).logits
        torch.testing.assert_close(net.eval()(tokens, lengths), expected)
    encoder = transformers.AutoModel.from_pretrained(folders[kind])
    ours = getattr(net.model, net.model.base_model_prefix).state_dict()
    for name, value in encoder.state_dict().items():
        if name in ours:  # the pooler is not part of each classifier
            assert torch.equal(ours[name], value), name


@each_kind
def test_logits_of_a_text_are_its_own(folders, kind):
    net = build(folders[kind]).eval()
    tokens, lengths = draw()
    with torch.no_grad():
        alone = torch.cat([net(row[None, :n]) for row, n in zip(tokens, lengths, strict=True)])
        padded, garbage = torch.full((2, 3, 14), PAD)
        padded[:, :9] = tokens
        garbage = torch.where(padded == PAD, 7, padded)
        beyond = torch.nn.functional.pad(padded, (0, 20), value=PAD)
        for logits in (
            net(tokens),
            net(padded),
            net(garbage, lengths),
            net(beyond, lengths),
        ):
            torch.testing.assert_close(logits, alone, rtol=0, atol=1e-5)
    assert (alone[0] - alone[2]).abs().max() > 1e-3


def test_the_batchs_padding_may_have_another_id(folders):
    net = build(folders["roberta"]).eval()
    tokens, _ = draw()
    with torch.no_grad():
        other = PretrainedEncoder(str(folders["roberta"]), 3, pad_id=0).eval()
        other.load_state_dict(net.state_dict())
        torch.testing.assert_close(other(tokens.masked_fill(tokens == PAD, 0)), net(tokens))


@each_kind
@pytest.mark.parametrize("lora", [False, True])
def test_is_rebuilt_from_its_record_without_its_folder(folders, kind, lora, tmp_path):
    copy = shutil.copytree(folders[kind], tmp_path / "model")
    net = build(copy, lora=lora).eval()
    shutil.rmtree(copy)
    recorded = json.loads(json.dumps(net._hub_mixin_config))
    assert recorded["lora"] == lora
    assert "_name_or_path" not in json.loads(recorded["architecture"])
    twin = PretrainedEncoder(**recorded).eval()
    twin.load_state_dict(net.state_dict())
    net.save_pretrained(tmp_path / "saved")
    loaded = PretrainedEncoder.from_pretrained(tmp_path / "saved")
    tokens, lengths = draw()
    with torch.no_grad():
        assert torch.equal(twin(tokens, lengths), net(tokens, lengths))
        assert torch.equal(loaded.eval()(tokens, lengths), net(tokens, lengths))


def test_keeps_a_fine_tuned_head_of_as_many_classes(tmp_path):
    config = CONFIGS["bert"]()
    config.num_labels = 2
    fine_tuned = transformers.AutoModelForSequenceClassification.from_config(config)
    fine_tuned.save_pretrained(tmp_path)
    two, three = (PretrainedEncoder(str(tmp_path), n, pad_id=PAD) for n in (2, 3))
    assert torch.equal(two.model.classifier.weight, fine_tuned.classifier.weight)
    assert three.model.classifier.weight.shape == (3, 8)
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(three.model.get_parameter(query), fine_tuned.get_parameter(query))


def test_tells_which_of_the_encoders_weights_the_file_lacks(folders, tmp_path, recwarn):
    build(folders["bert"])
    assert not recwarn  # the head is new, as it ought to be
    model = transformers.AutoModel.from_config(CONFIGS["bert"](), add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"no weights for bert\.pooler\.dense\.bias, bert\.pooler"):
        build(tmp_path)


def test_weights_are_float32_whatever_the_files_are(tmp_path):
    model = transformers.AutoModel.from_config(CONFIGS["bert"]()).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    net = build(tmp_path)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert {p.dtype for p in PretrainedEncoder(**net._hub_mixin_config).parameters()} == {
        torch.float32
    }


@pytest.mark.parametrize("lora", [False, True])
def test_gradient_checkpointing_changes_no_gradient(folders, lora):
    gradients = []
    for checkpointing in (False, True):
        net = build(folders["bert"], gradient_checkpointing=checkpointing, lora=lora)
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        assert net.model.is_gradient_checkpointing == checkpointing
        net(*draw()).square().mean().backward()
        gradients.append({n: p.grad for n, p in net.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


@pytest.mark.filterwarnings("error")
def test_a_decoder_reads_a_texts_last_token(tmp_path):
    config = transformers.GPT2Config(
        vocab_size=30, n_embd=8, n_head=2, n_layer=2, n_positions=16, initializer_range=0.3
    )
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    net = build(tmp_path, lora=True).eval()
    tokens, lengths = draw()
    with torch.no_grad():
        alone = net(tokens[:1, :5])
        torch.testing.assert_close(net(tokens, lengths)[:1], alone, rtol=0, atol=1e-5)
    assert net.head_names == ("model.score",)
    assert any("c_attn.lora_A" in name for name, _ in net.named_parameters())


# --- layers and LoRA -----------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("lora", [False, True])
def test_each_parameter_has_one_depth(folders, kind, lora):
    net = build(folders[kind], lora=lora)
    depths = net.layer_depths()
    for name, _ in net.named_parameters():
        found = [d for part, d in depths.items() if name == part or name.startswith(f"{part}.")]
        assert len(found) == 1, name
        if ".layer." in name:
            assert found == [1 + int(name.split(".layer.")[1].split(".")[0])]
        elif "embeddings" in name:
            assert found == [0]
        else:
            assert found == [4], name  # the pooler, if any, and the head
    assert set(depths.values()) == {0, 1, 2, 3, 4}
    assert {depths[head] for head in net.head_names if head in depths} == {4}


@each_kind
@pytest.mark.parametrize("targets", ["all-linear", "attention"])
def test_lora_trains_low_rank_matrices_and_the_head(folders, kind, targets):
    names = ["q_lin", "v_lin"] if kind == "distilbert" else ["query", "value"]
    plain = build(folders[kind]).eval()
    net = build(
        folders[kind],
        lora=True,
        lora_rank=2,
        lora_targets=names if targets == "attention" else targets,
    )
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    heads = tuple(f"{head}." for head in net.head_names)
    low_rank = {name: p for name, p in trained.items() if not name.startswith(heads)}
    assert all(2 in p.shape for p in low_rank.values())
    assert {".lora_A.", ".lora_B."} == {
        part for name in low_rank for part in (".lora_A.", ".lora_B.") if part in name
    }
    assert any(name.startswith(heads) for name in trained)
    per_layer = len(names) if targets == "attention" else 6
    pooler = targets == "all-linear" and kind == "bert"
    assert len(low_rank) == 2 * (3 * per_layer + pooler)
    assert not any("lora" in name for name in trained if name.startswith(heads))

    tokens, lengths = draw()
    with torch.no_grad():
        plain_head = {n: v for n, v in plain.state_dict().items() if n.startswith(heads)}
        net.load_state_dict(plain_head, strict=False)
        # B starts at zero: nothing changes until it is trained.
        torch.testing.assert_close(net.eval()(tokens, lengths), plain(tokens, lengths))
    net.train()(tokens, lengths).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    assert all(p.grad is None for p in net.parameters() if not p.requires_grad)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vocab_size": 31}, "option vocab_size is 31; "),
        ({"max_length": 17}, "option max_length is 17; .*'.*' has no more than 16 po"),
        ({"lora": True, "lora_rank": 0}, "option lora_rank is 0; "),
        ({"lora": True, "lora_dropout": 1.0}, r"option lora_dropout is 1\.0; "),
        (
            {"lora": True, "lora_targets": ["querry"]},
            "lora_targets is 'querry'; it is no linear .*did you mean 'query'",
        ),
        (
            {"lora": True, "lora_targets": ["classifier"]},
            "'classifier'; it is no linear layer of the",
        ),
        ({"lora": True, "lora_targets": []}, "option lora_targets is ..; "),
        ({"architecture": "{"}, "architecture is no configuration of an encoder"),
        ({"architecture": '{"model_type": "x"}'}, "architecture is no configuration of an encod"),
    ],
)
def test_refuses_what_does_not_fit(folders, options, said):
    with pytest.raises(ValueError, match=said) as caught:
        build(folders["bert"], **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "limit"), [("bert", 16), ("roberta", 14)])
def test_refuses_a_text_beyond_the_positions(folders, kind, limit):
    net = build(folders[kind]).eval()
    assert net(*draw((limit,), limit)).isfinite().all()
    with pytest.raises(ValueError, match=f"has {limit + 1} tokens and the .* end at {limit}; set"):
        net(*draw((limit + 1, 2), 18))


def test_refuses_pickled_weights(folders, tmp_path):
    shutil.copy(folders["bert"] / "config.json", tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"holds no model\.safetensors, and pickled weights"):
        build(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        build(tmp_path)


def test_refuses_a_damaged_file(folders, tmp_path):
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="could not be loaded as a text classifier") as caught:
        build(folder)
    assert "\n" not in str(caught.value)


def test_refuses_a_name_that_is_none():
    with pytest.raises(ValueError, match=r"folder'; it does not exist; give a folder with"):
        PretrainedEncoder("./no/such/folder")


def test_says_when_a_package_is_missing(folders, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs transformers, which is not installed; run pip"):
        build(folders["bert"])


# --- the hub -------------------------------------------------------------------------------------


def fill_cache(cache: Path, folder: Path) -> None:
    """What a download of ``org/tiny`` leaves in the hub's cache."""
    model = cache / "models--org--tiny"
    shutil.copytree(folder, model / "snapshots" / "0")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0")


def test_an_unreachable_hub_is_named_with_the_local_form():
    said = (
        "option name is 'org/tiny'; give a folder with config.json, model.safetensors .*and as to "
        "the hub: .*refused"
    )
    with pytest.raises(ValueError, match=said):
        PretrainedEncoder("org/tiny")


def test_a_hub_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(hub, "PROBE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        with pytest.raises(ValueError, match=r"give a folder .* does not answer within 0\.2 s"):
            PretrainedEncoder("org/tiny")


def test_offline_mode_asks_nobody(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"not in the hub's cache, .* HF_HUB_OFFLINE is set"):
        PretrainedEncoder("org/tiny")


class _Hub(http.server.BaseHTTPRequestHandler):
    """Knows one model, with pickled weights alone."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        known = self.path.startswith("/api/models/org/pickled")
        files = [{"rfilename": name} for name in ("config.json", "pytorch_model.bin")]
        body = json.dumps({"id": "org/pickled", "siblings": files} if known else {}).encode()
        self.send_response(200 if known else 404)
        if not known:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quietly."""


@pytest.fixture
def _hub(monkeypatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("_hub")
def test_asks_the_hub_for_the_files_before_it_loads_any():
    with pytest.raises(ValueError, match=r"'org/pickled'; .* holds no model\.safetensors, and pic"):
        PretrainedEncoder("org/pickled")
    with pytest.raises(ValueError, match=r"'org/absent'; .* neither a folder nor a public model"):
        PretrainedEncoder("org/absent")


def test_reads_the_hubs_cache_without_a_network(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    fill_cache(tmp_path, folders["bert"])
    with monkeypatch.context() as patch:
        patch.setattr(hub, "unreachable", lambda *_: pytest.fail("asked"))
        cached = PretrainedEncoder("org/tiny", 3, pad_id=PAD)
    query = "bert.encoder.layer.0.attention.self.query.weight"
    local = build(folders["bert"])
    assert torch.equal(cached.model.get_parameter(query), local.model.get_parameter(query))
