"""The APIs of other servers as thin adapters: schemas, mapping and wording, one request path."""

from slotmux.server.dialects.anthropic import routes as anthropic_routes
from slotmux.server.dialects.llama import other, routes

ROUTERS = (routes.router, other.router, anthropic_routes.router)
