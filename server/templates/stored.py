"""The chat templates that a model file holds: one, or several by name, in all the ways converters
write them."""

from __future__ import annotations

import json
from typing import Any

from slotmux.runtime.gguf import Metadata

TEMPLATE_KEY = "tokenizer.chat_template"
NAMES_KEY = "tokenizer.chat_templates"
DEFAULT = "default"


def stored_template(metadata: Metadata) -> str | None:
    """The file's template for a conversation; None if it has none that is not empty.

    Of several that is the one without a name or called ``default``, else the first. What is stored
    in no form that is known counts as absent, with a warning.
    """
    templates = stored_templates(metadata)
    return templates.get(DEFAULT) or next(iter(templates.values()), None)


def stored_templates(metadata: Metadata) -> dict[str, str]:
    """All that are not empty, by name."""
    found = {name: text for name, text in _main(metadata).items() if text.strip()}
    none: list[str] = []
    names = metadata.tolerant(NAMES_KEY, none, lambda key, _: metadata.get_strings(key, none))
    listed = {f"{TEMPLATE_KEY}.{name}" for name in names}
    # Some converters leave out the list of names.
    for key in metadata:
        if key in listed or key.startswith(f"{TEMPLATE_KEY}."):
            text = metadata.tolerant(key, "", metadata.get_str)
            if text.strip():
                found.setdefault(key.removeprefix(f"{TEMPLATE_KEY}."), text)
    return found


def _main(metadata: Metadata) -> dict[str, str]:
    """What the key without a name holds."""
    value = metadata.get(TEMPLATE_KEY)
    if value is None:
        return {}
    if isinstance(value, str):
        named = _from_json(value)
        return {DEFAULT: value} if named is None else named
    if isinstance(value, list):
        texts: dict[str, str] = {}
        for i, text in enumerate(value):
            named = _from_json(text)
            texts |= {str(i): text} if named is None else named
        return texts
    metadata.warn(TEMPLATE_KEY, "expected a string; ignored")
    return {}


def _from_json(text: str) -> dict[str, str] | None:
    """Named templates that a converter stored as the JSON of tokenizer_config.json; None if
    ``text`` is none of that."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None  # Jinja begins like this too
    if isinstance(value, dict) and set(value) == {"name", "template"}:
        value = [value]
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        value = {item.get("name"): item.get("template") for item in value}
    return value if _is_named(value) else None


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(text, str) for name, text in value.items()
    )
