"""Language models of transformers: loaded, built from a configuration, told apart, tried out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from datamodules.core.errors import OptionError, refuse
from datamodules.core.private import attention_implementation
from zoo.nets.layers.packing import packed_causal_mask
from zoo.nets.pretrained.hf import errors_alone, read_architecture, warn_of_missing
from zoo.nets.pretrained.torchvision_weights import first_line

if TYPE_CHECKING:  # imported when a model is built: it takes seconds, and other nets need none
    from transformers import PreTrainedConfig, PreTrainedModel

_VALUES_HASHED = 256  # of each tensor


def load_model(
    folder: Path, name: str, load_in_4bit: bool, options: dict[str, Any]
) -> PreTrainedModel:
    """Return the pretrained model in a folder.

    Raises:
        ValueError: If it is no model that writes on.
        OptionError: If it cannot be read.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    if load_in_4bit:
        options = options | {
            "quantization_config": BitsAndBytesConfig(  # type: ignore[no-untyped-call]
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            ),
            "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))},
        }
    try:
        with errors_alone(bars=False):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            _check_decoder(config, name)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                output_loading_info=True,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                **options,
            )
    except OptionError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        raise refuse(
            "model",
            name,
            f"it could not be loaded as a language model ({first_line(error)}); give one that "
            "transformers' AutoModelForCausalLM knows, whole",
        ) from None
    model: PreTrainedModel
    model, report = loaded
    warn_of_missing(f"model {name!r}", list(report["missing_keys"]))
    return model


def _check_decoder(config: PreTrainedConfig, name: str) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    both_ways = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or both_ways or config.is_encoder_decoder:
        raise refuse(
            "model",
            name,
            f"choose a decoder, Llama, Qwen or GPT-2 say, or to classify texts the net "
            f"PretrainedEncoder, as a {kind} does not write on from left to right",
        )


def build_model(architecture: str, options: dict[str, Any]) -> PreTrainedModel:
    """Return the model of that configuration, with random weights.

    Raises:
        ValueError: If it is no configuration.
    """
    from transformers import AutoModelForCausalLM

    try:
        config = read_architecture(architecture)
        make = AutoModelForCausalLM.from_config
        with errors_alone(bars=False):
            model: PreTrainedModel = make(config, trust_remote_code=False, **options)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(
            f"architecture is no configuration of a language model ({first_line(error)}); leave it "
            "out: the net records its own"
        ) from None
    model.train(False)
    return model


def context_length(config: PreTrainedConfig) -> int | None:
    """Tokens of the longest context; None where there is no limit."""
    count = getattr(config.get_text_config(), "max_position_embeddings", None)
    return count if isinstance(count, int) and count > 0 else None


@torch.no_grad()
def try_out(model: PreTrainedModel, name: str) -> tuple[bool, bool, bool]:
    """Try out what a model can do.

    Models say so nowhere in a form that all share: some cap or scale their logits, some have
    layers, recurrent ones say, that look at the tokens before whatever they are told.

    Returns:
        Whether logits are the output layer's; whether texts of a row stay apart; and whether they
        can begin with the same tokens of that row.

    Raises:
        ValueError: If the model looks at later tokens.
    """
    embedding = cast(nn.Embedding, model.get_input_embeddings())
    device, count = embedding.weight.device, embedding.num_embeddings
    # Two rows of two texts that share the second text's start alone.
    rows = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 4, 9]], device=device) % count
    places = torch.tensor([[0, 1, 2, 0, 1]], device=device).expand(2, -1)

    def differences(tokens: Tensor, **inputs: Tensor) -> Tensor:
        """How far the two rows' features are apart, at each place."""
        base = model.base_model(tokens, use_cache=False, **inputs)
        first, second = base.last_hidden_state.float()
        difference: Tensor = (first - second).abs().amax(dim=1)
        return difference

    # What rounding makes is small beside the difference that other tokens make.
    negligible = torch.finfo(model.dtype).eps ** 0.5
    alone = differences(rows[:, 3:])
    if alone[0] > negligible * alone[1]:
        raise refuse(
            "model",
            name,
            f"a {model.config.model_type} looks at later tokens; choose a decoder",
        )
    try:
        apart = differences(rows, position_ids=places)
    except TypeError:  # it takes no positions
        return _has_plain_head(model, rows[:1]), False, False
    keeps_apart = bool(apart[3] <= negligible * differences(rows)[3])
    shares = keeps_apart and _looks_everywhere(model.config) and _shares_start(model, rows[:1])
    return _has_plain_head(model, rows[:1]), keeps_apart, shares


def _shares_start(model: PreTrainedModel, tokens: Tensor) -> bool:
    """Whether two texts of a row, ``(1, 5)``, can begin with the same tokens of it."""
    position_ids = torch.tensor([[0, 1, 2, 1, 2]], device=tokens.device)
    segment_ids = torch.tensor([[0, 0, 0, 1, 1]], device=tokens.device)
    mask = attention_mask(model, packed_causal_mask(segment_ids, shared_prefix_len=1))
    options = {"use_cache": False, "position_ids": position_ids, "attention_mask": mask}
    together = model.base_model(tokens, **options).last_hidden_state[:, 3:]
    second = tokens[:, [0, 3, 4]]
    alone = model.base_model(second, use_cache=False).last_hidden_state[:, 1:]
    difference = (together - alone).abs().max() / alone.abs().max()
    return bool(difference <= torch.finfo(model.dtype).eps ** 0.5)


def attention_mask(model: PreTrainedModel, allowed: Tensor) -> Tensor:
    """Return what a model takes for which tokens each token looks at, ``(B, 1, T, T)``."""
    if attention_implementation(model.config) == "sdpa":
        return allowed
    bias = torch.zeros_like(allowed, dtype=model.dtype)
    return bias.masked_fill(~allowed, torch.finfo(model.dtype).min)


def _looks_everywhere(config: PreTrainedConfig) -> bool:
    """Whether a mask of one's own is all that limits what a token looks at."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not getattr(text, "sliding_window", None)


def _has_plain_head(model: PreTrainedModel, tokens: Tensor) -> bool:
    """Whether logits are what the output layer makes of the base's features, and no more."""
    layer = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(layer, nn.Linear):
        return False
    seen: list[Tensor] = []

    def enlarge(_: nn.Module, __: Any, output: Any) -> Any:
        # Large ones, so that a cap shows.
        output.last_hidden_state = 100 * output.last_hidden_state
        seen.append(output.last_hidden_state)
        return output

    handle = model.base_model.register_forward_hook(enlarge)
    try:
        logits = model(tokens, use_cache=False).logits
    finally:
        handle.remove()
    # Some, OPT say, do not call their base as a whole: nothing is known then.
    return bool(seen) and torch.allclose(logits.float(), layer(seen[0]).float(), rtol=1e-3)


def fingerprint(folder: Path) -> bytes:
    """Return a hash over some values of each tensor in a model's files."""
    from safetensors import safe_open

    digest = hashlib.sha256()
    for file, names in _tensors(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in names or sorted(tensors.keys()):
                part = tensors.get_slice(name)
                shape = part.get_shape()
                first = part[:1] if shape else tensors.get_tensor(name).reshape(1)
                values = first.flatten()[:_VALUES_HASHED].float()
                digest.update(f"{name} {shape}".encode() + values.numpy().tobytes())
    return digest.digest()


def _tensors(folder: Path) -> Iterator[tuple[Path, list[str] | None]]:
    """Return the files of a model's weights, each with the names of its tensors.

    Or None for all.
    """
    whole = folder / "model.safetensors"
    if whole.is_file():
        yield whole, None
        return
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    files: dict[str, list[str]] = {}
    for name, file in sorted(index["weight_map"].items()):
        files.setdefault(file, []).append(name)
    for file in sorted(files):
        yield folder / file, files[file]
