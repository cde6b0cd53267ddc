"""Libraries of agents from PyPI: each program is a session, from the question to the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.agents.session import APART, FILE, SYSTEM, WORD

HERE = Path(__file__).parent
ASK = f"Call read for the file {FILE}, then tell me in a sentence what it said."


@pytest.mark.parametrize("program", ["openai_agents", "langgraph_agent", "smol_agent"])
def test_a_session(session, program):
    command = [str(HERE / f"{program}.py"), session.server.url, SYSTEM, ASK]
    answers = session.start(str(APART / "bin" / "python"), *command)
    assert answers
    for answer in answers:
        assert any(WORD in text for text in answer["told"])
        assert answer["answer"]
