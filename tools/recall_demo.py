"""How reliably a served model repeats codewords: `python -m tools.recall_demo http://127.0.0.1:8080`.

Sends the prompts of `tools/demo/recall.py`, several at a time, and prints the share of answers that
hold their word, and those that do not. Needs only a server, such as `slotmux serve demo`.
"""

from __future__ import annotations

import argparse
import asyncio

import httpx

from tools.demo import recall


async def answer(client: httpx.AsyncClient, gate: asyncio.Semaphore, case: recall.Case) -> str:
    """The greedy answer to a case."""
    messages = [{"role": role, "content": content} for role, content in case.messages]
    body = {"messages": messages, "temperature": 0, "max_tokens": 48}
    async with gate:
        response = await client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    return str(response.json()["choices"][0]["message"]["content"])


async def measure(url: str, n: int, n_together: int, seed: int) -> int:
    """How many of ``n`` words came back; prints the failures."""
    cases = recall.cases(n, seed)
    gate = asyncio.Semaphore(n_together)
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        answers = await asyncio.gather(*(answer(client, gate, case) for case in cases))
    pairs = list(zip(cases, answers, strict=True))
    failures = [(case, text) for case, text in pairs if case.word not in text]
    for case, text in failures:
        print(f"{case.word}: ...{case.messages[-1][1][-60:]!r} -> {text!r}")
    return n - len(failures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="of the server")
    parser.add_argument("--n", type=int, default=1000, help="codewords")
    parser.add_argument("--together", type=int, default=8, help="requests at the same time")
    parser.add_argument("--seed", type=int, default=2024)
    args = parser.parse_args()
    n_right = asyncio.run(measure(args.url, args.n, args.together, args.seed))
    print(f"{n_right} of {args.n} codewords repeated: {100 * n_right / args.n:.1f} %")


if __name__ == "__main__":
    main()
