"""Caps on what a GGUF file may ask for. Far above every real model, far below a machine's memory.

Each is checked together with the bytes that the file really has left, before anything is
allocated or looped over.
"""

from __future__ import annotations

MAX_FILE_BYTES = 1 << 46
MAX_KEYS = 65_536
MAX_TENSORS = 65_536
MAX_KEY_BYTES = 65_535  # the GGUF specification's own limit
MAX_STRING_BYTES = 64 << 20
MAX_TEMPLATE_BYTES = 1 << 20
MAX_ARRAY_ITEMS = 16 << 20
MAX_STRING_ITEMS = 4 << 20  # strings are walked one by one; real vocabularies end at 262,144
MAX_TENSOR_NAME_BYTES = 63  # ggml keeps a name in 64 bytes with its NUL
MAX_DIMS = 4
MAX_DIM = (1 << 63) - 1
MIN_ALIGNMENT = 8
MAX_ALIGNMENT = 1 << 20
DEFAULT_ALIGNMENT = 32
MAX_SPLITS = 512  # each part keeps a file mapped
