"""`slotmux crossbleed`: does a live server keep its clients apart?"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slotmux.server.commands.options import JsonOpt, argument, option
from slotmux.server.loading.errors import CommandError

if TYPE_CHECKING:
    import httpx

    from slotmux.server.crossbleed.checks import CheckResult, Crowd

MAX_SHOWN_FAILURES = 10


def crossbleed(
    url: Annotated[str, argument("URL", "Server to test, such as http://127.0.0.1:8080.")],
    clients: Annotated[int, option("--clients", min=2, help="Requests sent at once.")] = 8,
    rounds: Annotated[int, option("--rounds", min=1, help="Times each check is made.")] = 3,
    model: Annotated[str, option("--model", help="Model to ask; default: the first.")] = "",
    api_key: Annotated[str, option("--api-key", help="Key sent as bearer token.")] = "",
    max_tokens: Annotated[int, option("--n-predict", min=1, help="Tokens an answer.")] = 32,
    timeout: Annotated[float, option("--timeout", min=1, help="Seconds for one answer.")] = 600,
    seed: Annotated[int, option("--seed", help="Same words and delays again; -1: random.")] = -1,
    as_json: JsonOpt = False,
) -> None:
    """Test that a live OpenAI-compatible server never mixes up its clients.

    - codeword: each client's prompt holds its own random word, no answer may hold another's
    - identical: equal greedy prompts sent at once get one distinct answer
    - solo: each answer and its logprobs in the crowd equal those of the same request sent alone

    Exit status 0: all passed, 1: a check failed, 2: the server could not be asked.
    """
    # An HTTP client takes a while to import, which the other commands need not wait for.
    import httpx

    from slotmux.server.crossbleed.checks import Crowd
    from slotmux.server.crossbleed.client import Client, ServerRefusedError

    seed = secrets.randbelow(2**31) if seed < 0 else seed
    http = httpx.AsyncClient(
        base_url=_api_url(url),
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=timeout,
        limits=httpx.Limits(max_connections=clients),
    )
    client = Client(http, model)
    crowd = Crowd(client, clients, rounds, random.Random(seed), max_tokens)
    try:
        results = asyncio.run(run_checks(http, crowd))
    except (ServerRefusedError, httpx.InvalidURL) as error:
        raise CommandError(f"cannot ask {url}: {error}") from error
    report = _print_json if as_json else _print_table
    report(url, crowd, seed, results)
    raise typer.Exit(0 if all(result.passed for result in results) else 1)


async def run_checks(http: httpx.AsyncClient, crowd: Crowd) -> list[CheckResult]:
    """Probe the server, make all checks one after the other, close the client."""
    from slotmux.server.crossbleed.checks import CHECKS

    async with http:
        await crowd.client.probe()
        return [await check(crowd) for check in CHECKS.values()]


def _api_url(url: str) -> str:
    """The URL that paths such as chat/completions are relative to; a missing /v1 is added."""
    url = url.rstrip("/")
    if "://" not in url:
        url = f"http://{url}"
    return f"{url}/" if url.endswith("/v1") else f"{url}/v1/"


def _print_json(url: str, crowd: Crowd, seed: int, results: list[CheckResult]) -> None:
    report = {
        "url": url,
        "model": crowd.client.model,
        "clients": crowd.n_clients,
        "rounds": crowd.n_rounds,
        "seed": seed,
        "logprobs": crowd.client.has_logprobs,
        "passed": all(result.passed for result in results),
        "checks": [
            {
                "check": result.name,
                "passed": result.passed,
                "n_requests": result.n_requests,
                "failures": result.failures,
                "notes": result.notes,
            }
            for result in results
        ],
    }
    print(json.dumps(report))


def _print_table(url: str, crowd: Crowd, seed: int, results: list[CheckResult]) -> None:
    console = Console()
    crowd_size = f"{crowd.n_clients} clients, {crowd.n_rounds} rounds, seed {seed}"
    console.print(f"{escape(crowd.client.model)} at {escape(url)}: {crowd_size}", highlight=False)
    table = Table()
    table.add_column("check")
    table.add_column("result")
    table.add_column("requests", justify="right")
    table.add_column("what happened", overflow="fold")
    for result in results:
        shown = result.failures[:MAX_SHOWN_FAILURES]
        if len(shown) < len(result.failures):
            shown.append(f"and {len(result.failures) - len(shown)} more")
        verdict = "[green]passed" if result.passed else "[bold red]FAILED"
        details = "\n".join(shown + result.notes)
        table.add_row(result.name, verdict, str(result.n_requests), escape(details))
    console.print(table)
