"""LlamaIndex through its class for servers that are like OpenAI."""

from __future__ import annotations

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.fixture(scope="module")
def llm(small):
    return OpenAILike(
        model="coder", api_base=f"{small}/v1", api_key="none", temperature=0, max_tokens=96,
        is_chat_model=True, is_function_calling_model=True, context_window=8192, max_retries=0,
    )  # fmt: skip


def test_complete_and_chat(llm):
    assert llm.complete("Say hello.").text
    messages = [ChatMessage(role="user", content="Say hello.")]
    assert llm.chat(messages).message.content
    *_, last = llm.stream_chat(messages)
    assert last.message.content == llm.chat(messages).message.content


async def test_async(llm):
    assert (await llm.acomplete("Say hello.")).text


def test_a_tool(llm):
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    tool = FunctionTool.from_defaults(add)
    answer = llm.chat_with_tools([tool], user_msg="What is 3 plus 4?", tool_required=True)
    (call, *_) = llm.get_tool_calls_from_response(answer)
    assert call.tool_name == "add"
    assert set(call.tool_kwargs) == {"a", "b"}


def test_a_structured_answer(llm):
    asked = llm.as_structured_llm(Person)
    assert isinstance(asked.complete("Ada is 36 years old.").raw, Person)
