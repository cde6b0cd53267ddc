"""The application: replicas of each model, and the front before them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, BackpressureConfig, RequestRouterConfig

from slotmux.deploy.ray.front import Front
from slotmux.deploy.ray.options import ModelOptions, Options
from slotmux.deploy.ray.replica import IngressReplica, Replica
from slotmux.server.process.state import DEFAULT_NAME
from slotmux.server.settings import SettingsError

_ROUTERS = {
    "prefix": "slotmux.deploy.ray.router.PrefixRouter",
    "session": "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter",
}
_FRONT_FIELDS = ("path", "fronts")


def app(args: dict[str, Any]) -> Application:
    """For `serve run slotmux.deploy.ray:app model=demo replicas=2` and for Serve's config files.

    ``args``: the fields of Options, or of one ModelOptions. Settings of `slotmux serve` may stand
    among them by their names. Raises SettingsError.
    """
    return build(options_of(args))


def options_of(args: dict[str, Any]) -> Options:
    """What ``args`` of `app` say. Raises SettingsError."""
    try:
        return _options(args)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{where}: {first['msg']}") from None


def _options(args: dict[str, Any]) -> Options:
    if "models" in args:
        return Options.model_validate(args)
    front = {name: args[name] for name in _FRONT_FIELDS if name in args}
    known = ModelOptions.model_fields
    rest = {name: value for name, value in args.items() if name not in front}
    settings = rest.pop("settings", {})
    named = {name: value for name, value in rest.items() if name in known}
    settings = settings | {name: value for name, value in rest.items() if name not in known}
    models = {DEFAULT_NAME: named | {"settings": settings}}
    return Options.model_validate({"models": models} | front)


def build(options: Options) -> Application:
    """The application of ``options``."""
    if options.path == "ingress":
        (name, chosen), *_ = options.models.items()
        return _replicas(name, chosen, serve.ingress()(IngressReplica))
    models = {name: _replicas(name, each, Replica) for name, each in options.models.items()}
    front = serve.deployment(
        serve.ingress()(Front),
        name="Front",
        num_replicas=options.fronts,
        max_ongoing_requests=sum(
            max(each.replicas, each.max_replicas) * each.n_ongoing
            for each in options.models.values()
        ),
        graceful_shutdown_timeout_s=max(e.drain_timeout for e in options.models.values()),
        ray_actor_options={"num_cpus": 0},
    )
    return front.bind(models)


def _replicas(name: str, chosen: ModelOptions, kind: type) -> Application:
    deployment = serve.deployment(
        kind,
        name=f"slotmux:{name}",
        max_ongoing_requests=chosen.n_ongoing,
        # More than that waits in no replica, and not long here.
        max_queued_requests=chosen.n_ongoing,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=2),
        graceful_shutdown_timeout_s=chosen.drain_timeout,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=5.0,
        max_surge_percent=chosen.max_surge_percent,
        ray_actor_options={"num_cpus": chosen.cores, "resources": chosen.resources},
        **_router(chosen),
        **_count(chosen),
    )
    return deployment.bind(name, chosen.model_dump())


def _router(chosen: ModelOptions) -> dict[str, Any]:
    router = _ROUTERS.get(chosen.routing)
    if router is None:
        return {}
    return {"request_router_config": RequestRouterConfig(request_router_class=router)}


def _count(chosen: ModelOptions) -> dict[str, Any]:
    if chosen.max_replicas <= chosen.replicas:
        return {"num_replicas": chosen.replicas}
    scaling = AutoscalingConfig(
        min_replicas=chosen.replicas,
        max_replicas=chosen.max_replicas,
        target_ongoing_requests=chosen.n_slots,
    )
    return {"autoscaling_config": scaling}
