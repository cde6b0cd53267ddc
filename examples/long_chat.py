"""A chat that grows: how much of each turn's prompt came from the cache."""

from __future__ import annotations

from connect import KEY, URL
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

QUESTIONS = ("What is a river?", "Where does it begin?", "Where does it end?", "Why is it wet?")

client = OpenAI(base_url=URL, api_key=KEY)
model = client.models.list().data[0].id
messages: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You answer in one short sentence."}
]
for question in QUESTIONS:
    messages.append({"role": "user", "content": question})
    result = client.chat.completions.create(
        model=model, messages=messages, max_tokens=24, temperature=0
    )
    messages.append({"role": "assistant", "content": result.choices[0].message.content or ""})
    usage = result.usage
    assert usage is not None
    details = usage.prompt_tokens_details
    n_cached = details.cached_tokens if details is not None else 0
    print(f"{usage.prompt_tokens:4} prompt tokens, {n_cached} of them from the cache")
