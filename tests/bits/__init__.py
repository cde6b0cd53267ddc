"""The table of bits: what every CPU and every instruction set must compute, tests/golden/bits.json.

`python -m tests.bits` compares this machine with the table; `python -m tests.bits --make` makes it
anew, after a change that is meant to change bits.
"""
