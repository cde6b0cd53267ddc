"""What routes and tool calls use: a specification in, a constraint for requests out, or a 400."""

from __future__ import annotations

from slotmux.server.grammars.matcher import Factory
from slotmux.server.grammars.spec import GrammarError, GrammarSpec
from slotmux.server.http.errors import ApiError, invalid
from slotmux.server.http.trace import Trace
from slotmux.server.process.state import Loaded, ServerState


def tenant_of(trace: Trace, cache_salt: str | None) -> str:
    """Whose grammar it is: another key's are out of reach, whatever salt is sent."""
    return f"{trace.key}/{cache_salt or ''}"


async def compile_grammar(
    state: ServerState, loaded: Loaded, spec: GrammarSpec, tenant: str
) -> Factory:
    """For ``Request.constraint``. Raises ApiError 400 that names the place of the fault."""
    try:
        return await state.grammars.compile(loaded.tokenizer, spec, tenant)
    except GrammarError as error:
        raise refusal(spec, error) from None


def refusal(spec: GrammarSpec, error: GrammarError) -> ApiError:
    """400 invalid_grammar."""
    param = error.param(spec.param)
    return invalid(param, f"Invalid '{param}': {error}.", "invalid_grammar")
