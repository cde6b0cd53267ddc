"""Fields of schemas and settings from what is told of the numbers of SamplingParams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, create_model

from slotmux.runtime.sampling.params import NUMBERS
from slotmux.runtime.sampling.told import Number

Model = TypeVar("Model", bound=BaseModel)


def request_numbers() -> dict[str, Any]:
    """The annotations of a request's fields by name; an alias is a field behind what it names."""
    fields = {}
    for name, number in NUMBERS.items():
        for field in (name, *(alias for alias, _ in number.told.aliases)):
            fields[field] = _annotation(number)
    return fields


def setting_numbers() -> dict[str, Any]:
    """The annotations of the operator's settings by name."""
    flagged = (item for item in NUMBERS.items() if item[1].told.flag is not None)
    return {number.told.setting or name: _annotation(number) for name, number in flagged}


def with_fields(annotations: Mapping[str, Any]) -> Callable[[type[Model]], type[Model]]:
    """Decorates a model: it gets these fields too, each None where it is not given."""
    fields: dict[str, Any] = {name: (kind | None, None) for name, kind in annotations.items()}

    def decorate(model: type[Model]) -> type[Model]:
        return create_model(
            model.__name__,
            __base__=model,
            __module__=model.__module__,
            __doc__=model.__doc__,
            **fields,
        )

    return decorate


def _annotation(number: Number) -> Any:
    told = number.told
    low = Field(gt=told.low) if told.is_low_out else Field(ge=told.low)
    return Annotated[number.kind, low, Field(le=told.high)]
