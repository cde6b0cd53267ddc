"""POST /tokenize and /detokenize."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slotmux.server.answers.prepare import check_ids, served_name
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import json_response
from slotmux.server.http.json_body import read_json
from slotmux.server.interfaces import TokenizerPort
from slotmux.server.openapi import answers
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.state import state_of
from slotmux.server.schemas.base import validate
from slotmux.server.schemas.text import DetokenizeRequest, TokenizeRequest

endpoints = Endpoints()


@endpoints.post("/tokenize", told=Operation(answers.Tokens, TokenizeRequest))
async def tokenize(request: Request) -> Response:
    """Token ids of a text, with their pieces if wanted."""
    state = state_of(request)
    loaded = state.ready().loaded
    params = validate(TokenizeRequest, await read_json(request, state.settings.body_timeout))
    served_name(params.model, loaded.info)
    tokenizer = loaded.tokenizer
    ids = await state.off_loop(
        tokenizer.encode,
        params.content,
        add_special=params.add_special,
        parse_special=params.parse_special,
    )
    if not params.with_pieces:
        return json_response({"tokens": ids})
    return json_response({"tokens": await state.off_loop(_pieces, tokenizer, ids)})


@endpoints.post("/detokenize", told=Operation(answers.Content, DetokenizeRequest))
async def detokenize(request: Request) -> Response:
    """Text of token ids, special tokens included."""
    state = state_of(request)
    loaded = state.ready().loaded
    params = validate(DetokenizeRequest, await read_json(request, state.settings.body_timeout))
    served_name(params.model, loaded.info)
    tokenizer = loaded.tokenizer
    check_ids(params.tokens, tokenizer.n_vocab, "tokens")
    text = await state.off_loop(tokenizer.decode, params.tokens, skip_special=False)
    return json_response({"content": text})


def _pieces(tokenizer: TokenizerPort, ids: list[int]) -> list[dict[str, Any]]:
    return [{"id": token_id, "piece": _piece(tokenizer, token_id)} for token_id in ids]


def _piece(tokenizer: TokenizerPort, token_id: int) -> Any:
    """A token's text, or its bytes when they are no whole characters (as llama-server does)."""
    raw = tokenizer.token_bytes(token_id)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return list(raw)
