"""What `slotmux inspect` tells of the memory of published models, from files of their shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.tokenizer.pretokenize import pre_tokenizer
from slotmux.server.loading.plan import make_plan
from slotmux.server.settings import Settings
from tests.server.loading.published import (
    ATTENTION,
    BIASED,
    FUSED,
    OWN_HEAD_NORMS,
    PLAIN,
    SWIGLU,
    Published,
    norms,
    write,
)

PARALLEL = (ATTENTION, OWN_HEAD_NORMS, SWIGLU, norms("attn_norm", has_bias=True))
FALCON_40B = (FUSED, PLAIN, norms("attn_norm", "attn_norm_2", has_bias=True))
MODELS = (
    Published("OLMo-2-7B", "olmo2", 7.30, 32, 4096, 11008, 32, 32, 100352),
    Published("Olmo-3-7B", "olmo2", 7.30, 32, 4096, 11008, 32, 32, 100278,
              keys={"attention.sliding_window": 4096}),
    Published("gemma-2-9b", "gemma2", 9.24, 42, 3584, 14336, 16, 8, 256000, 256, is_tied=True,
              keys={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}),
    Published("GLM-4-9B-0414", "glm4", 9.40, 40, 4096, 13696, 32, 2, 151552, 128,
              keys={"rope.dimension_count": 64}),
    Published("Ministral-3-8B", "mistral3", 8.49, 34, 4096, 14336, 32, 8, 131072, 128,
              keys={"attention.temperature_scale": 0.1}),
    Published("Seed-OSS-36B", "seed_oss", 36.15, 64, 5120, 27648, 80, 8, 155136, 128),
    Published("Hunyuan-7B", "hunyuan-dense", 7.50, 32, 4096, 14336, 32, 8, 128167, 128,
              is_tied=True),
    Published("EXAONE-4.0-32B", "exaone4", 32.0, 64, 5120, 27392, 40, 8, 102400),
    Published("EXAONE-4.0-1.2B", "exaone4", 1.28, 30, 2048, 4096, 32, 8, 102400, is_tied=True),
    Published("c4ai-command-r-v01", "command-r", 35.0, 40, 8192, 22528, 64, 64, 256000,
              is_tied=True),
    Published("c4ai-command-r-plus", "command-r", 103.8, 64, 12288, 33792, 96, 8, 256000,
              is_tied=True, parts=(ATTENTION, OWN_HEAD_NORMS, SWIGLU, norms("attn_norm"))),
    Published("c4ai-command-r7b", "cohere2", 8.03, 32, 4096, 14336, 32, 8, 256000, is_tied=True,
              keys={"attention.sliding_window": 4096}),
    Published("starcoder2-7b", "starcoder2", 7.17, 32, 4608, 18432, 36, 4, 49152, is_tied=True),
    Published("stablelm-2-1_6b", "stablelm", 1.64, 24, 2048, 5632, 32, 32, 100352,
              keys={"rope.dimension_count": 16}),
    Published("stablelm-2-12b", "stablelm", 12.1, 40, 5120, 13824, 32, 8, 100352, parts=PARALLEL,
              keys={"rope.dimension_count": 40}),
    Published("internlm2-7b", "internlm2", 7.74, 32, 4096, 14336, 32, 8, 92544),
    Published("MiniCPM-2B", "minicpm", 2.72, 40, 2304, 5760, 36, 36, 122753, is_tied=True),
    Published("AFM-4.5B", "arcee", 4.62, 36, 2560, 18432, 20, 4, 128004),
    Published("Apertus-8B", "apertus", 8.05, 32, 4096, 21504, 32, 8, 131072),
    Published("Qwen2-VL-7B", "qwen2vl", 7.62, 28, 3584, 18944, 28, 4, 152064),
    Published("Qwen3-VL-8B", "qwen3vl", 8.19, 36, 4096, 12288, 32, 8, 151936, 128),
    Published("pythia-6.9b", "gptneox", 6.86, 32, 4096, 16384, 32, 32, 50432,
              keys={"rope.dimension_count": 32}),
    Published("falcon-7b", "falcon", 6.92, 32, 4544, 18176, 71, 1, 65024, is_tied=True),
    Published("falcon-40b", "falcon", 41.3, 60, 8192, 32768, 128, 8, 65024, is_tied=True,
              parts=FALCON_40B),
    Published("gpt2", "gpt2", 0.1244, 12, 768, 3072, 12, 12, 50257, is_tied=True),
    Published("bitnet_b1_58-3B", "bitnet", 3.32, 26, 3200, 8640, 32, 32, 32002, is_tied=True),
    Published("ERNIE-4.5-0.3B", "ernie4_5", 0.36, 18, 1024, 3072, 16, 2, 103424, 128,
              is_tied=True),
    Published("Nemotron-Mini-4B", "nemotron", 4.19, 32, 3072, 9216, 24, 8, 256000, 128,
              parts=(ATTENTION, PLAIN, BIASED), keys={"rope.dimension_count": 64}),
)  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_memory_of_a_published_shape(model: Published, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    n_params = write(model, path)
    assert n_params == pytest.approx(model.n_params * 1e9, rel=0.01)
    settings = Settings(ctx_size=1024, parallel=2)
    budget = make_plan(settings, open_gguf(path)).budget
    # 34 bytes for 32 weights; whole panels of 16 rows, and a panel's block may have a few more.
    assert budget.weights_bytes == pytest.approx(n_params * 34 / 32, rel=0.03)
    # Of each head a key and a value of two bytes a number, in whole vectors of 16.
    width = 2 * (model.d + -(-model.d // 16) * 16)
    assert budget.kv_bytes == budget.n_cells * model.n_layers * model.n_head_kv * width
    assert budget.state_bytes == 0


# Of their files' tokenizer.ggml.pre, where it is byte-level BPE.
PRES = (
    "dbrx glm4 chatglm-bpe tekken seed-coder hunyuan-dense hunyuan exaone4 command-r starcoder "
    "stablelm2 llama-bpe qwen2 olmo gpt-2 falcon"
)


@pytest.mark.parametrize("name", PRES.split())
def test_the_pre_tokenizers_of_these_families_are_known(name: str) -> None:
    assert pre_tokenizer(name) is not None
