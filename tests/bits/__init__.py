"""The table of bits: what every CPU and every instruction set must compute, tests/golden/bits.json.

`python -m tests.bits` compares this machine with the table (`--isa all`: on every path it has);
`python -m tests.bits --make` makes it anew, after a change that is meant to change bits.

The rule that it holds us to: a kernel is made of operations that IEEE 754 rounds in one way only
(+ - * / sqrt, FMA where it is written, conversions, comparisons), in an order that is written down.
Whole numbers may be summed in any order. What a CPU has an instruction of its own for is either
exact (vpdpbusd) or done by all others as that instruction does it (vdpbf16ps, kernels/bf16.py).
exp, log, sine and cosine are ours (kernels/simd.py, kernels/scalar.py), and what Python computes
for kernels comes from runtime/exact.py: a C library's and NumPy's differ from CPU to CPU, and the
compiler refuses kernels that call them. Threads that flush denormal numbers are refused. Of a NaN
only that it is one is the same everywhere.
"""
