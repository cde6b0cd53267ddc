"""The strict base of every request model, and how a validation error is told to a client."""

from __future__ import annotations

import re
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from slotmux.server.http.errors import ApiError, invalid
from slotmux.server.schemas.parameters import Place, check_not_honoured, described

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class StrictModel(BaseModel):
    """Exact types (but 64.0 is a whole number), finite numbers, no unknown name.

    ``place`` says which table of schemas/parameters.py knows the names that are no fields.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )
    place: ClassVar[Place | None] = None
    _whole: ClassVar[frozenset[str]] = frozenset()
    _whole_in_lists: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        cls._whole = frozenset(name for name, kind in kinds.items() if is_whole(kind))
        cls._whole_in_lists = frozenset(n for n, kind in kinds.items() if holds_whole(kind))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """With what is accepted without being a field."""
        schema = handler(core_schema)
        if cls.place is not None:
            target = handler.resolve_ref_schema(schema)
            target["properties"] = target["properties"] | described(cls.place, cls.model_fields)
        return schema

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
                if name in cls._whole_in_lists:
                    value = whole_in_lists(value)
                kept[name] = _as_whole(value) if name in cls._whole else value
            else:
                check_not_honoured(cls.place, name, value)
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
        note = error["ctx"].get("note")
        return invalid(path, f"{what} parameter: '{path}'{f' ({note})' if note else ''}.", kind)
    ctx = error.get("ctx", {})
    if ctx.get("param"):
        param = str(ctx["param"])
        path += param if not path or param.startswith("[") else f".{param}"
    if kind == "missing":
        return invalid(path, f"Missing required parameter: '{path}'.", "missing_required_parameter")
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return invalid(path or None, f"Invalid '{path}': {error['msg']}.", code)


def is_whole(annotation: Any) -> bool:
    """Whether a field of this type takes whole numbers and no others."""
    if get_origin(annotation) is Annotated:
        return is_whole(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        kinds = get_args(annotation)
        return any(map(is_whole, kinds)) and float not in kinds
    return annotation is int


def holds_whole(annotation: Any) -> bool:
    """Whether a field of this type takes lists of whole numbers, or lists of such lists."""
    origin, kinds = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return holds_whole(kinds[0])
    if origin in (Union, UnionType):
        return any(map(holds_whole, kinds))
    return origin is list and any(is_whole(kind) or holds_whole(kind) for kind in kinds)


def whole_in_lists(value: Any, depth: int = 2) -> Any:
    """The same with 64.0 as 64 in a list, and in the lists in it."""
    if not isinstance(value, list) or not {float, list} & set(map(type, value)):
        return value
    if depth == 1:
        return list(map(_as_whole, value))
    return [whole_in_lists(_as_whole(item), depth - 1) for item in value]


def _as_whole(value: Any) -> Any:
    """64.0 as 64, as languages without integers write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
