"""A Llama of random weights with a tokenizer of its own, made offline: for engines, what it says does not matter.

    python tiny_model.py FOLDER

writes model.gguf, for llama.cpp, and the model.safetensors, config.json and tokenizer files of a model folder, for the
others.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gguf
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "tiny/random-llama"
SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] or '' }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Shape(NamedTuple):
    """Large enough that a token takes milliseconds on a CPU, small enough to be made in seconds."""

    vocabulary: int = 4_096
    hidden: int = 384
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    feed_forward: int = 1_024
    context: int = 16_384
    seed: int = 20_260_612


_FOLDER_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
"""What a model folder calls the tensors of a GGUF file."""


def train_tokenizer(shape: Shape) -> Any:
    """Train a byte-level BPE on Python's own sources, which every machine has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(path) for path in sources], trainer)
    return tokenizer


def weights(shape: Shape, vocabulary: int) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the tensors by the names that llama.cpp gives them."""
    random = np.random.default_rng(shape.seed)
    head = shape.hidden // shape.heads

    def matrix(rows: int, columns: int) -> np.ndarray[Any, Any]:
        return (random.standard_normal((rows, columns)) * 0.02).astype(np.float16)

    ones = np.ones(shape.hidden, np.float32)
    yield "token_embd.weight", matrix(vocabulary, shape.hidden)
    yield "output_norm.weight", ones
    yield "output.weight", matrix(vocabulary, shape.hidden)
    for layer in range(shape.layers):
        sizes = {
            "attn_q": (shape.heads * head, shape.hidden),
            "attn_k": (shape.kv_heads * head, shape.hidden),
            "attn_v": (shape.kv_heads * head, shape.hidden),
            "attn_output": (shape.hidden, shape.heads * head),
            "ffn_gate": (shape.feed_forward, shape.hidden),
            "ffn_up": (shape.feed_forward, shape.hidden),
            "ffn_down": (shape.hidden, shape.feed_forward),
        }
        for name, size in sizes.items():
            yield f"blk.{layer}.{name}.weight", matrix(*size)
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{name}.weight", ones


def write_gguf(path: Path, shape: Shape, tokenizer: Any) -> None:
    """Write the model as one GGUF file."""
    trained = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(trained["vocab"], key=trained["vocab"].__getitem__)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(NAME)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in trained["merges"]])
    writer.add_bos_token_id(trained["vocab"]["<|bos|>"])
    writer.add_eos_token_id(trained["vocab"]["<|im_end|>"])
    writer.add_pad_token_id(trained["vocab"]["<|pad|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in weights(shape, len(tokens)):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def folder_name(name: str) -> str:
    """Return what a model folder calls a tensor; `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`."""
    *layer, tensor, kind = name.split(".")
    prefix = f"model.layers.{layer[1]}." if layer else ""
    return f"{prefix}{_FOLDER_NAMES[tensor]}.{kind}"


def write_folder(folder: Path, shape: Shape, tokenizer: Any) -> None:
    """Write what engines read of a model folder."""
    ids = json.loads(tokenizer.to_str())["model"]["vocab"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(ids),
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden // shape.heads,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": ids["<|bos|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|pad|>"],
        "torch_dtype": "float16",
    }
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|pad|>",
        "model_max_length": shape.context,
        "chat_template": TEMPLATE,
    }
    generation = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # In another order within a head than in a GGUF file, which random weights do not mind.
    tensors = {folder_name(name): tensor for name, tensor in weights(shape, len(ids))}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (
        ("config.json", config),
        ("tokenizer_config.json", described),
        ("generation_config.json", generation),
    ):
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def make(folder: Path, shape: Shape | None = None) -> Path:
    """Make the whole folder, unless it is there."""
    shape = shape or Shape()
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "made"
    if not done.exists():
        tokenizer = train_tokenizer(shape)
        write_folder(folder, shape, tokenizer)
        write_gguf(folder / "model.gguf", shape, tokenizer)
        done.write_text("", encoding="utf-8")
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
