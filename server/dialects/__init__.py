"""The APIs of other servers as thin adapters: schemas, mapping and wording, one request path."""

from slotmux.server.dialects.llama import other, routes

ROUTERS = (routes.router, other.router)
