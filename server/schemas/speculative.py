"""A request's own bounds on speculative decoding, in both spellings that clients use."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from slotmux.server.schemas.base import StrictModel, fault

PREFIX = "speculative."
_Drafts = Annotated[int, Field(ge=0, le=16)]


class Speculative(StrictModel):
    """Within the server's bounds; None means the server's own."""

    n_max: _Drafts | None = None
    n_min: _Drafts | None = None
    p_min: Annotated[float, Field(ge=0, le=1)] | None = None


def fold_dotted(data: Any) -> Any:
    """llama-server's {"speculative.n_max": 2} as {"speculative": {"n_max": 2}}."""
    if not isinstance(data, dict):
        return data
    dotted = {k.removeprefix(PREFIX): v for k, v in data.items() if k.startswith(PREFIX)}
    if not dotted:
        return data
    rest = {k: v for k, v in data.items() if not k.startswith(PREFIX)}
    if rest.get("speculative") is not None:
        raise fault("'speculative' is given as an object and by dotted names", "speculative")
    return rest | {"speculative": dotted}


def describe_dotted(schema: dict[str, Any]) -> None:
    """Adds the dotted names to a JSON schema."""
    named = Speculative.model_json_schema()["properties"]
    schema["properties"] |= {PREFIX + name: value for name, value in named.items()}
