"""A model that really uses its memory: logits are a hash of the tokens read back from KV cells and
of the recurrent row. A wrong block, a missing copy, a stale row or a wrong position changes them.

The oracle computes the same from the plain token list.
"""

from __future__ import annotations

import ctypes

import numpy as np

from slotmux.runtime.engine.request import InvalidRequestError, SamplingParams
from slotmux.runtime.interfaces import nothing
from slotmux.runtime.speculation.costs import Costs
from slotmux.runtime.ubatch import BLOCK_CELLS, MAX_TOP_LOGPROBS, Ubatch

POISON = -77
MOD = 1_000_003
WEIGHTS = np.random.default_rng(7).integers(1, MOD, 4096)
EOG = 63
N_VOCAB = 64


class FakeKV:
    """Blocks without memory are poison: reading one is a difference, writing one a failure."""

    def __init__(self, n_blocks, n_ready=None, n_segment=1, block_bytes=1024):
        self.n_blocks = n_blocks
        self.n_ready = n_blocks if n_ready is None else n_ready
        self.n_segment, self.block_bytes = n_segment, block_bytes
        self.tokens = np.full((n_blocks, BLOCK_CELLS), POISON, np.int64)
        self.positions = np.full((n_blocks, BLOCK_CELLS), POISON, np.int64)
        self.n_copies = 0

    def read_blocks(self, blocks):
        rest = np.zeros((len(blocks), self.block_bytes // 8 - 2 * BLOCK_CELLS), np.int64)
        parts = [self.tokens[list(blocks)], self.positions[list(blocks)], rest]
        return np.concatenate(parts, axis=1).view(np.uint8)

    def write_blocks(self, blocks, data):
        assert data.shape[1] == self.block_bytes
        both = np.ascontiguousarray(data).view(np.int64)
        self.tokens[list(blocks)] = both[:, :BLOCK_CELLS]
        self.positions[list(blocks)] = both[:, BLOCK_CELLS : 2 * BLOCK_CELLS]

    def copy_block(self, src, dst):
        assert src != dst
        self.tokens[dst] = self.tokens[src]
        self.positions[dst] = self.positions[src]
        self.n_copies += 1

    def give_back_blocks(self, first, n):
        assert first % self.n_segment == 0
        for block in range(first, min(first + n, self.n_blocks)):
            self.fill_nan(block)

    def fill_nan(self, block):
        self.tokens[block] = POISON
        self.positions[block] = POISON


class FakeRows:
    def __init__(self, n_rows, row_bytes=8192):
        self.n_rows, self.row_bytes, self.n_ready = n_rows, row_bytes, 0
        self.state = [POISON] * n_rows
        self.pending = [[POISON]] * n_rows  # drafts that the state has not seen
        self.n_copies = 0
        self.n_prepared = 0

    def read_row(self, row):
        words = [self.state[row], len(self.pending[row]), *self.pending[row]]
        rest = [0] * (self.row_bytes // 8 - len(words))
        return np.array(words + rest, np.int64).view(np.uint8)

    def write_row(self, row, data):
        state, n, *pending = np.ascontiguousarray(data).view(np.int64).tolist()
        self.state[row], self.pending[row] = state, pending[:n]

    def copy_row(self, src, dst):
        assert src != dst
        self.state[dst] = self.state[src]
        self.pending[dst] = self.pending[src]
        self.n_copies += 1

    def prepare_row(self, row):
        self.n_prepared += 1

    def give_back_row(self, row):
        self.fill_nan(row)

    def fill_nan(self, row):
        self.state[row] = POISON
        self.pending[row] = [POISON]


class FakeSampling:
    def __init__(self):
        self.slots = {}

    def check(self, params):
        if params.top_k == 665:
            raise InvalidRequestError("top_k", "refused by the fake")

    def state(self, slot, pos):
        return None

    def set(self, slot, params, history, eog_ids, min_pos, state=None):
        if params.top_k == 666:
            raise RuntimeError("refused by the fake")
        self.slots[slot] = (params, history, eog_ids, min_pos)


def advance(state, token):
    """One token of the recurrence; a poisoned state stays poisoned."""
    return POISON if POISON in (state, token) else (state * 31_337 + token + 1) % MOD


def masked(address):
    """Tokens that a draw's mask takes away; 0: there is none."""
    if not address:
        return set()
    words = (ctypes.c_uint32 * (N_VOCAB // 32)).from_address(address)
    return {t for t in range(N_VOCAB) if not words[t // 32] >> (t % 32) & 1}


def draw(digest, params, banned, pos):
    """The drawn token, its logprob and the vocabulary from most to least likely."""
    scores = (digest * np.arange(3, 3 + 2 * N_VOCAB, 2) * 7919 + digest // 7) % 65_521
    logprobs = (scores / 65_521.0 - 1.0).astype(np.float32)
    order = np.argsort(-scores, kind="stable").tolist()
    if params.temperature > 0:
        shift = (digest + params.seed * 7919 + pos * 104_729) % N_VOCAB
        order = order[shift:] + order[:shift]
    token = next(t for t in order if t not in banned)
    return token, logprobs, order


class FakeModel:
    """``n_blocks`` 0: a purely recurrent model; ``n_rows`` 0: attention only; both: a hybrid."""

    n_vocab = N_VOCAB
    n_vector = 0  # it has no vectors to give

    def __init__(
        self, n_slots=4, n_ctx=128, n_blocks=64, n_rows=0, n_ubatch=32, n_outputs=None, **cells
    ):
        self.n_ctx_train = n_ctx
        self.ubatch = Ubatch(
            n_ubatch, n_slots, -(-n_ctx // BLOCK_CELLS) if n_blocks else 0, n_outputs or n_ubatch
        )
        self.kv = FakeKV(n_blocks, **cells)
        self.rows = FakeRows(n_rows)
        self.sampling = FakeSampling()
        self.drafter = None
        self.logits = np.zeros((self.ubatch.max_outputs, N_VOCAB), np.float32)
        self.nan_token = -1  # logits after this token are NaN
        self.before_forward = lambda: None
        self.n_forwards = 0
        self.progress = 0
        self.n_tokens_computed = 0
        self.max_run = 0
        self.states = {}  # of the recurrence behind each token of the ubatch
        self.n_scored = 0

    def forward(self, meanwhile=nothing):
        assert not self.ubatch.sample_masks.any(), "masks of an earlier step"
        self.compute(meanwhile)
        self.draw()

    def compute(self, meanwhile=nothing):
        self.before_forward()
        # Whatever is done meanwhile, this is what is computed.
        planned = bytes(self.ubatch.tokens), bytes(self.ubatch.block_tables), self.ubatch.n_tokens
        meanwhile()
        assert planned == (
            bytes(self.ubatch.tokens),
            bytes(self.ubatch.block_tables),
            self.ubatch.n_tokens,
        )
        self.n_forwards += 1
        ub = self.ubatch
        assert 0 < ub.n_tokens <= ub.n_ubatch
        assert 0 < ub.n_seqs <= ub.seq_slot.size
        assert len(set(ub.seq_slot[: ub.n_seqs].tolist())) == ub.n_seqs
        assert ub.seq_start[ub.n_seqs] == ub.n_tokens
        self.n_tokens_computed += ub.n_tokens
        digests = {}
        written = set()
        wanted = set(ub.out_tokens[: ub.n_outputs].tolist())
        for run in range(ub.n_seqs):
            self._run(run, wanted, digests, written)
        self._digests = [digests[t] for t in ub.out_tokens[: ub.n_outputs].tolist()]
        for r, digest in enumerate(self._digests):
            self.logits[r] = np.nan if digest is None else draw(digest, GREEDY, (), 0)[1]

    def draw(self):
        for s in range(self.ubatch.n_samples):
            self._sample(s, self._digests[self.ubatch.sample_output[s]])

    def _run(self, run, wanted, digests, written):
        ub = self.ubatch
        slot = ub.seq_slot[run]
        table = ub.block_tables[slot]
        state = 0 if ub.state_fresh[slot] else None
        row = ub.state_row[slot]
        if self.rows.n_rows and state is None:
            state = self.rows.state[row]
            for token in self.rows.pending[row][: ub.state_pending[slot]]:
                state = advance(state, token)
        begin, end = ub.seq_start[run : run + 2]
        n_drafts = int(ub.seq_drafts[run])
        assert 0 <= n_drafts < end - begin
        self.max_run = max(self.max_run, int(end - begin))
        for t in range(begin, end):
            token, pos = int(ub.tokens[t]), int(ub.positions[t])
            assert 0 <= token < N_VOCAB
            if self.kv.n_blocks:
                cell = (int(table[pos // BLOCK_CELLS]), pos % BLOCK_CELLS)
                assert cell not in written, "two sequences wrote one cell"
                written.add(cell)
                self.kv.tokens[cell] = token
                self.kv.positions[cell] = pos
            if self.rows.n_rows:
                state = advance(state, token)
                if t == end - n_drafts - 1:
                    self.rows.state[row] = state
            self.states[t] = state
            if t in wanted:
                bad = token == self.nan_token
                digests[t] = None if bad else self._digest(table, pos, state)
        if self.rows.n_rows:
            self.rows.pending[row] = ub.tokens[end - n_drafts : end].tolist()

    def _digest(self, table, pos, state):
        digest = 0
        if self.kv.n_blocks:
            blocks = table[: pos // BLOCK_CELLS + 1]
            tokens = self.kv.tokens[blocks].ravel()[: pos + 1]
            positions = self.kv.positions[blocks].ravel()[: pos + 1]
            if (tokens == POISON).any() or (positions != np.arange(pos + 1)).any():
                return None
            digest = int(((tokens + 1) * WEIGHTS[: pos + 1]).sum() % MOD)
        if self.rows.n_rows:
            if state == POISON:
                return None
            digest = (digest * 17 + state) % MOD
        return digest

    def _sample(self, s, digest):
        ub = self.ubatch
        params, history, eog_ids, min_pos = self.sampling.slots[int(ub.sample_slot[s])]
        pos = int(ub.sample_pos[s])
        expected = digest_of(history[:pos].tolist(), self.kv.n_blocks > 0, self.rows.n_rows > 0)
        if digest is None:
            ub.sampled[s] = -1
            return
        assert digest == expected, "memory and history differ"
        banned = set(eog_ids if pos < min_pos else ()) | masked(int(ub.sample_masks[s]))
        if len(banned) == N_VOCAB:
            ub.sampled[s] = -1
            return
        token, logprobs, order = draw(digest, params, banned, pos)
        ub.sampled[s] = token
        ub.logprob[s] = logprobs[token]
        ub.top_ids[s] = order[:MAX_TOP_LOGPROBS]
        ub.top_logprobs[s] = logprobs[order[:MAX_TOP_LOGPROBS]]

    def score(self, rows, targets, n_top, out):
        for i, row in enumerate(rows.tolist()):
            digest = self._after(row)
            if digest is None:
                out.logprobs[i] = np.nan
                continue
            logprobs, order = draw(digest, GREEDY, (), 0)[1:]
            out.logprobs[i] = logprobs[targets[i]]
            out.ranks[i] = 1 + order.index(targets[i])
            k = n_top[i]
            out.top_ids[i, :k], out.top_logprobs[i, :k] = order[:k], logprobs[order[:k]]
        self.ubatch.out_tokens[:] = -1
        self.n_scored += len(rows)

    def _after(self, t):
        """The digest behind token ``t`` of the ubatch."""
        ub = self.ubatch
        run = int(np.searchsorted(ub.seq_start[: ub.n_seqs + 1], t, side="right")) - 1
        table, pos = ub.block_tables[ub.seq_slot[run]], int(ub.positions[t])
        return None if ub.tokens[t] == self.nan_token else self._digest(table, pos, self.states[t])

    def close(self):
        pass


class ScriptedDrafter:
    """Drafts that are right or wrong as ``is_right(slot, position, how far ahead)`` says.

    Writes into the cells that it was promised, as a model's own block does.
    """

    short_vocab, has_short = N_VOCAB, False

    def __init__(self, model, is_right):
        self.model, self.is_right = model, is_right
        self.n_runs = self.n_guided = 0

    def run(self, wanted, *, is_short=False, guide=None):
        self.n_runs += 1
        counts = [n for _, n, _, _ in wanted]
        assert counts == sorted(counts, reverse=True)
        assert len({slot for slot, *_ in wanted}) == len(wanted)
        tokens = np.full((counts[0], len(wanted)), -1, np.int32)
        drawn = []
        for j in range(counts[0]):
            n_seqs = sum(n > j for n in counts)
            banned = [set()] * n_seqs
            if guide is not None:
                guide.begin(n_seqs, drawn)
                banned = [masked(address) for address in guide.join()]
                self.n_guided += sum(map(bool, banned))
            for i in range(n_seqs):
                tokens[j, i] = self._guess(*wanted[i], j, banned[i])
            drawn = tokens[j, :n_seqs].tolist()
        return tokens, np.zeros(tokens.shape, np.float32)

    def _guess(self, slot, n, token, position, j, masked):
        model = self.model
        table, cells = model.ubatch.block_tables[slot], model.kv.tokens
        params, history, banned, min_pos = model.sampling.slots[slot]
        assert history[position] == token
        pos = position + j + 1
        if model.kv.n_blocks:
            cells[table[(pos - 1) // BLOCK_CELLS], (pos - 1) % BLOCK_CELLS] = 0
        past = history[:pos].tolist()
        if past[-1] < 0:
            return -1
        digest = digest_of(past, model.kv.n_blocks > 0, model.rows.n_rows > 0)
        order = draw(digest, params, (), pos)[2]
        banned = masked | set(banned if pos < min_pos else ())
        right = [t for t in order if t not in banned]
        history[pos] = -1
        if right:
            history[pos] = right[0]
            if not self.is_right(slot, pos, j):
                history[pos] = right[1] if len(right) > 1 else (right[0] + 1) % N_VOCAB
        return history[pos]


class EagerCosts(Costs):
    """Drafting costs nothing, whatever the clock says: as much of it as possible."""

    def steps(self, n_seqs, max_rows):
        return [1.0] * (max_rows + 1)

    def draft(self, n_seqs, is_short):
        return 1e-6

    def may_draft(self, n_seqs):
        return True

    def on_step(self, n_seqs, n_rows, seconds):
        pass

    def on_draft(self, n_seqs, n_passes, is_short, seconds):
        pass


GREEDY = SamplingParams(temperature=0.0)


def digest_of(tokens, has_blocks, has_rows):
    """What the model must see after ``tokens``."""
    digest = 0
    if has_blocks:
        digest = int(((np.array(tokens) + 1) * WEIGHTS[: len(tokens)]).sum() % MOD)
    if has_rows:
        state = 0
        for token in tokens:
            state = advance(state, token)
        digest = (digest * 17 + state) % MOD
    return digest


def oracle(request, n_ctx, model, index=0):
    """The token ids that choice ``index`` of a request must get."""
    tokens = list(request.prompt)
    n_prompt = len(tokens)
    params = request.sampling
    if index:
        params = SamplingParams(temperature=params.temperature, seed=params.seed + index)
    ends = set(request.stop_token_ids) | (set() if request.ignore_eos else {EOG})
    limit = n_ctx if request.max_tokens < 0 else min(n_ctx, n_prompt + request.max_tokens)
    while len(tokens) < limit:
        n = len(tokens) - n_prompt
        digest = digest_of(tokens, model.kv.n_blocks > 0, model.rows.n_rows > 0)
        if request.ignore_eos:
            banned = {EOG} - set(request.stop_token_ids)
        else:
            banned = ends if n < request.min_tokens else set()
        token = draw(digest, params, banned, len(tokens))[0]
        tokens.append(token)
        if token in ends and n >= request.min_tokens:
            break
    return tokens[n_prompt:]


PIECES = [chr(ord("a") + i % 26) * (1 + i % 3) for i in range(N_VOCAB)]


class FakeTokenizer:
    eog_ids = frozenset({EOG})


class FakeDetokenizer:
    """Each token is a few letters; what comes out equals the pieces joined."""

    def push(self, token_id):
        return PIECES[token_id]

    def flush(self):
        return ""


def text_of(tokens):
    return "".join(PIECES[t] for t in tokens if t != EOG)


class Receiver:
    """Collects a request's outputs by choice and checks that each ends exactly once."""

    def __init__(self):
        self.tokens = {}
        self.text = {}
        self.last = {}
        self.logprobs = {}
        self.n_calls = 0
        self.prompt_logprobs = None

    def __call__(self, request, outputs):
        self.n_calls += 1
        assert outputs
        for out in outputs:
            assert out.index not in self.last, "an output after the last one"
            self.tokens.setdefault(out.index, []).extend(out.token_ids)
            self.text[out.index] = self.text.get(out.index, "") + out.text
            if out.prompt_logprobs is not None:
                assert self.prompt_logprobs is None, "told twice"
                assert not self.tokens[0], "told after the first token"
                self.prompt_logprobs = out.prompt_logprobs
            self.logprobs.setdefault(out.index, []).extend(out.logprobs)
            if out.finish_reason is not None:
                assert out.usage is not None
                self.last[out.index] = out
