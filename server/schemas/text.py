"""POST /tokenize and /detokenize, in llama-server's shapes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from slotmux.server.schemas.base import StrictModel, fault, whole_in_lists
from slotmux.server.schemas.generation import Label

MAX_IDS = 1 << 20


def _ids(value: Any) -> Any:
    if isinstance(value, list) and len(value) > MAX_IDS:
        raise fault(f"at most {MAX_IDS} token ids")
    value = whole_in_lists(value, 1)
    if not isinstance(value, list) or not all(type(v) is int and 0 <= v < 2**31 for v in value):
        raise fault("should be an array of token ids")
    return value


TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class TokenizeRequest(StrictModel):
    """Body of POST /tokenize."""

    content: str
    model: Label | None = None
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeRequest(StrictModel):
    """Body of POST /detokenize."""

    model: Label | None = None
    tokens: Annotated[Any, BeforeValidator(_ids, json_schema_input_type=list[TokenId])]
