"""README.md of a golden folder: where it comes from, keys, agreement, metadata, tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version

import gguf

from tools.golden.llama_source import RELEASE
from tools.golden.measured import Measured
from tools.golden.recipe import Recipe

INTRO = """\
# {name}

A tiny random-weight model of GGUF architecture `{arch}` ({n_parameters:,} parameters) with \
reference logits from two
independent implementations. The weights mean nothing; they were drawn so that every tensor and \
hyper-parameter
changes the logits visibly.

"""
FROM_TRANSFORMERS = """\
Provenance: a `{hf_class}` of transformers {transformers} (torch {torch}, float32, CPU, eager \
attention) with seeded random weights (seed {seed}),
converted by llama.cpp {llama}'s own converter to a float32 GGUF; reference logits from that \
transformers model and from
llama.cpp {llama} (CPU, float32 KV cache, flash attention off, the whole prompt in one batch). \
{note}
"""
FROM_WRITTEN = """\
Provenance: seeded random weights (seed {seed}) named and laid out as in published checkpoints of \
`{model_class}`, converted by
llama.cpp {llama}'s own converter to a float32 GGUF. transformers has no such model, so `hf*` is \
this project's own float64
PyTorch implementation of the description (torch {torch}; it agrees with llama.cpp), and `lcpp*` \
is llama.cpp {llama} (CPU, float32
KV cache, flash attention off, the whole prompt in one batch). {note}
"""
FROM_NUMPY = """\
Provenance: seeded random weights (seed {seed}) written as a float32 GGUF under llama.cpp's tensor \
names and layouts. transformers
has no such model, so `hf*` comes from this project's own float64 numpy implementation of the \
published recurrence (it agrees
with llama.cpp), and `lcpp*` from llama.cpp {llama} (CPU, flash attention off, the whole prompt in \
one batch). {note}
"""
KEYS = """
## `reference.npz`

| key | what |
| --- | --- |
| `ids0` `ids1` `ids2` | int32 token ids of three prompts ({lengths} tokens); no BOS is added, \
feed them as they are at positions 0, 1, ... |
| `rows0..2` | int32 positions whose logits are stored in `hf*` (all of a short prompt, the last 8 \
of the long one) |
| `hf0..2` | float32 `[len(rows), vocab]`, logits of {first} |
| `lrows0..2`, `lcpp0..2` | the same from llama.cpp ({second}) |

Measured: the two references against each other, max |difference| {max_abs:.1e} at a logit \
standard deviation of {deviation:.2f}, argmax equal at {agree:.0%} of the positions; llama.cpp in \
one batch against token by token {stepped:.1e}.

Tolerance: max |difference| <= {tolerance:.1e} against `hf*`{against}, the same argmax wherever \
the top-two margin exceeds twice that, and the same result for one batch, for chunks and for token \
by token.
"""
GELU = (
    " (compute GELU exactly; llama.cpp looks it up in a half-precision table, so `lcpp*` is off by "
    "a few 1e-3 and is only a second opinion)"
)
TOKENIZATIONS = """
`tokenizer.json` has tokenisations of awkward strings by llama.cpp: `strings[].text`, the ids \
under the four combinations of
`add_special` (the model's own BOS/EOS) and `parse_special` (text of control tokens becomes the \
token), the raw bytes of each
piece (`pieces_hex`, of the ids under `add_special=0,parse_special=1`), and where the tokenizer \
exists there, the ids of
transformers (`transformers`, without BOS). The two differ only where transformers normalises to \
NFC first, which llama.cpp
does not do.
"""
MTP = """
## Multi-token prediction (the NextN block)

The last block of the file is the draft head. Keys in `reference.npz`, for prompt i:

| key | what |
| --- | --- |
| `mtp_rowsi` | positions of the rows below |
| `mtp_hi` | float32 `[rows, n_embd]`: the trunk's hidden state of these positions after the final \
norm (`output_norm`); the head takes it together with the NEXT token |
| `mtp_lcppi`, `mtp_hfi` | draft logits `[rows, vocab]` of llama.cpp and of the block put together \
from transformers' own decoder layer |
| `mtp_hmtpi` | the head's own hidden state after `nextn.shared_head_norm` (what the next draft \
step takes as h) |
| `mtp_draft_idsi` | 5 ids: the greedy token of the trunk after the prompt, then four greedy draft \
tokens |
| `mtp_draft_lcppi`, `mtp_draft_hfi` | logits of the four draft steps |

Row p pairs token x[p] with the trunk's hidden state of position p-1 (zeros for p = 0) at rotary \
position p, with its own KV
cache over positions 0..p, and predicts token p+1. A draft step takes the token just drafted \
together with the head's own
hidden state of the previous step, at the next position. Measured agreement of the two references: \
{max_abs:.1e}; tolerance {tolerance:.1e}.
"""
FLOAT_LEFT_OUT = """
All matrix rows are multiples of 256 (but for Jamba's `ssm_dt`), so that every block format \
applies. Only quantised files are kept here; transformers and llama.cpp agreed on the float32 \
original to {max_abs:.1e} (logit standard deviation {deviation:.2f}).
"""
QUANTISED = """
## Quantised files

Made by llama-quantize with its default mixes (`tensor_types.json` has the type of every tensor). \
In `reference-TYPE.npz`,
`ids*` as above, `rows*` (all of the first prompt, the last 4 of the others), `lcpp*` = llama.cpp \
on the file as it is, whose
CPU kernels also round the activations (8-bit blocks for the quantised types, half precision for \
F16/BF16), and `deq*` = llama.cpp
in float32 with every weight dequantised first. A runtime that dequantises to float32 must match \
`deq*` to 1e-3 of the logit
standard deviation; one that rounds activations as llama.cpp does should be as near to `deq*` as \
`lcpp*` is (rel. L2 within
three times the figure below). Routing of experts may flip under rounding; judge those rows by the \
nearer reference.

| file | tensor types | lcpp vs deq, max | rel. L2 | argmax equal | deq vs float32 original, \
rel. L2 |
| --- | --- | --- | --- | --- | --- |
"""
TABLES = """
## Metadata

| key | value |
| --- | --- |
{metadata}

## Tensors of the float32 file

Shapes in GGUF order (the first is the contiguous one, the input dimension of a matrix).

| name | type | shape |
| --- | --- | --- |
{tensors}
"""
# Of the vocabulary only what a line can hold.
TOKENIZER_KEYS = ("model", "pre", "_id", "add_bos_token")


def architecture(reader: gguf.GGUFReader) -> str:
    return str(reader.fields["general.architecture"].contents())


def page(measured: Measured, reader: gguf.GGUFReader) -> str:
    """The whole text; ``reader`` is of the float32 file."""
    return "".join(parts(measured, reader))


def parts(measured: Measured, reader: gguf.GGUFReader) -> Iterator[str]:
    recipe = measured.recipe
    yield INTRO.format(
        name=recipe.name, arch=architecture(reader), n_parameters=measured.n_parameters
    )
    yield provenance(measured)
    if recipe.keeps_float:
        yield keys(measured)
        if recipe.has_tokenizations:
            yield TOKENIZATIONS
        if measured.drafted:
            worst = max(d.max_abs for d in measured.drafted)
            yield MTP.format(max_abs=worst, tolerance=measured.tolerance)
    else:
        yield FLOAT_LEFT_OUT.format(max_abs=measured.max_abs, deviation=measured.deviation)
    if measured.quantised:
        yield QUANTISED + "".join(quantised_rows(measured))
    yield TABLES.format(metadata=metadata(reader), tensors=tensors(reader))


def provenance(measured: Measured) -> str:
    recipe = measured.recipe
    if not isinstance(recipe, Recipe):
        return FROM_NUMPY.format(seed=recipe.seed, llama=RELEASE, note=recipe.note)
    if recipe.written:
        return FROM_WRITTEN.format(
            model_class=recipe.model_class,
            torch=version("torch").split("+")[0],
            seed=recipe.seed,
            llama=RELEASE,
            note=recipe.note,
        )
    return FROM_TRANSFORMERS.format(
        hf_class=recipe.hf_class,
        transformers=version("transformers"),
        torch=version("torch").split("+")[0],
        seed=recipe.seed,
        llama=RELEASE,
        note=recipe.note,
    )


def keys(measured: Measured) -> str:
    gelu, first = measured.recipe.looks_up_gelu, "the numpy implementation"
    if isinstance(measured.recipe, Recipe):
        first = "the PyTorch implementation" if measured.recipe.written else "transformers"
    return KEYS.format(
        lengths=", ".join(str(len(p)) for p in measured.prompts),
        first=first,
        second="the same rows" if gelu else "at most the last 8 of those rows",
        max_abs=measured.max_abs,
        deviation=measured.deviation,
        agree=measured.argmax_agree,
        stepped=measured.stepped_max_abs,
        tolerance=measured.tolerance,
        against=GELU if gelu else " and `lcpp*`",
    )


def quantised_rows(measured: Measured) -> Iterator[str]:
    for file in measured.quantised:
        counts = sorted(Counter(file.tensor_types.values()).items())
        types = ", ".join(f"{kind} {n}" for kind, n in counts)
        lcpp, deq = file.lcpp_to_deq, file.deq_to_float
        yield (
            f"| {file.kind} | {types} | {lcpp.max_abs:.3f} | {lcpp.relative_l2:.4f} | "
            f"{lcpp.argmax_agree:.2f} | {deq.relative_l2:.3f} |\n"
        )


def metadata(reader: gguf.GGUFReader) -> str:
    lines = []
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or (
            name.startswith("tokenizer.") and not name.endswith(TOKENIZER_KEYS)
        ):
            continue
        value = field.contents()
        text = f"{value:.9g}" if isinstance(value, float) else repr(value)
        lines.append(f"| `{name}` | `{text}` |")
    return "\n".join(lines)


def tensors(reader: gguf.GGUFReader) -> str:
    return "\n".join(
        f"| `{t.name}` | {t.tensor_type.name} | {' x '.join(str(int(n)) for n in t.shape)} |"
        for t in reader.tensors
    )
