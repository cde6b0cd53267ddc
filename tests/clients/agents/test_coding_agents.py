"""Coding agents from npm: each reads a file because the model says so, and ends by itself."""

from __future__ import annotations

import json

from tests.clients.agents.session import FILE, SYSTEM, WORD
from tests.clients.page import snippet, variables

CAT = f"Run the shell command: cat {FILE}"
READ = f"Read the file {FILE} with the {{}} tool, then tell me the word in it."


def test_claude_code(session):
    events = session.run(
        "claude", "-p", READ.format("Read"), "--bare", "--tools", "Read", "--allowedTools", "Read",
        "--system-prompt", SYSTEM, "--output-format", "stream-json", "--verbose",
        "--no-session-persistence",
        **variables("Claude Code", session.server.url),
    )  # fmt: skip
    told = [event for event in events if event["type"] == "user"]
    assert any(WORD in json.dumps(event) for event in told)
    assert events[-1]["type"] == "result"
    assert not events[-1]["is_error"]


def test_codex(session):
    instructions = session.home / "instructions.md"
    instructions.write_text(SYSTEM)
    (session.home / ".codex").mkdir()
    (session.home / ".codex" / "config.toml").write_text(
        f'model_instructions_file = "{instructions}"\nweb_search = "disabled"\n'
        + snippet("Codex", session.server.url)
    )
    off = ["multi_agent", "goals", "plugins", "apps", "image_generation", "skill_search"]
    events = session.run(
        "codex", "exec", "--json", "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        *(word for name in off for word in ("--disable", name)), CAT,
    )  # fmt: skip
    done = [event["item"] for event in events if event["type"] == "item.completed"]
    assert any(WORD in item.get("aggregated_output", "") for item in done)
    assert events[-1]["type"] == "turn.completed"


def test_qwen_code(session):
    events = session.run(
        "qwen", READ.format("read_file"), "--bare", "--core-tools", "read_file", "--exclude-tools",
        "edit", "notebook_edit", "run_shell_command", "--system-prompt", SYSTEM, "--auth-type",
        "openai", "--yolo", "--output-format", "stream-json",
        **variables("Qwen Code", session.server.url),
    )  # fmt: skip
    told = [event for event in events if event["type"] == "user"]
    assert any(WORD in json.dumps(event) for event in told)
    assert events[-1]["type"] == "result"
    assert not events[-1]["is_error"]


def test_opencode(session):
    settings = json.loads(snippet("opencode", session.server.url))
    only = {"prompt": SYSTEM, "permission": {"*": "deny", "read": "allow"}}
    settings["agent"] = {"build": only}
    (session.folder / "opencode.json").write_text(json.dumps(settings))
    events = session.run("opencode", "run", "--format", "json", READ.format("read"))
    assert any(event["type"] == "tool_use" and WORD in json.dumps(event) for event in events)
    assert events[-1]["type"] == "step_finish"
