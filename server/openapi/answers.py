"""The shapes of answers, as OpenAPI tells them; tests hold real answers against them."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class Usage(TypedDict):
    """Tokens of all choices; a shared prompt counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: NotRequired[dict[str, int]]  # where thoughts are told apart


class Timings(TypedDict):
    """llama-server's; times in milliseconds."""

    cache_n: int
    cache_memory_n: NotRequired[int]  # of cache_n, where the disk brought some of them
    cache_disk_n: NotRequired[int]
    cache_miss: NotRequired[str]  # why no more of the prompt was in the cache
    cache_miss_at: NotRequired[int]  # tokens of the prompt that are known, state or not
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    draft_n: NotRequired[int]
    draft_n_accepted: NotRequired[int]


class TokenLogprob(TypedDict):
    """A token and its natural log-probability."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: NotRequired[list[TokenLogprob]]


class ChatLogprobs(TypedDict):
    """One entry a token."""

    content: list[TokenLogprob]
    refusal: None


class CompletionLogprobs(TypedDict):
    """Parallel lists, one element a token; offsets count characters."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class PromptLogprob(TypedDict):
    """vLLM's: of a token that stands in the prompt, or could."""

    logprob: float
    rank: int
    decoded_token: str


# For each token of a prompt, by id; the first has none.
PromptLogprobs = list[dict[str, PromptLogprob] | None]
FinishReason = Literal["stop", "length", "tool_calls", "function_call"]


class CalledFunction(TypedDict):
    """What is called; the arguments are a JSON text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(TypedDict):
    """What the assistant says; its thought is told under both of the names that clients know."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: NotRequired[str]
    reasoning: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    function_call: NotRequired[CalledFunction]


class ChatChoice(TypedDict):
    """One of the n answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    token_ids: NotRequired[list[int]]


class ChatCompletion(TypedDict):
    """An answer that is not streamed."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    prompt_token_ids: NotRequired[list[int]]
    prompt_logprobs: NotRequired[PromptLogprobs]
    usage: Usage
    timings: Timings


class FunctionPiece(TypedDict):
    """A piece of a call's arguments; the first piece has the name."""

    name: NotRequired[str]
    arguments: str


class ToolPiece(TypedDict):
    """A piece of a call; the first has its id."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionPiece


class Delta(TypedDict, total=False):
    """What a chunk adds to the message."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str
    reasoning: str
    tool_calls: list[ToolPiece]
    function_call: FunctionPiece


class ChunkChoice(TypedDict):
    """One choice's part of a chunk."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    token_ids: NotRequired[list[int]]


class ChatChunk(TypedDict):
    """The data of an event of a streamed answer; the last event's is [DONE]."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    prompt_token_ids: NotRequired[list[int]]
    usage: NotRequired[Usage | None]
    timings: NotRequired[Timings]


class CompletionChoice(TypedDict):
    """Choice i of prompt p has the index p * n + i. In a chunk, ``finish_reason`` may be null."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    token_ids: NotRequired[list[int]]
    prompt_token_ids: NotRequired[list[int]]
    prompt_logprobs: NotRequired[PromptLogprobs]


class Completion(TypedDict):
    """An answer, or the data of an event of a streamed one."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]
    timings: NotRequired[Timings]


class ModelEntry(TypedDict):
    """A name of the served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    capabilities: list[str]
    meta: dict[str, str | int]


class ModelList(TypedDict):
    """Every name."""

    object: Literal["list"]
    data: list[ModelEntry]


class Piece(TypedDict):
    """A token and its text, or its bytes where they are no whole characters."""

    id: int
    piece: str | list[int]


class Tokens(TypedDict):
    """Token ids, with pieces where they were asked for."""

    tokens: list[int] | list[Piece]


class Content(TypedDict):
    """A text."""

    content: str


class Prompt(TypedDict):
    """The text that messages become."""

    prompt: str


class Version(TypedDict):
    """The server's."""

    version: str


class Status(TypedDict):
    """What a probe hears when all is well."""

    status: Literal["ok"]
