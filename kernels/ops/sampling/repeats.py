"""DRY ("don't repeat yourself", p-e-w, text-generation-webui pull request 5677): what would go on
with a repetition, and how long that already is.

If the last L tokens stood in the text before, followed by token t, then drawing t would repeat
L + 1 tokens. Nothing is looked for across a sequence breaker.
"""

from __future__ import annotations

import numpy as np

from slotmux.kernels.address import load_f64, load_i32, load_i64, store_i32
from slotmux.kernels.ops.sampling.logits import inlined, inner
from slotmux.kernels.ops.sampling.slot_words import SLOT


@inner
def has_bit(bits, i):
    """Whether bit ``i`` of an array of bits is set."""
    return (load_i32(bits + 4 * (i >> 5)) >> (i & 31)) & 1 != 0


@inner
def stands_at(history, pos, end, tokens, n):
    """Whether ``n`` tokens are those of the history from ``pos`` on, and before ``end``."""
    if pos < 0 or pos + n > end:
        return False
    i = 0
    while i < n and load_i32(history + 4 * (pos + i)) == load_i32(tokens + 4 * i):
        i += 1
    return i == n


@inlined
def _first_breaker(slot, token):
    """Place of the first breaker of several tokens that does not begin below ``token``."""
    starts, tokens = load_i64(slot + SLOT.dry_starts), load_i64(slot + SLOT.dry_tokens)
    low, high = np.int64(0), load_i64(slot + SLOT.n_dry)
    while low < high:
        middle = (low + high) // 2
        if load_i32(tokens + 4 * load_i32(starts + 4 * middle)) < token:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def _breaker_length(slot, history, at, end):
    """Tokens of the longest sequence breaker that stands at position ``at``; 0: none does."""
    token = load_i32(history + 4 * at)
    longest = np.int64(has_bit(load_i64(slot + SLOT.dry_singles), token))
    starts, tokens = load_i64(slot + SLOT.dry_starts), load_i64(slot + SLOT.dry_tokens)
    for i in range(_first_breaker(slot, token), load_i64(slot + SLOT.n_dry)):
        start = load_i32(starts + 4 * i)
        if load_i32(tokens + 4 * start) != token:
            break
        n = load_i32(starts + 4 * (i + 1)) - start
        if n > longest and stands_at(history, at, end, tokens + 4 * start, n):
            longest = n
    return longest


@inlined
def _limit(slot, history, pos, n, n_vocab):
    """How many of the last ``n`` tokens come after the last sequence breaker."""
    breakers = load_i64(slot + SLOT.dry_breakers)
    for i in range(n):
        token = load_i32(history + 4 * (pos - 1 - i))
        if 0 <= token < n_vocab and has_bit(breakers, token):
            length = _breaker_length(slot, history, pos - 1 - i, pos)
            if length > 0:
                return i + 1 - length
    return n


@inlined
def _match_back(history, pos, n, z):
    """z[k] = how many tokens before pos - k equal those before pos; of the last n tokens.

    The Z-algorithm (Gusfield 1997, section 1.4) on the text read backwards.
    """
    left = right = np.int64(0)
    for k in range(1, n):
        length = np.int64(0)
        if k < right:
            length = min(right - k, np.int64(load_i32(z + 4 * (k - left))))
        last, other = history + 4 * (pos - 1), history + 4 * (pos - 1 - k)
        while k + length < n and load_i32(last - 4 * length) == load_i32(other - 4 * length):
            length += 1
        if k + length > right:
            left, right = k, k + length
        store_i32(z + 4 * k, length)


@inner
def mark_repeats(slot, pos, n_vocab, z, marks, distinct):
    """Mark each token that would go on with a repetition with its length, plus one; list them and
    return how many they are. ``z``: room for the window; ``marks``: zeros for every token."""
    history, n = load_i64(slot + SLOT.history), load_i64(slot + SLOT.dry_last_n)
    n = pos if n < 0 else min(n, pos)
    allowed = load_i64(slot + SLOT.dry_allowed_length)
    if n <= allowed:
        return 0
    limit = _limit(slot, history, pos, n, n_vocab)
    if limit < allowed:
        return 0
    _match_back(history, pos, n, z)
    n_distinct = 0
    for k in range(1, n):
        length = min(np.int64(load_i32(z + 4 * k)), limit)
        token = load_i32(history + 4 * (pos - k))
        if length >= allowed and 0 <= token < n_vocab:
            before = load_i32(marks + 4 * token)
            if before == 0:
                store_i32(distinct + 4 * n_distinct, token)
                n_distinct += 1
            store_i32(marks + 4 * token, max(before, length + 1))
    return n_distinct


@inlined
def repeat_penalty_of(slot, token, length):
    """multiplier * base ** (length - allowed), 0 for a token that is a sequence breaker."""
    if has_bit(load_i64(slot + SLOT.dry_singles), token):
        return 0.0
    n = length - load_i64(slot + SLOT.dry_allowed_length)
    n = min(n, load_i64(slot + SLOT.dry_max_exponent))
    penalty, factor = load_f64(slot + SLOT.dry_multiplier), load_f64(slot + SLOT.dry_base)
    while n > 0:
        if n & 1:
            penalty *= factor
        factor *= factor
        n >>= 1
    return penalty
