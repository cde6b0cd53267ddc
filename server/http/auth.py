"""API keys, and which routes may be called without one."""

from __future__ import annotations

import hashlib
import hmac

from starlette.datastructures import Headers

from slotmux.server.settings import Access, Settings

# Every route of the app has a policy here; a test fails when one is missing.
POLICIES: dict[str, Access | str] = {
    "/": "public",
    "/health": "public",
    "/livez": "public",
    "/readyz": "public",
    "/version": "key",
    "/openapi.json": "key",
    "/docs": "key",
    "/v1/models": "key",
    "/v1/models/{model_id:path}": "key",
    "/v1/chat/completions": "key",
    "/v1/completions": "key",
    "/tokenize": "key",
    "/detokenize": "key",
    "/apply-template": "key",
    # Anthropic's
    "/v1/messages": "key",
    "/v1/messages/count_tokens": "key",
    "/v1/responses": "key",
    "/v1/responses/input_tokens": "key",
    "/v1/responses/{response_id}": "key",
    "/v1/responses/{response_id}/input_items": "key",
    "/v1/responses/{response_id}/cancel": "key",
    # Ollama's
    "/api/chat": "key",
    "/api/generate": "key",
    "/api/tags": "key",
    "/api/show": "key",
    "/api/ps": "key",
    "/api/version": "key",
    "/api/embed": "key",
    "/api/embeddings": "key",
    "/api/pull": "key",
    "/api/push": "key",
    "/api/create": "key",
    "/api/copy": "key",
    "/api/delete": "key",
    # llama-server's
    "/chat/completions": "key",
    "/models": "key",
    "/completion": "key",
    "/completions": "key",
    "/infill": "key",
    "/slots/{slot_id}": "key",
    "/chat/completions/input_tokens": "key",
    "/v1/chat/completions/input_tokens": "key",
    "/lora-adapters": "key",
    "/embedding": "key",
    "/embeddings": "key",
    "/v1/embeddings": "key",
    "/rerank": "key",
    "/reranking": "key",
    "/v1/rerank": "key",
    "/v1/reranking": "key",
    "/v1/audio/transcriptions": "key",
    "/v1/audio/translations": "key",
    "/v1/audio/speech": "key",
    # these follow the setting of the same name
    "/metrics": "setting",
    "/slots": "setting",
    "/props": "setting",
    "/debug/prefix": "key",
}


class ApiKeys:
    """The keys that are accepted; none configured means that everyone may come in."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = [key.encode() for key in keys]

    @property
    def n_keys(self) -> int:
        """How many are accepted."""
        return len(self._keys)

    @property
    def is_required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._keys)

    def identify(self, headers: Headers) -> str | None:
        """A fingerprint of the key sent ('' if none is needed), or None if it is not accepted.

        All keys are compared, each in constant time.
        """
        if not self._keys:
            return ""
        sent = _sent_key(headers)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key, sent):
                found = key
        return None if found is None else hashlib.sha256(found).hexdigest()[:12]


def is_public(path: str, settings: Settings) -> bool:
    """Whether ``path`` may be read without a key. Unknown paths may not."""
    policy = POLICIES.get(path)
    if policy == "setting":
        return bool(getattr(settings, path[1:]) == "public")
    return policy == "public"


def is_off(path: str, settings: Settings) -> bool:
    """Whether the operator switched the route off."""
    return POLICIES.get(path) == "setting" and getattr(settings, path[1:]) == "off"


def _sent_key(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip().encode("latin-1", "replace")
    return headers.get("x-api-key", "").strip().encode("latin-1", "replace")
