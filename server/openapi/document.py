"""The OpenAPI document of the endpoints that an app has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from slotmux.server.http.endpoints import Endpoint
from slotmux.server.openapi.errors import ERRORS
from slotmux.server.openapi.operation import EVENTS, Body, Json, Operation
from slotmux.server.version import slotmux_version

_REF = "#/components/schemas/{model}"
_PATH_NAME = re.compile(r"\{(\w+)(:path)?\}")
_NOT_A_NAME = re.compile(r"\W+")
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}
_HEADERS: Json = {
    "X-Request-Id": {
        "description": "The request's own, or the one that the client sent.",
        "schema": {"type": "string"},
    },
    "X-Slot-Id": {
        "description": "The slot that computed the answer, if one did.",
        "schema": {"type": "integer"},
    },
    "X-Unenforced-Keywords": {
        "description": "Keywords in schemas of tools without `strict` that no grammar can follow.",
        "schema": {"type": "string"},
    },
}
_REFUSED = "The request is refused."
_MISSING = "The server does not do this."
_RETRY = {
    "description": "Seconds after which to try again, with 429, 503 and 504.",
    "schema": {"type": "integer"},
}


def openapi_document(endpoints: Iterable[Endpoint], *, needs_key: bool) -> Json:
    """Of ``endpoints``; ``needs_key``: whether those that are not public want a key."""
    endpoints = tuple(endpoints)
    schemas, components = _schemas([endpoint.told for endpoint in endpoints])
    paths: dict[str, Json] = {}
    for endpoint, method in ((each, method) for each in endpoints for method in each.methods):
        path = _PATH_NAME.sub(r"{\1}", endpoint.path)
        described = _operation(endpoint, method, schemas)
        described["operationId"] = f"{method.lower()}_{_NOT_A_NAME.sub('_', path).strip('_')}"
        if needs_key and endpoint.rule != "public":
            described["security"] = [{name: []} for name in _SCHEMES]
        paths.setdefault(path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "slotmux", "version": slotmux_version()},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def _schemas(operations: list[Operation]) -> tuple[dict[int, Json], Json]:
    """The schema of each type, by its id, and what they refer to."""
    modes: dict[int, tuple[Any, JsonSchemaMode]] = {}
    for kind in (*ERRORS.values(), *(k for o in operations for k in (o.answer, o.chunk))):
        if kind is not None:
            modes[id(kind)] = (kind, "serialization")
    for model in (model for operation in operations for model in operation.models):
        modes[id(model)] = (model, "validation")
    inputs = [(key, mode, TypeAdapter(kind)) for key, (kind, mode) in modes.items()]
    by_key, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    schemas = {key: schema for (key, _), schema in by_key.items()}
    components: Json = definitions.get("$defs", {})
    for body in (operation.body for operation in operations):
        if isinstance(body, Body):
            components[body.name] = _merged(body, components)
            schemas[id(body)] = {"$ref": _REF.format(model=body.name)}
    return schemas, components


def _merged(body: Body, components: Json) -> Json:
    """One object of all members of the models of ``body``."""
    members: Json = {}
    for model in body.models:
        members |= components[model.__name__]["properties"]
    return {
        "type": "object",
        "properties": members | dict(body.changed),
        "required": list(body.required),
        "additionalProperties": False,
    }


def _operation(endpoint: Endpoint, method: str, schemas: dict[int, Json]) -> Json:
    operation = endpoint.told
    summary = (endpoint.route.endpoint.__doc__ or endpoint.route.name).strip().splitlines()[0]
    described: Json = {"summary": summary}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name, _ in _PATH_NAME.findall(endpoint.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in operation.query.items()
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": schemas[id(operation.body)]}}
        described["requestBody"] = {"required": operation.needs_body, "content": content}
    described["responses"] = _responses(endpoint, method, schemas)
    return described


def _responses(endpoint: Endpoint, method: str, schemas: dict[int, Json]) -> Json:
    operation = endpoint.told
    good: Json = {"description": "The answer.", "headers": _HEADERS}
    bad: Json = {"headers": _HEADERS | {"Retry-After": _RETRY}}
    if method != "HEAD":
        good["content"] = _content(operation, schemas)
        error = schemas[id(ERRORS[endpoint.shape])]
        bad["content"] = {"application/json": {"schema": error}}
    if operation.is_refused:
        return {"4XX": bad | {"description": _REFUSED}, "501": bad | {"description": _MISSING}}
    return {
        "200": good,
        "4XX": bad | {"description": _REFUSED},
        "5XX": bad | {"description": "The server cannot answer now."},
    }


def _content(operation: Operation, schemas: dict[int, Json]) -> Json:
    if operation.answer is None:
        medias = (operation.media, *operation.medias)
        return {media: {"schema": {"type": "string"}} for media in medias}
    content: Json = {operation.media: {"schema": schemas[id(operation.answer)]}}
    if operation.chunk is not None:
        what = "events whose data is" if operation.streamed_as == EVENTS else "lines of"
        content[operation.streamed_as] = {
            "schema": {
                "type": "string",
                "description": f"With stream: {what} this object.",
                "contentMediaType": operation.streamed_as,
                "contentSchema": schemas[id(operation.chunk)],
            }
        }
    return content
