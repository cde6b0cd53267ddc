"""The strict base of every request model, and how a validation error is told to a client."""

from __future__ import annotations

import re
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from slotmux.server.http.errors import ApiError, invalid

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


Identities = dict[str, tuple[Any, ...]]


def only_null(names: str) -> Identities:
    """Unsupported parameters, separated by blanks, of which no value but null asks for nothing."""
    return dict.fromkeys(names.split(), ())


class StrictModel(BaseModel):
    """Exact types, finite numbers, no unknown name.

    ``identities`` maps a parameter that is not supported to the values which, by the API's own
    definition, ask for nothing (null always does); any other value is refused with its name.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )
    identities: ClassVar[Identities] = {}

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        """Stops at the first bad name: a body with a million of them must cost nothing."""
        if not isinstance(data, dict):
            return data
        known = cls.model_fields
        kept = {}
        for name, value in data.items():
            if name in known:
                kept[name] = value
            elif name not in cls.identities:
                raise PydanticCustomError("unknown_parameter", "{name}", {"name": name})
            elif not _is_identity(value, cls.identities[name]):
                raise PydanticCustomError("unsupported_parameter", "{name}", {"name": name})
        return kept


def fault(message: str, param: str | None = None) -> PydanticCustomError:
    """A refusal of a value by one of our own checks; ``param`` where the place is not enough."""
    return PydanticCustomError("invalid_value", "{text}", {"text": message, "param": param})


_Model = TypeVar("_Model", bound=StrictModel)


def validate(model: type[_Model], data: dict[str, Any]) -> _Model:
    """``data`` as a model. Raises ApiError 400 that names the parameter and quotes no value."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _to_api_error(first) from None


def path_of(loc: tuple[int | str, ...]) -> str:
    """('messages', 0, 'content') as 'messages[0].content'."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def _to_api_error(error: ErrorDetails) -> ApiError:
    kind = error["type"]
    path = path_of(error["loc"])
    if kind in ("unknown_parameter", "unsupported_parameter"):
        name = error["ctx"]["name"]
        name = name if _NAME.fullmatch(name) else "?"  # a name is a client's text too
        path = f"{path}.{name}" if path else name
        what = "Unknown" if kind == "unknown_parameter" else "Unsupported"
        return invalid(path, f"{what} parameter: '{path}'.", kind)
    ctx = error.get("ctx", {})
    if ctx.get("param"):
        path = f"{path}.{ctx['param']}" if path else str(ctx["param"])
    if kind == "missing":
        return invalid(path, f"Missing required parameter: '{path}'.", "missing_required_parameter")
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return invalid(path or None, f"Invalid '{path}': {error['msg']}.", code)


def _is_identity(value: Any, identities: tuple[Any, ...]) -> bool:
    return value is None or any(type(value) is type(i) and value == i for i in identities)
