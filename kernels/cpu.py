"""Which instruction set the kernels are compiled for, and for which CPU. Reads no environment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llvmlite import binding as llvm


class Isa(StrEnum):
    """How dot products are computed; everything else is generic vector code."""

    AVX512_BF16 = "avx512bf16"  # and vdpbf16ps: BF16 weights times activations rounded to BF16
    AVX512_VBMI = "avx512vbmi"  # vpdpbusd on 512-bit registers, and tables within registers
    AVX512_VNNI = "avx512vnni"  # vpdpbusd on 512-bit registers
    AVX_VNNI = "avxvnni"  # vpdpbusd on 256-bit registers
    AVX2 = "avx2"  # vpmaddubsw + vpmaddwd
    PORTABLE = "portable"  # no CPU-specific intrinsic

    @property
    def is_avx512(self) -> bool:
        """Whether vectors are registers of 512 bits."""
        return self in (Isa.AVX512_BF16, Isa.AVX512_VBMI, Isa.AVX512_VNNI)

    @property
    def has_vbmi(self) -> bool:
        """Whether bytes are permuted across whole registers."""
        return self in (Isa.AVX512_BF16, Isa.AVX512_VBMI)


@dataclass(frozen=True, slots=True)
class Cpu:
    """A compilation target: LLVM's CPU name, its feature string, and the path chosen."""

    name: str
    features: str
    isa: Isa


_VNNI = ("avx512f", "avx512bw", "avx512vl", "avx512vnni")
_NEEDED = {
    Isa.AVX512_BF16: (*_VNNI, "avx512vbmi", "avx512bf16"),
    Isa.AVX512_VBMI: (*_VNNI, "avx512vbmi"),
    Isa.AVX512_VNNI: _VNNI,
    Isa.AVX_VNNI: ("avx2", "fma", "f16c"),
    Isa.AVX2: ("avx2", "fma", "f16c"),
    Isa.PORTABLE: (),
}


def _available(features: dict[str, bool], isa: Isa) -> bool:
    has_vnni256 = features.get("avxvnni") or (
        features.get("avx512vnni") and features.get("avx512vl")
    )
    if isa is Isa.AVX_VNNI and not has_vnni256:
        return False
    return all(features.get(f, False) for f in _NEEDED[isa])


def detect_cpu(isa: str = "auto") -> Cpu:
    """The host CPU with the fastest path it has, or the path named by ``isa``.

    A slower path also leaves out the registers that such a CPU would not have, so that it is the
    code of that CPU which runs (not so for avxvnni on a CPU that has its instruction only with
    AVX-512's encoding). Raises ValueError when the host lacks what ``isa`` needs.
    """
    features = dict(llvm.get_host_cpu_features())
    usable = [i for i in Isa if _available(features, i)]
    if isa == "auto":
        chosen = usable[0]
    elif isa in tuple(Isa):
        chosen = Isa(isa)
        if chosen not in usable:
            raise ValueError(f"isa: this CPU lacks what {isa!r} needs ({_NEEDED[chosen]})")
    else:
        raise ValueError(f"isa: {isa!r} is none of auto, {', '.join(Isa)}")
    if chosen in (Isa.AVX512_VBMI, Isa.AVX512_VNNI):
        features["avx512bf16"] = False
    if chosen is Isa.AVX512_VNNI:
        features["avx512vbmi"] = False
    has_vex_vnni = features.get("avxvnni", False)
    if chosen is Isa.AVX2 or (chosen is Isa.AVX_VNNI and has_vex_vnni):
        for name in features:
            if name.startswith("avx512") or (name == "avxvnni" and chosen is Isa.AVX2):
                features[name] = False
    flags = ",".join(("+" if on else "-") + name for name, on in sorted(features.items()))
    return Cpu(llvm.get_host_cpu_name(), flags, chosen)
