"""What a person at the terminal is told once a model is served: where, and what to do there."""

from __future__ import annotations

from slotmux.server.settings import Settings

# Addresses to listen on that nobody can go to.
_ANYWHERE = ("//0.0.0.0:", "//[::]:")


def welcome(url: str, settings: Settings) -> str:
    """``url``: where the server listens. Several lines, an example among them."""
    for everywhere in _ANYWHERE:
        url = url.replace(everywhere, "//127.0.0.1:")
    key = " -H 'Authorization: Bearer KEY'" if settings.api_keys else ""
    key_flag = " --api-key KEY" if settings.api_keys else ""
    page = f"\n  {url}/ is a page: a chat, and what the server does.\n" if settings.webui else ""
    return f"""{page}
  {url}/v1 is an OpenAI-compatible API, {url}/docs tells all of it.

  curl {url}/v1/chat/completions{key} \\
    -H 'Content-Type: application/json' \\
    -d '{{"messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'

  slotmux chat {url}{key_flag}    talks to it
  slotmux top {url}{key_flag}     shows what it does
"""
