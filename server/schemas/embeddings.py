"""Bodies of /v1/embeddings, /embeddings, /v1/rerank and /v1/score."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from slotmux.server.schemas.base import StrictModel, fault, whole_in_lists
from slotmux.server.schemas.generation import Label
from slotmux.server.schemas.parameters import Place

MAX_TEXTS = 8192
MAX_IDS = 1 << 20
Input = str | list[str] | list[int] | list[list[int]]
EmbdNormalize = Annotated[int, Field(ge=-1, le=64)]


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 2**31 for v in value)


def _texts(value: Any) -> Any:
    """A text, token ids, or a list of either. Checked by hand: errors of a union of lists would
    name every alternative of every element."""
    if isinstance(value, str):
        return value
    value = whole_in_lists(value)
    if not isinstance(value, list):
        raise fault("should be a text, an array of texts, token ids, or an array of these")
    if not value:
        raise fault("should not be empty")
    if isinstance(value[0], int) and not isinstance(value[0], bool):
        return _some_ids(value, "")
    if len(value) > MAX_TEXTS:
        raise fault(f"at most {MAX_TEXTS} texts")
    for i, item in enumerate(value):
        if isinstance(item, list):
            _some_ids(item, f"[{i}]")
        elif not isinstance(item, str):
            raise fault("should be a text or an array of token ids", f"[{i}]")
    return value


def _some_ids(value: list[Any], param: str) -> list[Any]:
    if len(value) > MAX_IDS:
        raise fault(f"at most {MAX_IDS} token ids", param or None)
    if not value or not _is_ids(value):
        raise fault("should be token ids", param or None)
    return value


Texts = Annotated[Any, BeforeValidator(_texts, json_schema_input_type=Input)]


def as_texts(value: Any) -> list[str | list[int]]:
    """The texts of an ``input``, each a text or its token ids."""
    if isinstance(value, str) or isinstance(value[0], int):
        return [value]
    return list(value)


class EmbeddingRequest(StrictModel):
    """Body of POST /v1/embeddings."""

    place: ClassVar[Place | None] = None
    input: Texts
    model: Label | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    user: Label | None = None
    embd_normalize: EmbdNormalize | None = None  # llama-server's
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None  # vLLM's


class NativeEmbeddingRequest(StrictModel):
    """Body of POST /embedding and /embeddings, llama-server's own."""

    place: ClassVar[Place | None] = None
    content: Texts | None = None
    input: Texts | None = None
    model: Label | None = None
    embd_normalize: EmbdNormalize | None = None


class TextDocument(StrictModel):
    """A document as an object."""

    text: str


def _documents(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        raise fault("should be an array of documents, not empty")
    if len(value) > MAX_TEXTS:
        raise fault(f"at most {MAX_TEXTS} documents")
    return value


Documents = Annotated[list[str | TextDocument], BeforeValidator(_documents)]


class RerankRequest(StrictModel):
    """Body of POST /v1/rerank, /rerank and /v2/rerank: Jina's and Cohere's."""

    place: ClassVar[Place | None] = None
    query: str
    documents: Documents
    model: Label | None = None
    top_n: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    return_documents: bool | None = None
    raw_scores: bool | None = None  # Text Embeddings Inference's
    user: Label | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None


def _sides(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise fault("should be a text or an array of texts")
    if len(value) > MAX_TEXTS:
        raise fault(f"at most {MAX_TEXTS} texts")
    return value


Sides = Annotated[Any, BeforeValidator(_sides, json_schema_input_type=str | list[str])]


class ScoreRequest(StrictModel):
    """Body of POST /v1/score and /score: vLLM's."""

    place: ClassVar[Place | None] = None
    text_1: Sides
    text_2: Sides
    model: Label | None = None
    user: Label | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
