"""One module per family of endpoints; every one is listed here."""

from slotmux.server.routes import chat, completions, docs, health, models, ops, text

ROUTES = (chat, completions, docs, health, models, ops, text)
