"""All memory of sequences behind one door: admission, counts, and the proof that nothing leaks."""

from __future__ import annotations

import numpy as np

from slotmux.runtime.interfaces import KVStorage, RowStorage
from slotmux.runtime.memory.match import NO_MATCH, Match, find
from slotmux.runtime.memory.pools import Pools
from slotmux.runtime.memory.sequence import Sequence
from slotmux.runtime.ubatch import BLOCK_CELLS, I32, Ubatch


def n_blocks_for(n_tokens: int) -> int:
    """Blocks that hold ``n_tokens`` cells."""
    return -(-n_tokens // BLOCK_CELLS)


class Memory:
    """One Sequence per slot over shared pools. Engine thread only; counts may be read anywhere.

    ``n_ctx``: tokens that one sequence can have, alone in the pool. ``cache_bytes``: what kept
    prefixes may take beside what slots need (Pools).
    """

    def __init__(
        self,
        kv: KVStorage,
        rows: RowStorage,
        ubatch: Ubatch,
        *,
        n_ctx: int,
        cache_bytes: int | None = None,
        poison: bool = False,
    ) -> None:
        n_slots, max_blocks = ubatch.block_tables.shape
        if rows.n_rows and rows.n_rows < n_slots:
            raise ValueError(f"{rows.n_rows} state rows for {n_slots} slots")
        self.pools = Pools(kv, rows, n_slots=n_slots, cache_bytes=cache_bytes, poison=poison)
        if kv.n_blocks:
            n_ctx = min(n_ctx, self.n_blocks * BLOCK_CELLS, max_blocks * BLOCK_CELLS)
        self.n_ctx = n_ctx
        self._ubatch = ubatch
        self._histories = np.zeros((n_slots, n_ctx), np.int32)
        self.sequences = [
            Sequence(i, self.pools, ubatch, self._histories[i]) for i in range(n_slots)
        ]

    def open(
        self, seq: Sequence, n_known: int, salt: str | None, most_reused: int = 1 << 62
    ) -> int | None:
        """Begin a sequence whose history holds ``n_known`` tokens, reusing the longest prefix of
        at most ``most_reused``.

        Returns the tokens reused, or None (and changes nothing) when there are too few blocks for
        it beside what running sequences were promised. ``salt`` None: no prefix cache.
        """
        match = NO_MATCH
        if salt is not None:
            # The last known token is always computed: its logits are wanted.
            match = self._find(seq, min(n_known - 1, most_reused), salt)
        if not self._has_room(match, n_known):
            return None
        seq.open(salt, n_known, match)
        return seq.n_computed

    def n_reusable(self, tokens: I32, salt: str) -> int:
        """Tokens of a prompt that ``open`` would reuse now. Changes nothing."""
        return self._match(tokens, len(tokens) - 1, salt).n_tokens

    def _find(self, seq: Sequence, limit: int, salt: str) -> Match:
        return self._match(seq.history, limit, salt)

    def _match(self, tokens: I32, limit: int, salt: str) -> Match:
        pools = self.pools
        live = () if pools.has_rows else [s for s in self.sequences if s.is_open]
        return find(pools.tree, salt, tokens, limit, live=live, needs_row=pools.has_rows)

    def adopt(self, seq: Sequence, n_known: int) -> int:
        """Let an open sequence go on from the longest prefix of its ``n_known`` tokens that is in
        memory by now; returns how many tokens it has computed then."""
        match = self._find(seq, n_known - 1, seq.salt)
        if match.n_tokens > seq.n_computed:
            seq.adopt(match)
        return seq.n_computed

    def may_fit(self, tokens: I32, salt: str | None) -> bool:
        """Whether ``open`` could succeed, told without looking for a prefix: False is certain.

        Blocks that nobody runs on help no more when they are matched than when they are evicted,
        so what is missing must begin like a running sequence.
        """
        n = self._n_missing(len(tokens)) * BLOCK_CELLS
        if n <= 0 or n > len(tokens):
            return n <= 0
        last, alike = tokens[n - BLOCK_CELLS : n], tokens[:n]
        return salt is not None and any(
            np.array_equal(s.history[n - BLOCK_CELLS : n], last)
            and np.array_equal(s.history[:n], alike)
            for s in self.sequences
            if s.is_open and s.salt == salt
        )

    def _has_room(self, match: Match, n_known: int) -> bool:
        n_missing, refs = self._n_missing(n_known), self.pools.blocks.refs
        return n_missing <= 0 or n_missing <= sum(refs[node.block] > 0 for node in match.nodes)

    def _n_missing(self, n_known: int) -> int:
        """Blocks that a new sequence lacks beside what running ones were promised, if it shares
        none with them; 0 or less: it fits."""
        if not self.pools.has_blocks or not any(s.is_open for s in self.sequences):
            return 0
        return n_blocks_for(n_known + 1) - self.n_spare_blocks

    @property
    def n_spare_blocks(self) -> int:
        """Blocks that are free or only cached, beyond what running sequences were promised: room
        for their known tokens and one block to grow into."""
        running = [s for s in self.sequences if s.is_open]
        n_promised = sum(max(0, n_blocks_for(s.n_goal + 1) - len(s.table)) + 1 for s in running)
        return self.pools.n_available - n_promised

    @property
    def n_blocks(self) -> int:
        """Blocks that running sequences can have, all together."""
        return self.pools.budget.n_most_blocks

    @property
    def n_blocks_free(self) -> int:
        """Those that hold nothing that could be reused; a state may have their bytes."""
        return self.pools.n_available - self.pools.blocks.n_idle

    @property
    def n_blocks_cached(self) -> int:
        """Blocks that only the prefix cache holds."""
        return self.pools.blocks.n_idle

    @property
    def n_rows(self) -> int:
        """Rows of running sequences and of kept states, at most."""
        return self.pools.rows.n_rows

    @property
    def n_rows_free(self) -> int:
        """Rows that hold nothing; blocks may have their bytes."""
        rows = self.pools.rows
        n_in_use = sum(seq.row >= 0 for seq in self.sequences)
        return rows.n_rows - n_in_use - len(rows.checkpoints)

    @property
    def n_checkpoints(self) -> int:
        return len(self.pools.rows.checkpoints)

    def drop_cache(self) -> None:
        """Forget every prefix that no running sequence holds."""
        self.pools.drop_cache()

    def check_integrity(self) -> None:
        """Raise AssertionError unless counts, tables, tree and rows all tell the same story."""
        pools = self.pools
        refs = [0] * pools.blocks.n_blocks
        n_live: dict[str, int] = {}
        for seq in self.sequences:
            self._check_sequence(seq)
            for block in seq.table:
                refs[block] += 1
            if seq.node is not None:
                n_live[seq.salt] = n_live.get(seq.salt, 0) + 1
        for block, n in pools.pins.items():
            refs[block] += n
        pools.blocks.check_integrity(refs, set(pools.tree.by_block))
        pools.rows.check_integrity([s.row for s in self.sequences if s.row >= 0])
        pools.tree.check_integrity()
        pools.budget.check_integrity()
        assert {r.salt: r.n_live for r in pools.tree.roots.values() if r.n_live} == n_live
        for node in pools.tree.walk():
            parent = node.parent
            if node.block >= 0 and node.is_full and parent is not None and parent.block >= 0:
                assert refs[node.block] <= refs[parent.block], "a prefix is held less than its end"

    def _check_sequence(self, seq: Sequence) -> None:
        ubatch = self._ubatch
        table = ubatch.block_tables[seq.slot, : len(seq.table)].tolist()
        assert table == seq.table
        assert len(set(table)) == len(table)
        assert ubatch.state_row[seq.slot] == seq.row
        if not seq.is_open:
            assert not seq.table
            assert seq.row < 0
            assert seq.node is None
            return
        assert 0 <= seq.n_computed <= self.n_ctx
        if self.pools.has_blocks:
            assert len(seq.table) == n_blocks_for(seq.n_computed + seq.n_reserved)
            assert seq.n_computed <= seq.n_writable <= len(seq.table) * BLOCK_CELLS
        if self.pools.has_rows:
            assert seq.row >= 0
            assert bool(ubatch.state_fresh[seq.slot]) == (seq.n_computed == 0)
            pending = self.pools.rows.pending[seq.row]
            assert ubatch.state_pending[seq.slot] == pending
            assert 0 <= pending < max(1, seq.n_computed)
        node = seq.node
        assert node is None or node.end <= seq.n_computed
        while node is not None and node.parent is not None:
            assert node.block == seq.table[node.start // BLOCK_CELLS]
            assert node.key == seq.history[node.start : node.end].tobytes()
            node = node.parent
