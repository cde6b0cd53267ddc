"""The APIs of other servers as thin adapters: schemas, mapping and wording, one request path."""

from slotmux.server.dialects.anthropic import routes as anthropic_routes
from slotmux.server.dialects.llama import other, routes, slots
from slotmux.server.dialects.ollama import models as ollama_models
from slotmux.server.dialects.ollama import routes as ollama_routes
from slotmux.server.dialects.responses import routes as responses_routes

ROUTERS = (
    routes.router,
    other.router,
    slots.router,
    anthropic_routes.router,
    ollama_routes.router,
    ollama_models.router,
    responses_routes.router,
)
