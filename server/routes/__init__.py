"""One module per family of endpoints; every one is listed here."""

from slotmux.server.routes import (
    board,
    chat,
    completions,
    docs,
    embeddings,
    health,
    models,
    ops,
    page,
    ranking,
    text,
)

ROUTES = (board, chat, completions, docs, embeddings, health, models, ops, page, ranking, text)
