"""Pretrained encoders of the Hugging Face hub, as text classifiers."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import refuse
from datamodules.core.hub import find_model
from zoo.nets.checks import check_positive, check_rate, check_text_counts
from zoo.nets.layers.lora import Targets, add_lora, is_added
from zoo.nets.layers.pooling import cut_padding, prepare_texts
from zoo.nets.pretrained.hf import (
    check_installed,
    errors_alone,
    head_names,
    read_architecture,
    recompute_layers,
    warn_of_missing,
    write_architecture,
)
from zoo.nets.pretrained.torchvision_weights import amend_record, first_line

if TYPE_CHECKING:  # imported when an encoder is built: they take seconds, and other nets need none
    from transformers import PreTrainedModel


class PretrainedEncoder(nn.Module, PyTorchModelHubMixin, pipeline_tag="text-classification"):
    """An encoder of the Hugging Face hub with a new last layer, wholly trained or by LoRA.

    Token ids ``(B, T)`` of the encoder's own tokenizer become logits ``(B, num_classes)``. The
    encoder is that of ``transformers.AutoModelForSequenceClassification``: BERT (arXiv 1810.04805),
    RoBERTa, DistilBERT, ELECTRA, DeBERTa and others. A head in the file with the same number of
    classes is kept; another starts afresh.

    Only safetensors files are read, and no code of the hub is run. What the hub's cache has is read
    from there, without a look at the network.

    LoRA (Hu et al., arXiv 2106.09685) adds ``alpha / rank * B A x`` to what linear layers give,
    with matrices of a low rank, and trains these and the head alone. It is peft's; the paper adapts
    the attention's queries and values only, which is ``lora_targets: [query, value]`` for BERT.

    The constructor's arguments are recorded together with the encoder's configuration
    (``architecture``), so that a net whose own weights follow from a checkpoint is rebuilt without
    the hub or the folder that it came from.

    Args:
        name: A model's name on the hub, such as ``klue/roberta-small``, or the path of a local
            folder with ``config.json`` and ``model.safetensors``.
        num_classes: Number of classes.
        pad_id: Id of the padding token in the batches.
        vocab_size: Number of tokens of the data's tokenizer, to check that the encoder has them.
        max_length: Tokens of the data's longest text, to check that the encoder has positions for
            them.
        lora: Whether to train by LoRA.
        lora_rank: Rank of the added matrices.
        lora_alpha: Their scale, over the rank.
        lora_dropout: Probability of dropping a feature before them.
        lora_targets: Names of the layers that get them, whole or from a dot on; ``all-linear`` for
            all linear layers but the head's.
        gradient_checkpointing: Whether layers are computed anew on the way back, which takes a
            third more time and a fraction of the memory (arXiv 1604.06174).
        architecture: Recorded by the net: the encoder's configuration as JSON. With it nothing is
            loaded and weights start at random. Leave it out.

    Raises:
        ValueError: If an option's value does not fit, or weights are pickled.
        OptionError: If the encoder's files cannot be read.
    """

    #: Names of the modules that end in logits; all others are the backbone.
    head_names: tuple[str, ...]
    model: PreTrainedModel

    def __init__(
        self,
        name: str,
        num_classes: int = 2,
        *,
        pad_id: int = 0,
        vocab_size: int | None = None,
        max_length: int | None = None,
        lora: bool = False,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        lora_dropout: float = 0.0,
        lora_targets: Targets = "all-linear",
        gradient_checkpointing: bool = False,
        architecture: str | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.pad_id = pad_id
        check_text_counts(pad_id + 1 if vocab_size is None else vocab_size, num_classes, pad_id)
        check_positive(lora_rank=lora_rank)
        check_rate("lora_dropout", lora_dropout)
        check_installed("PretrainedEncoder", "transformers", *(("peft",) if lora else ()))

        if architecture is None:
            self.model = _load(name, num_classes)
            amend_record(self, architecture=write_architecture(self.model))
        else:
            self.model = _build(architecture, num_classes)
        self.model.train()  # transformers hands it out in evaluation mode
        config = self.model.config
        if vocab_size is not None and vocab_size > config.vocab_size:
            raise refuse(
                "vocab_size",
                vocab_size,
                f"{name!r} has no more than {config.vocab_size} tokens; set the data's tokenizer "
                f"to {name!r} too",
            )
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = pad_id  # by which decoders find the last token of a text
        self.positions = _count_positions(self.model)
        if max_length is not None and max_length > (self.positions or max_length):
            raise refuse(
                "max_length",
                max_length,
                f"{name!r} has no more than {self.positions} positions; set max_length of the "
                f"data to {self.positions} or less",
            )
        self.head_names = head_names(self.model)
        if gradient_checkpointing:
            recompute_layers(self.model)
        if lora:
            add_lora(
                self.model,
                "the encoder",
                rank=lora_rank,
                alpha=lora_alpha,
                dropout=lora_dropout,
                targets=lora_targets,
            )
            for parameter_name, parameter in self.named_parameters():
                in_head = _part_of(parameter_name, self.head_names) is not None
                parameter.requires_grad_(is_added(parameter_name) or in_head)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Classify texts.

        Args:
            tokens: Token ids ``(B, T)``, padded on the right.
            lengths: Tokens of each text ``(B,)``; by default the count of those that are not
                padding.

        Returns:
            Logits ``(B, num_classes)``.

        Raises:
            ValueError: If a text is longer than the encoder's positions reach.
        """
        texts = prepare_texts(tokens, lengths, self.pad_id)
        if self.positions is not None:
            texts = cut_padding(
                texts,
                self.positions,
                reason=f"the encoder's positions end at {self.positions}",
                advice=f"set max_length of the data to {self.positions} or less",
            )
        # RoBERTa and decoders look for padding in the ids themselves, and know it by their own id.
        padding = self.model.config.pad_token_id
        ids = texts.tokens.masked_fill(~texts.mask, padding)
        logits: Tensor = self.model(input_ids=ids, attention_mask=texts.mask.long()).logits
        return logits

    def layer_depths(self) -> dict[str, int]:
        """How deep each part of the net is, for learning rates that fall layer by layer.

        With a decay ``d`` the learning rate of a part is ``lr * d^(deepest - depth)``: the head
        learns at ``lr`` and what is closer to the tokens more slowly (Howard & Ruder, arXiv
        1801.06146, "discriminative fine-tuning"; Sun et al., arXiv 1905.05583).

        Returns:
            For the start of parameters' names the depth: 0 for embeddings, 1 to N for the layers,
            and N + 1 for what follows them and the head. A parameter belongs to an entry if its
            name is the entry or goes on with a dot; each parameter belongs to one.
        """
        stack = _find_layers(self.model)
        last = 1 + len(stack)
        depths: dict[str, int] = {}
        passed = False
        for name, _ in self.named_parameters():
            if (head := _part_of(name, self.head_names)) is not None:
                depths[head] = last
            elif (layer := _part_of(name, stack)) is not None:
                depths[layer] = 1 + stack.index(layer)
                passed = True
            else:
                depths[name] = last if passed else 0
        return depths


def _part_of(name: str, parts: Iterable[str]) -> str | None:
    """Return the module of these that a parameter lies in."""
    return next((part for part in parts if name.startswith(f"{part}.")), None)


def _find_layers(model: PreTrainedModel) -> list[str]:
    """Names of an encoder's layers, from the tokens up: those of its longest list."""
    base = model.base_model_prefix
    lists = {
        name: len(module)
        for name, module in getattr(model, base).named_modules(prefix=f"model.{base}")
        if isinstance(module, nn.ModuleList)
    }
    # Layers may hold lists in turn, of experts say.
    outermost = [name for name in lists if _part_of(name, lists) is None]
    if not outermost:
        return []
    longest = max(outermost, key=lists.__getitem__)
    return [f"{longest}.{index}" for index in range(lists[longest])]


def _count_positions(model: PreTrainedModel) -> int | None:
    """Tokens of the longest text that an encoder takes; None where there is no limit."""
    count = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(count, int) or count < 1:
        return None
    embeddings = getattr(getattr(model, model.base_model_prefix), "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    offset = getattr(table, "padding_idx", None)
    # RoBERTa counts positions from behind the one that its padding has.
    return count if offset is None else count - offset - 1


def _load(name: str, num_classes: int) -> PreTrainedModel:
    """Return the pretrained encoder, from a folder, the hub's cache or the hub.

    Raises:
        OptionError: If there is none of that name, or its weights are pickled.
        OptionError: If it cannot be read.
    """
    from transformers import AutoModelForSequenceClassification

    folder = find_model(name, option="name", with_tokenizer=False)
    try:
        # else a table that says, mostly, that the head is new
        with errors_alone(bars=sys.stderr.isatty()):
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder,
                output_loading_info=True,
                num_labels=num_classes,
                dtype=torch.float32,  # whatever the file's
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # a head for another number of classes
                local_files_only=True,
            )
    except Exception as error:  # a damaged file raises nearly anything
        raise refuse(
            "name",
            name,
            f"it could not be loaded as a text classifier ({first_line(error)}); give an encoder "
            "that transformers' AutoModelForSequenceClassification knows, whole",
        ) from None
    lacks = [key for key in report["missing_keys"] if key.startswith(f"{model.base_model_prefix}.")]
    warn_of_missing(f"name {name!r}", lacks)
    encoder: PreTrainedModel = model
    return encoder


def _build(architecture: str, num_classes: int) -> PreTrainedModel:
    """Return the encoder of that configuration, with random weights.

    Raises:
        ValueError: If it is no configuration.
    """
    from transformers import AutoModelForSequenceClassification

    try:
        config = read_architecture(architecture)
        config.num_labels = num_classes
        make = AutoModelForSequenceClassification.from_config
        model: PreTrainedModel = make(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32, trust_remote_code=False
        )
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(
            f"architecture is no configuration of an encoder ({first_line(error)}); leave it out: "
            "the net records its own"
        ) from None
    return model
