"""The APIs of other servers as thin adapters: schemas, mapping and wording, one request path."""

from slotmux.server.dialects.anthropic import routes as anthropic_routes
from slotmux.server.dialects.llama import other, slots
from slotmux.server.dialects.llama import routes as llama_routes
from slotmux.server.dialects.ollama import models
from slotmux.server.dialects.ollama import routes as ollama_routes
from slotmux.server.dialects.responses import routes as responses_routes

# Every module that has endpoints.
DIALECTS = (
    llama_routes,
    other,
    slots,
    anthropic_routes,
    ollama_routes,
    models,
    responses_routes,
)
