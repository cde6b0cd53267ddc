"""The APIs of other servers as thin adapters: schemas, mapping and wording, one request path."""

from slotmux.server.dialects.anthropic import routes as anthropic
from slotmux.server.dialects.llama import other, slots
from slotmux.server.dialects.llama import routes as llama
from slotmux.server.dialects.ollama import models
from slotmux.server.dialects.ollama import routes as ollama
from slotmux.server.dialects.responses import routes as responses

# Every module that has endpoints.
DIALECTS = (llama, other, slots, anthropic, ollama, models, responses)
