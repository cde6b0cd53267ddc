"""A session of smolagents, which calls tools: `python smol_agent.py URL SYSTEM ASK`."""

import json
import sys
from pathlib import Path

from smolagents import OpenAIModel, ToolCallingAgent, tool

url, system, ask = sys.argv[1:]


@tool
def read(path: str) -> str:
    """Reads a file.

    Args:
        path: Name of the file.
    """
    return Path(path).read_text()


model = OpenAIModel("coder", api_base=f"{url}/v1", api_key="none", max_tokens=128)
agent = ToolCallingAgent(
    [read], model, instructions=system, max_steps=4, verbosity_level=0, stream_outputs=False
)
answer = agent.run(ask)
told = [step.observations for step in agent.memory.steps if getattr(step, "observations", None)]
print(json.dumps({"told": told, "answer": str(answer)}))
