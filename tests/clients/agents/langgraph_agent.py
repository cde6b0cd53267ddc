"""A session of LangChain's agent on LangGraph: `python langgraph_agent.py URL SYSTEM ASK`."""

import json
import sys
from pathlib import Path

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

url, system, ask = sys.argv[1:]


def read(path: str) -> str:
    """Reads a file."""
    return Path(path).read_text()


model = ChatOpenAI(model="coder", base_url=f"{url}/v1", api_key="none", max_retries=0)
agent = create_agent(model, [read], system_prompt=system)
messages = None
for state in agent.stream(
    {"messages": [("user", ask)]}, {"recursion_limit": 12}, stream_mode="values"
):
    messages = state["messages"]
told = [message.text for message in messages if message.type == "tool"]
print(json.dumps({"told": told, "answer": messages[-1].text}))
