"""slotmux on Ray Serve (pip install 'slotmux[ray]'): `serve run slotmux.deploy.ray:app model=demo`.

A replica is one slotmux process on cores of its own. A front takes HTTP, has Ray choose a replica
for each request, and relays bytes: Ray counts and routes requests, and never touches a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application


def app(args: dict[str, Any]) -> Application:
    """What `serve run` and Serve's config files name; ``args``: see application.app."""
    # Ray is imported here, so that what needs none of it can be tested without.
    from slotmux.deploy.ray import application

    return application.app(args)
