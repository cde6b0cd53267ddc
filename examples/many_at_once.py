"""Sixteen clients at once: each gets, bit for bit, what it gets alone.

The same requests are sent one after the other and all together, with a temperature and a seed of
their own; texts and log-probabilities must be equal to the last bit. No other server keeps this.
"""

from __future__ import annotations

import asyncio

from connect import KEY, URL
from openai import AsyncOpenAI

TOPICS = (
    *("the sea", "a bridge", "winter", "bread", "a clock", "bees", "a train", "paper"),
    *("the moon", "tea", "a map", "snow", "glass", "a garden", "wind", "salt"),
)


async def answer(client: AsyncOpenAI, model: str, i: int) -> list[tuple[str, float]]:
    """Tokens of one answer with their log-probabilities."""
    result = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"Tell me about {TOPICS[i]}."}],
        max_tokens=24,
        temperature=0.8,
        seed=i,
        logprobs=True,
    )
    logprobs = result.choices[0].logprobs
    assert logprobs is not None
    return [(token.token, token.logprob) for token in logprobs.content or ()]


async def main() -> None:
    async with AsyncOpenAI(base_url=URL, api_key=KEY) as client:
        model = (await client.models.list()).data[0].id
        alone = [await answer(client, model, i) for i in range(len(TOPICS))]
        together = await asyncio.gather(*(answer(client, model, i) for i in range(len(TOPICS))))
    n_equal = sum(a == b for a, b in zip(alone, together, strict=True))
    print(f"{n_equal} of {len(TOPICS)} answers are the same, bit for bit")
    if n_equal < len(TOPICS):
        raise SystemExit(1)


asyncio.run(main())
