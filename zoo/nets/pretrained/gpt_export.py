"""GPT's weights as a model of the transformers library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datamodules.core.errors import UserError, refuse

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from zoo.nets.gpt import GPT


def to_transformers(net: GPT) -> PreTrainedModel:
    """Return the same net as a model of transformers: GPT-2, Llama or Qwen3.

    Raises:
        UserError: If no model of these has the net's parts.
    """
    parts = net.parts
    model: PreTrainedModel
    if parts[:5] == ("layer", "learned", "gelu", False, True):
        model = _gpt2(net)
    elif parts[:3] == ("rms", "rotary", "swiglu") and not parts.bias:
        model = _llama(net)
    else:
        raise UserError(
            "transformers has this net neither as GPT-2 (norm layer, positions learned, activation "
            "gelu, bias, no qk_norm) nor as Llama or Qwen3 (norm rms, positions rotary, activation "
            f"swiglu, no bias), and it has norm {parts.norm}, positions {parts.positions}, "
            f"activation {parts.activation}, qk_norm {parts.qk_norm}, bias {parts.bias}"
        )
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _gpt2(net: GPT) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    block: Any = net.blocks[0]
    if block.attention.num_kv_heads != block.attention.num_heads:
        remedy = "GPT-2 has as many as num_heads; choose a net of layout 'llama'"
        raise refuse("num_kv_heads", block.attention.num_kv_heads, remedy)
    config = GPT2Config(
        vocab_size=net.vocab_size,
        n_positions=net.max_length,
        n_embd=net.embedding.embedding_dim,
        n_layer=len(net.blocks),
        n_head=block.attention.num_heads,
        n_inner=block.feedforward.out.in_features,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=net.parts.tie_embeddings,
        bos_token_id=None,
        eos_token_id=None,
    )
    assert net.position is not None
    state = {
        "transformer.wte.weight": net.embedding.weight,
        "transformer.wpe.weight": net.position.weight,
        "lm_head.weight": net.head.weight,
    }
    renamed = {
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attention.qkv": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "feedforward.first": "mlp.c_fc",
        "feedforward.out": "mlp.c_proj",
    }
    for number, layer in enumerate(net.blocks):
        for ours, theirs in renamed.items():
            module: Any = layer.get_submodule(ours)
            name = f"transformer.h.{number}.{theirs}"
            # GPT-2's linear layers keep their matrices the other way round.
            state[f"{name}.weight"] = module.weight.T if module.weight.ndim == 2 else module.weight
            state[f"{name}.bias"] = module.bias
    last: Any = net.norm
    state |= {"transformer.ln_f.weight": last.weight, "transformer.ln_f.bias": last.bias}
    return _filled(GPT2LMHeadModel(config), state)


def _llama(net: GPT) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    block: Any = net.blocks[0]
    attention = block.attention
    options = {
        "vocab_size": net.vocab_size,
        "max_position_embeddings": net.max_length,
        "hidden_size": net.embedding.embedding_dim,
        "intermediate_size": block.feedforward.out.in_features,
        "num_hidden_layers": len(net.blocks),
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "rms_norm_eps": net.norm.eps,
        "rope_theta": net.rotary_base,
        "tie_word_embeddings": net.parts.tie_embeddings,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    model: Any
    if net.parts.qk_norm:
        model = Qwen3ForCausalLM(Qwen3Config(**options))
    else:
        model = LlamaForCausalLM(LlamaConfig(**options))
    last: Any = net.norm
    state = {
        "model.embed_tokens.weight": net.embedding.weight,
        "model.norm.weight": last.weight,
        "lm_head.weight": net.head.weight,
    }
    for number, layer in enumerate(net.blocks):
        each: Any = layer
        heads = (attention.num_heads, attention.num_kv_heads, attention.num_kv_heads)
        sizes = [count * attention.head_dim for count in heads]
        query, key, value = each.attention.qkv.weight.split(sizes)
        gate, up = each.feedforward.first.weight.chunk(2)
        own = {
            "input_layernorm": each.norm1.weight,
            "post_attention_layernorm": each.norm2.weight,
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": each.attention.out.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": each.feedforward.out.weight,
        }
        if net.parts.qk_norm:
            own["self_attn.q_norm"] = each.attention.q_norm.weight
            own["self_attn.k_norm"] = each.attention.k_norm.weight
        state |= {f"model.layers.{number}.{name}.weight": tensor for name, tensor in own.items()}
    return _filled(model, state)


def _filled(model: Any, state: dict[str, Tensor]) -> Any:
    """Return the model with copies of some weights, which have to be all of its own."""
    with torch.no_grad():
        model.load_state_dict({name: tensor.detach().clone() for name, tensor in state.items()})
    return model
