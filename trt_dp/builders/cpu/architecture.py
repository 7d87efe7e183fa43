"""Which models can be built: a config is either understood in full or refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trt_dp.builders.cpu import rope
from trt_dp.builders.cpu.refuse import refuse

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")

Count = Annotated[int, Meta(ge=1)]

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "attention_multiplier": (None,),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "logit_softcapping": (None,),
    "query_pre_attn_scalar": (None,),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
    "residual_multiplier": (None, 1),
    "embedding_multiplier": (None, 1),
    "scale_emb": (None, 1),
    "scale_depth": (None,),
    "dim_model_base": (None,),
    "partial_rotary_factor": (None, 1),
    "rotary_pct": (None, 1),
    "clip_qkv": (None,),
    "alibi": (None, False),
    "use_qk_norm": (None, False),
    "no_rope_layers": (None,),
    "attention_chunk_size": (None,),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
    "quantization_config": (None,),
    "compression_config": (None,),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
}
"""Keys that change what a model computes, with the values under which they do not."""


class _Config(Struct, frozen=True):
    """The keys of config.json that are read here, as transformers understands them."""

    model_type: str
    vocab_size: Count
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    max_position_embeddings: Count
    num_key_value_heads: Count | UnsetType | None = UNSET
    head_dim: Count | UnsetType | None = UNSET
    rms_norm_eps: Annotated[float, Meta(gt=0, lt=1)] = 1e-6
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False
    attention_bias: bool | None = False
    mlp_bias: bool | None = False
    architectures: list[str] | None = None
    sliding_window: Count | UnsetType | None = UNSET
    use_sliding_window: bool | None = False
    max_window_layers: Annotated[int, Meta(ge=0)] | None = 28
    layer_types: list[str] | None = None


class Architecture(Struct, frozen=True):
    """Everything that a model's graph depends on, besides its weights."""

    family: str
    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    positions: int
    epsilon: float
    tied: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    rope: rope.Rope


def read(config: Mapping[str, Any]) -> Architecture:
    """The architecture a config describes; raises UsageError for one that cannot be built exactly."""
    _check_family(config)
    _check_neutral(config)
    try:
        raw = msgspec.convert(dict(config), _Config)
    except msgspec.ValidationError as error:
        refuse(f"config.json makes no sense: {error}", "fix the config")
    _check_words(raw)
    _check_window(raw)
    return _architecture(raw, rope.read(config))


def tensors(a: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors a model is made of and their shapes, in the order in which a token meets them."""
    yield "model.embed_tokens.weight", (a.vocab, a.hidden)
    for layer in range(a.layers):
        for name, shape in _layer(a).items():
            yield f"model.layers.{layer}.{name}", shape
    yield "model.norm.weight", (a.hidden,)
    if not a.tied:
        yield "lm_head.weight", (a.vocab, a.hidden)


def _layer(a: Architecture) -> dict[str, tuple[int, ...]]:
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    norms = {"q_norm": a.head_dim, "k_norm": a.head_dim} if a.qk_norm else {}
    return {
        "input_layernorm.weight": (a.hidden,),
        **_linear("self_attn.q_proj", a.hidden, q, bias=a.qkv_bias),
        **_linear("self_attn.k_proj", a.hidden, kv, bias=a.qkv_bias),
        **_linear("self_attn.v_proj", a.hidden, kv, bias=a.qkv_bias),
        **{f"self_attn.{name}.weight": (size,) for name, size in norms.items()},
        **_linear("self_attn.o_proj", q, a.hidden, bias=a.output_bias),
        "post_attention_layernorm.weight": (a.hidden,),
        **_linear("mlp.gate_proj", a.hidden, a.intermediate, bias=a.mlp_bias),
        **_linear("mlp.up_proj", a.hidden, a.intermediate, bias=a.mlp_bias),
        **_linear("mlp.down_proj", a.intermediate, a.hidden, bias=a.mlp_bias),
    }


def _linear(name: str, inputs: int, outputs: int, *, bias: bool) -> dict[str, tuple[int, ...]]:
    weight: dict[str, tuple[int, ...]] = {f"{name}.weight": (outputs, inputs)}
    return weight | ({f"{name}.bias": (outputs,)} if bias else {})


def _architecture(raw: _Config, positions: rope.Rope) -> Architecture:
    family, heads = raw.model_type, raw.num_attention_heads
    wide = family in {"llama", "qwen3"} and bool(raw.attention_bias)
    return Architecture(
        family=family,
        vocab=raw.vocab_size,
        hidden=raw.hidden_size,
        intermediate=raw.intermediate_size,
        layers=raw.num_hidden_layers,
        heads=heads,
        kv_heads=_kv_heads(raw),
        head_dim=_head_dim(raw),
        positions=raw.max_position_embeddings,
        epsilon=raw.rms_norm_eps,
        tied=raw.tie_word_embeddings,
        qkv_bias=wide or family == "qwen2",
        output_bias=wide,
        mlp_bias=family == "llama" and bool(raw.mlp_bias),
        qk_norm=family == "qwen3",
        rope=positions,
    )


def _kv_heads(raw: _Config) -> int:
    given = raw.num_key_value_heads
    if given is UNSET and raw.model_type != "llama":
        refuse("config.json has no num_key_value_heads", "fix the config")
    heads = raw.num_attention_heads
    kv_heads = given if isinstance(given, int) else heads
    if heads % kv_heads:
        refuse(f"{heads} heads cannot share {kv_heads} key-value heads", "fix the config")
    return kv_heads


def _head_dim(raw: _Config) -> int:
    given = raw.head_dim
    if given is UNSET and raw.model_type == "qwen3":
        refuse("config.json has no head_dim", "fix the config")
    if not isinstance(given, int) and raw.hidden_size % raw.num_attention_heads:
        size, heads = raw.hidden_size, raw.num_attention_heads
        refuse(f"hidden_size {size} cannot be shared by {heads} heads", "fix the config")
    head_dim = given if isinstance(given, int) else raw.hidden_size // raw.num_attention_heads
    if head_dim % 2:
        refuse(f"head_dim {head_dim} is odd, which rotary positions cannot be", "fix the config")
    return head_dim


def _check_family(config: Mapping[str, Any]) -> None:
    family = config.get("model_type")
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        refuse(f"model_type {family!r} cannot be built", f"known: {known}; try --via optimum")


def _check_neutral(config: Mapping[str, Any]) -> None:
    for key, harmless in _NEUTRAL.items():
        value = config.get(key)
        if value not in harmless:
            shown = "" if isinstance(value, dict) else f" = {value!r}"
            refuse(f"config.json's {key}{shown} cannot be built", "try --via optimum")


def _check_words(raw: _Config) -> None:
    if raw.hidden_act not in {"silu", "swish"}:  # two names of one function
        refuse(f"hidden_act {raw.hidden_act!r} cannot be built", "only silu can")
    if not math.isfinite(raw.rms_norm_eps):
        refuse(f"rms_norm_eps is {raw.rms_norm_eps}", "fix the config")
    made_of = raw.architectures or ["ForCausalLM"]
    if not any(name.endswith("ForCausalLM") for name in made_of):
        refuse(
            f"{', '.join(made_of)} is not a language model", "give a checkpoint of a ...ForCausalLM"
        )


def _check_window(raw: _Config) -> None:
    """A window that no position can reach beyond changes nothing; any other one is refused."""
    named, window = _named_sliding(raw), _window(raw)
    if window is None:
        if named:
            refuse("config.json has sliding_attention layers but no window", "fix the config")
        return
    computed = raw.layer_types is None and (raw.max_window_layers or 0) < raw.num_hidden_layers
    slides = named or computed or not raw.model_type.startswith("qwen")
    if slides and window < raw.max_position_embeddings:
        text = f"sliding_window {window} of {raw.max_position_embeddings} positions cannot be built"
        refuse(text, "lower max_position_embeddings to the window if your requests fit into it")


def _window(raw: _Config) -> int | None:
    """The window in use, by the families' own defaults."""
    if raw.model_type.startswith("qwen") and not raw.use_sliding_window:
        return None
    if isinstance(raw.sliding_window, int):
        return raw.sliding_window
    default = {"llama": None}.get(raw.model_type, 4096)
    return default if raw.sliding_window is UNSET else None


def _named_sliding(raw: _Config) -> bool:
    kinds = set(raw.layer_types or ())
    for kind in sorted(kinds - {"full_attention", "sliding_attention"}):
        refuse(f"layer_types has {kind!r}, which cannot be built", "only full_attention can")
    return "sliding_attention" in kinds
