"""A coding agent's session as it goes over the wire: 40 calls, each with all that was said before
and one more result of a tool, growing to some 20,000 tokens. Always the same."""

from __future__ import annotations

from random import Random
from typing import Any

N_CALLS = 40
WORDS = (
    "the file reads lines until a test fails and the parser returns none when an error is raised"
    " so we check each value before it is used again in the loop that builds a list of names"
)
TOOLS = {
    "Read": "Reads a file and returns its lines with numbers.",
    "Edit": "Replaces a string in a file by another one, which must be unique.",
    "Bash": "Runs a command and returns what it printed.",
    "Grep": "Looks for a pattern in all files below a folder.",
}
SYSTEM = (
    "You are an agent that works on code. Use the tools; never guess what is in a file. "
    "Say in one line what you do and why. Run the tests before you say that you are done. "
) * 6
BILLING = "x-anthropic-billing-header: cc_version=2.1.9.{:03x}; cc_entrypoint=cli; cch={:05x};"


def text(seed: str, n_words: int) -> str:
    """Prose of a tool's kind."""
    rng = Random(seed)
    lines = range(n_words // 12)
    return "\n".join(f"{i + 1} " + " ".join(rng.choices(WORDS.split(), k=12)) for i in lines)


def calls(system_changes: bool) -> list[dict[str, Any]]:
    """Bodies of POST /v1/messages, in order. ``system_changes``: as Claude Code does it, a block of
    the system prompt is another one in every request."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "The test of the parser fails. Find out why and mend it."}
    ]
    bodies = []
    for number in range(N_CALLS):
        system: list[dict[str, Any]] = [{"type": "text", "text": SYSTEM}]
        if system_changes:
            header = BILLING.format(number, 7919 * number)
            system.insert(0, {"type": "text", "text": header})
        bodies.append(
            {
                "model": "default",
                "max_tokens": 12,
                "temperature": 0,
                "system": system,
                "tools": [_tool(name, told) for name, told in TOOLS.items()],
                "messages": [*messages],
            }
        )
        messages += _step(number)
    return bodies


def _tool(name: str, told: str) -> dict[str, Any]:
    path = {"type": "string", "description": "Where it is."}
    schema = {"type": "object", "properties": {"path": path}, "required": ["path"]}
    return {"name": name, "description": told, "input_schema": schema}


def _step(number: int) -> list[dict[str, Any]]:
    """What the agent said, and what its tool returned."""
    call = {
        "type": "tool_use",
        "id": f"toolu_{number:04d}",
        "name": list(TOOLS)[number % len(TOOLS)],
        "input": {"path": f"src/part_{number}.py"},
    }
    said = {"type": "text", "text": f"I look at part {number}."}
    result = {
        "type": "tool_result",
        "tool_use_id": f"toolu_{number:04d}",
        "content": text(str(number), 60 + 97 * number % 480),
    }
    return [{"role": "assistant", "content": [said, call]}, {"role": "user", "content": [result]}]
