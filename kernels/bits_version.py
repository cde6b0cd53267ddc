"""Which bits the kernels compute: one name for all instruction sets, as they agree.

Cells and states that were kept under another name are not gone on from. The name is the digest of
the table of bits (tests/golden/bits.json); ``python -m tests.bits --make`` writes it anew with the
table, and a test holds the two together.
"""

from __future__ import annotations

BITS_VERSION = "50ed3b2c0a2c5b12"
