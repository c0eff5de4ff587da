"""A language model as transformers saves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.core.errors import refuse
from zoo.errors import UserError
from zoo.export.folder import fresh_folder
from zoo.export.source import Source
from zoo.nets.protocols import LimitsLength

if TYPE_CHECKING:  # takes seconds to import
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from zoo.tasks.base import Task


def to_hf(source: Source, data: Any, out: Path) -> None:
    """Write a language model as transformers saves it.

    Args:
        source: What is exported.
        data: What reads its prompts.
        out: The folder, which must not hold anything.

    Raises:
        UserError: If the checkpoint is not a language model's, or the folder cannot be written.
    """
    model = to_transformers_model(source.task)
    if data is None or "tokenizer" not in source.spec.get("init_args", {}):
        raise refuse(
            "ckpt_path",
            str(source.path),
            "it holds no tokenizer, without which the exported model could not be used: train with "
            "a data module of the zoo",
        )
    net = source.task.net
    longest = net.max_length if isinstance(net, LimitsLength) else None
    model.generation_config.eos_token_id = data.stop_ids or None
    model.generation_config.pad_token_id = model.config.pad_token_id = data.pad_id
    with fresh_folder(out) as folder:
        model.save_pretrained(folder)
        _fast(data, longest).save_pretrained(folder, save_jinja_files=False)
        _rename_tokenizer(folder / "tokenizer_config.json")
        parameters = sum(parameter.numel() for parameter in model.parameters())
        made = source.card(
            "", library="transformers", net=type(model).__name__, parameters=parameters
        )
        made.save(folder / "README.md")


def to_transformers_model(task: Task) -> PreTrainedModel:
    """Return the net as transformers has it.

    Raises:
        UserError: If it has no such.
    """
    from zoo.nets import GPT, PretrainedCausalLM
    from zoo.nets.pretrained.gpt_export import to_transformers

    net = task.net
    if not isinstance(net, GPT | PretrainedCausalLM):
        raise UserError(
            f"transformers has no form for {type(net).__name__}; GPT and PretrainedCausalLM can be "
            "exported"
        )
    try:
        return to_transformers(net) if isinstance(net, GPT) else net.to_transformers()
    except ValueError as error:
        raise UserError(f"this net cannot be exported: {error}") from error


def _fast(data: Any, longest: int | None) -> PreTrainedTokenizerFast:
    """Return the data's tokenizer as transformers has it."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    known = data.text_tokenizer
    tokenizer = Tokenizer.from_str(known.json)
    tokenizer.no_padding()
    end = known.token(data.stop_ids[0]) if data.stop_ids else known.end_token
    options = {"chat_template": data.chat_template, "model_max_length": longest}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token=known.token(data.pad_id),
        clean_up_tokenization_spaces=False,
        **{name: value for name, value in options.items() if value is not None},
    )


def _rename_tokenizer(path: Path) -> None:
    """Name the tokenizer's class as transformers 4 knows it, too."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
