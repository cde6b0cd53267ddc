"""The one list of architectures: each line's golden model passes every common test.

A name is a folder of tests/golden, made by tools/golden: a tiny model with logits from two
implementations that are not ours. The line feeds the tests of logits, isolation, rollback,
speculation, instruction sets and whole engines; what is special about a family has a test beside.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the common tests must know of a golden model."""

    name: str
    has_state: bool = False  # recurrent layers: rollback is tested
    has_mtp: bool = False  # a block for multi-token prediction, with logits of its own from outside
    # Crowds, aborts and parking on the whole engine: one model of each kind of memory and of layer.
    is_crowded: bool = False
    lcpp_tolerance: float = 0.0  # on a logit of llama.cpp's, where the folder's own will not do
    is_right_in_llama_cpp: bool = True  # else its graph is another function than the model's


# llama.cpp looks its GELU up in a half-precision table; measured, that alone is up to 4e-3.
GELU_TABLE = 6e-3
# The same of models that are small, and cap their logits.
GELU_TABLE_SMALL = 2e-2

ARCHITECTURES = (
    Architecture("llama", is_crowded=True),
    Architecture("llama-rope3"),
    Architecture("qwen2"),
    Architecture("qwen3"),
    Architecture("qwen3moe", is_crowded=True),
    Architecture("gemma3", is_crowded=True, lcpp_tolerance=GELU_TABLE),
    Architecture("phi2", lcpp_tolerance=GELU_TABLE),
    Architecture("phi3"),
    Architecture("phimoe", is_right_in_llama_cpp=False),
    Architecture("deepseek2", is_crowded=True),
    Architecture("deepseek2-lite"),
    Architecture("glm4moelite", has_mtp=True),
    Architecture("olmo2"),
    Architecture("olmo3"),
    Architecture("gemma", lcpp_tolerance=GELU_TABLE),
    Architecture("gemma2", lcpp_tolerance=GELU_TABLE),
    Architecture("glm4"),
    Architecture("exaone4"),
    Architecture("exaone4-window"),
    Architecture("ministral3"),
    Architecture("seed_oss"),
    Architecture("hunyuan-dense"),
    Architecture("arcee"),
    Architecture("apertus"),
    Architecture("ernie4_5"),
    Architecture("internlm2"),
    Architecture("minicpm"),
    Architecture("qwen2vl"),
    Architecture("qwen3vl"),
    Architecture("bitnet"),
    Architecture("command-r"),
    Architecture("cohere2"),
    Architecture("stablelm"),
    Architecture("stablelm-parallel"),
    Architecture("starcoder2", lcpp_tolerance=GELU_TABLE),
    Architecture("gptneox", lcpp_tolerance=GELU_TABLE),
    Architecture("gptneox-sequential", lcpp_tolerance=GELU_TABLE),
    Architecture("falcon", lcpp_tolerance=GELU_TABLE),
    Architecture("falcon-40b", lcpp_tolerance=GELU_TABLE),
    Architecture("gpt2", lcpp_tolerance=GELU_TABLE),
    Architecture("nemotron"),
    Architecture("gpt-oss"),
    Architecture("gemma3n", lcpp_tolerance=0.1),  # its gates' deviation is by n - 1
    Architecture("gemma4", is_crowded=True, lcpp_tolerance=GELU_TABLE_SMALL),
    Architecture("gemma4-moe", lcpp_tolerance=GELU_TABLE_SMALL),
    Architecture("qwen2moe"),
    Architecture("qwen3vlmoe"),
    Architecture("glm4moe"),
    Architecture("dots1"),
    Architecture("ernie4_5-moe"),
    Architecture("olmoe"),
    Architecture("minimax-m2"),
    Architecture("hunyuan-moe"),
    Architecture("granite-swa"),
    Architecture("granite-swa-dense"),
    Architecture("granite-switch", has_state=True, is_crowded=True),
    Architecture("llama4"),
    Architecture("qwen35", has_state=True, has_mtp=True, is_crowded=True),
    Architecture("qwen35moe", has_state=True, has_mtp=True),
    Architecture("qwen3next", has_state=True, is_crowded=True),
    Architecture("qwen4exp", has_state=True, is_crowded=True),
    Architecture("kimi-linear", has_state=True, is_crowded=True),
    Architecture("bailingmoe3", has_state=True, has_mtp=True),
    Architecture("mamba", has_state=True, is_crowded=True),
    Architecture("mamba2", has_state=True, is_crowded=True),
    Architecture("jamba", has_state=True, is_crowded=True),
    Architecture("plamo2", has_state=True, is_crowded=True),
    Architecture("granitehybrid", has_state=True, is_crowded=True),
    Architecture("granitehybrid-moe", has_state=True),
    Architecture("bamba", has_state=True),
    Architecture("falcon-h1", has_state=True, is_crowded=True),
    Architecture("nemotron_h", has_state=True, is_crowded=True),
    Architecture("nemotron_h-moe", has_state=True),
    Architecture("nemotron_h-latent", has_state=True, has_mtp=True),
    Architecture("lfm2", has_state=True, is_crowded=True),
    Architecture("lfm2moe", has_state=True),
    Architecture("rwkv6", has_state=True, is_crowded=True),
    Architecture("rwkv7", has_state=True, is_crowded=True),
    Architecture("rwkv6qwen2", has_state=True, is_crowded=True),
    Architecture("arwkv7", has_state=True),
    Architecture("arwkv7-bare", has_state=True),
)

ALL = tuple(a.name for a in ARCHITECTURES)
WITH_STATE = tuple(a.name for a in ARCHITECTURES if a.has_state)
WITH_MTP = tuple(a.name for a in ARCHITECTURES if a.has_mtp)
CROWDED = tuple(a.name for a in ARCHITECTURES if a.is_crowded)
