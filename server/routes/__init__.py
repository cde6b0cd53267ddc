"""One module per family of endpoints; every one is listed here."""

from slotmux.server.routes import board, chat, completions, docs, health, models, ops, page, text

ROUTES = (board, chat, completions, docs, health, models, ops, page, text)
