"""The APIs of other servers as thin adapters: schemas, mapping and wording, one request path."""

from slotmux.server.dialects.anthropic import routes as anthropic_routes
from slotmux.server.dialects.llama import embeddings as llama_embeddings
from slotmux.server.dialects.llama import other, slots
from slotmux.server.dialects.llama import routes as llama_routes
from slotmux.server.dialects.ollama import embed, models
from slotmux.server.dialects.ollama import routes as ollama_routes
from slotmux.server.dialects.responses import routes as responses_routes

# Every module that has endpoints.
DIALECTS = (
    llama_routes,
    llama_embeddings,
    other,
    slots,
    anthropic_routes,
    ollama_routes,
    embed,
    models,
    responses_routes,
)
