"""The OpenAPI document as a page for people: plain HTML, no script, nothing fetched elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import orjson

from slotmux.server.openapi.operation import Json

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:14px/1.4 ui-monospace,monospace}table{border-collapse:collapse;width:100%}"
    "td,th{border-bottom:1px solid #8884;padding:.2rem .5rem;text-align:left;vertical-align:top}"
    "summary{cursor:pointer}h2{margin-top:2rem}pre{overflow-x:auto}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}"
)


def docs_page(document: Json) -> str:
    """The whole page."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>"
        "<p>Made from the schemas that requests are checked by: "
        "<a href=openapi.json>openapi.json</a>.</p>"
        f"<ul>{''.join(_contents(document))}</ul>"
        f"{''.join(_operations(document))}<h2 id=schemas>Schemas</h2>{''.join(_schemas(document))}"
        "</html>"
    )


def _contents(document: Json) -> Iterator[str]:
    for path, method, operation in _all(document):
        name = f"{method.upper()} {path}"
        yield f'<li><a href="#{_anchor(operation)}"><code>{escape(name)}</code></a></li>'


def _operations(document: Json) -> Iterator[str]:
    for path, method, operation in _all(document):
        yield f"<h2 id={_anchor(operation)}><code>{method.upper()} {escape(path)}</code></h2>"
        yield f"<p>{escape(operation['summary'])}</p>"
        for parameter in operation.get("parameters", ()):
            name, schema = parameter["name"], _type_of(parameter["schema"])
            yield f"<p><code>{escape(name)}</code> in the {parameter['in']}: {schema}</p>"
        if body := operation.get("requestBody"):
            yield f"<p>Body: {_contents_of(body['content'])}</p>"
        for status, response in operation["responses"].items():
            what = f": {_contents_of(response['content'])}" if "content" in response else ""
            yield f"<p>{status}: {escape(response['description'])}{what}</p>"


def _schemas(document: Json) -> Iterator[str]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        text = f"<p>{escape(schema.get('description', ''))}</p>"
        rows = "".join(
            f"<tr><td><code>{escape(key)}</code>{'*' * (key in schema.get('required', ()))}</td>"
            f"<td>{_type_of(value)}</td><td>{escape(value.get('description', ''))}</td></tr>"
            for key, value in schema.get("properties", {}).items()
        )
        yield f"<details id=schema-{name} open><summary><b>{name}</b></summary>{text}"
        yield f"<table>{rows}</table></details>" if rows else f"{_type_of(schema)}</details>"


def _all(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "head":
                yield path, method, operation


def _anchor(operation: Json) -> str:
    return escape(operation["operationId"])


def _contents_of(content: Json) -> str:
    return "; ".join(
        f"{escape(media)} {_type_of(value['schema'])}" for media, value in content.items()
    )


def _type_of(schema: Json) -> str:
    """A schema in a few words, with links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{name}">{name}</a>'
    for joint in ("anyOf", "oneOf"):
        if joint in schema:
            return " or ".join(_type_of(option) for option in schema[joint])
    if "enum" in schema:
        return " or ".join(f"<code>{_json(value)}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{_json(schema['const'])}</code>"
    if "contentSchema" in schema:
        return f"stream of {_type_of(schema['contentSchema'])}"
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    return escape(kind) + _range(schema)


def _range(schema: Json) -> str:
    names = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
    bounds = [f"{sign} {schema[name]}" for name, sign in names if name in schema]
    if "maxLength" in schema:
        bounds.append(f"at most {schema['maxLength']} characters")
    return f" ({', '.join(bounds)})" if bounds else ""


def _json(value: Any) -> str:
    return escape(orjson.dumps(value).decode())
