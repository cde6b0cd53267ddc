"""How likely each token of an answer was, and what else was likely."""

from __future__ import annotations

import math

from connect import KEY, URL
from openai import OpenAI

client = OpenAI(base_url=URL, api_key=KEY)
result = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": "What is the capital of France?"}],
    max_tokens=12,
    temperature=0,
    logprobs=True,
    top_logprobs=3,
)
logprobs = result.choices[0].logprobs
assert logprobs is not None
for token in logprobs.content or ():
    others = ", ".join(f"{o.token!r} {math.exp(o.logprob):.0%}" for o in token.top_logprobs[1:])
    print(f"{token.token!r:>14} {math.exp(token.logprob):5.0%}   else {others}")
