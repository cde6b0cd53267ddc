"""Which replica gets a request: the one that has most of its prompt in memory, as long as that is
not busier than the others by more than its slots."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter
from math import ceil
from typing import Any

from ray.serve._private.common import RequestMetadata  # what RunningReplica takes
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from slotmux.deploy.ray.asked import Asked, Found

MIN_BYTES = 512  # of a body: less is computed sooner than asked for
KEY_BYTES = 1024  # of a body, that say whom it is like
SPREAD = 1.25  # a replica's share of cold requests, of the mean


class PrefixRouter(RequestRouter):
    """Asks replicas for the longest prefix that they have. Without one a session, or what begins
    alike, goes to the same replica, as far as that has no more than its share."""

    def initialize_state(self, ask_timeout_s: float = 0.5, min_share: float = 0.1) -> None:
        """``ask_timeout_s``: who answers later has nothing; ``min_share``: of a prompt, that is
        worth going where it is."""
        self._ask_timeout_s = ask_timeout_s
        self._min_share = min_share
        self._n_sent: Counter[ReplicaID] = Counter()  # by this front, that have not ended

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """One replica a rank, the best first."""
        asked = _asked(pending_request)
        if pending_request is None or asked is None or not candidate_replicas:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        fresh = [r for r in candidate_replicas if r.replica_id.unique_id not in asked.tried]
        replicas = fresh or candidate_replicas
        if asked.found is None and len(replicas) > 1 and len(asked.probe.body) >= MIN_BYTES:
            asked.found = await self._ask(replicas, asked)
        return [[replica] for replica in self._ranked(replicas, asked)]

    def _ranked(self, replicas: list[RunningReplica], asked: Asked) -> list[RunningReplica]:
        loads = {r.replica_id: self._load(r, asked) for r in replicas}
        key = asked.session.encode() or asked.probe.body[:KEY_BYTES]
        share = ceil(SPREAD * (sum(loads.values()) + 1) / len(replicas))

        def cold(replica: RunningReplica) -> tuple[bool, int, bytes]:
            load = loads[replica.replica_id]
            is_over = load >= share
            return is_over, load if is_over else 0, _rank_of(key, replica)

        ranked = sorted(replicas, key=cold)
        best = self._warm(ranked, asked, min(loads.values()), loads)
        if best is not None:
            ranked.remove(best)
            ranked.insert(0, best)
        return ranked

    def _warm(
        self,
        ranked: list[RunningReplica],
        asked: Asked,
        least: int,
        loads: dict[ReplicaID, int],
    ) -> RunningReplica | None:
        """Who has most of the prompt, if that is worth it."""
        found = asked.found or {}
        known = [r for r in ranked if r.replica_id.unique_id in found]
        if not known:
            return None
        best = max(known, key=lambda r: found[r.replica_id.unique_id].n_cached)
        at = found[best.replica_id.unique_id]
        if at.n_cached < max(self._min_share * at.n_prompt, 1):
            return None
        return best if loads[best.replica_id] - least < at.n_slots else None

    def _load(self, replica: RunningReplica, asked: Asked) -> int:
        """What it runs and holds back: its own word, and what was sent to it since then."""
        told = (asked.found or {}).get(replica.replica_id.unique_id)
        return max(self._n_sent[replica.replica_id], told.n_busy if told else 0)

    async def _ask(self, replicas: list[RunningReplica], asked: Asked) -> dict[str, Found]:
        answers = await asyncio.gather(
            *(self._ask_one(replica, asked) for replica in replicas), return_exceptions=True
        )
        return {
            replica.replica_id.unique_id: answer
            for replica, answer in zip(replicas, answers, strict=True)
            if isinstance(answer, Found)
        }

    async def _ask_one(self, replica: RunningReplica, asked: Asked) -> Any:
        name = uuid.uuid4().hex
        metadata = RequestMetadata(
            request_id=name,
            internal_request_id=name,
            call_method="found",
            app_name=self.app_name,
        )
        pending = PendingRequest(args=[asked.probe], kwargs={}, metadata=metadata)
        result = replica.try_send_request(pending, with_rejection=False)
        try:
            return await asyncio.wait_for(result.get_async(), self._ask_timeout_s)
        except TimeoutError:
            result.cancel()
            return None

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        """Counts it."""
        self._n_sent[replica_id] += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Counts it no more."""
        self._n_sent[replica_id] -= 1

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Forgets who is gone."""
        super().update_replicas(replicas)
        for replica_id in self._n_sent.keys() - self.curr_replicas.keys():
            del self._n_sent[replica_id]


def _asked(pending_request: PendingRequest | None) -> Asked | None:
    args = pending_request.args if pending_request is not None else []
    return args[0] if args and isinstance(args[0], Asked) else None


def _rank_of(key: bytes, replica: RunningReplica) -> bytes:
    """Rendezvous hashing: each key has an order of replicas that others coming and going leave."""
    name = replica.replica_id.unique_id.encode()
    return hashlib.blake2b(key, digest_size=8, key=name[:64]).digest()
