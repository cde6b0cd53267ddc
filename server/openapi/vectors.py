"""What /v1/embeddings, /v1/rerank, /v1/score and their relatives give."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class TextUsage(TypedDict):
    """Tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class Embedding(TypedDict):
    """A text's vector; base64: float32, the lowest byte first."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(TypedDict):
    """Of every text, in order."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: TextUsage


class NativeEmbedding(TypedDict):
    """llama-server's: one vector, or without pooling one of each token."""

    index: int
    embedding: list[list[float]]


class Document(TypedDict):
    """As it came."""

    text: str


class Ranked(TypedDict):
    """A document's place among those of the request, and how well it answers the query."""

    index: int
    relevance_score: float
    document: NotRequired[Document]


class Ranking(TypedDict):
    """The documents, best first."""

    id: str
    object: Literal["list"]
    model: str
    results: list[Ranked]
    usage: TextUsage


class Score(TypedDict):
    """Of a pair of texts."""

    object: Literal["score"]
    index: int
    score: float


class Scores(TypedDict):
    """Of every pair."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Score]
    usage: TextUsage


class OllamaEmbeddings(TypedDict):
    """Of /api/embed; times in ns."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaEmbedding(TypedDict):
    """Of /api/embeddings."""

    embedding: list[float]
