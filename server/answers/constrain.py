"""Binds requests to what their body says an answer shall look like."""

from __future__ import annotations

from slotmux.runtime.engine.request import Request
from slotmux.server.grammars.door import compile_grammar, tenant_of
from slotmux.server.http.trace import Trace
from slotmux.server.process.state import Loaded, ServerState
from slotmux.server.schemas.generation import GenerationParams


async def constrain(
    state: ServerState,
    loaded: Loaded,
    params: GenerationParams,
    requests: list[Request],
    trace: Trace,
) -> None:
    """Give each of ``requests`` the grammar of their body, if it has one. Raises ApiError 400."""
    spec = params.grammar_spec
    if spec is None:
        return
    factory = await compile_grammar(state, loaded, spec, tenant_of(trace, params.cache_salt))
    for request in requests:
        request.constraint = factory
