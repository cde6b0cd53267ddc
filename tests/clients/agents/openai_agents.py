"""A session of OpenAI's Agents SDK: `python openai_agents.py URL SYSTEM ASK`."""

import json
import sys
from pathlib import Path

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

url, system, ask = sys.argv[1:]
set_tracing_disabled(True)
client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none")


@function_tool
def read(path: str) -> str:
    """Reads a file."""
    return Path(path).read_text()


for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
    agent = Agent(
        name="reader", instructions=system, tools=[read], model=kind("coder", client),
        model_settings=ModelSettings(tool_choice="required", parallel_tool_calls=False),
    )  # fmt: skip
    found = Runner.run_sync(agent, ask, max_turns=6)
    told = [item.output for item in found.new_items if item.type == "tool_call_output_item"]
    print(json.dumps({"told": told, "answer": found.final_output}))
