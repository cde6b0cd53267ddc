"""OpenAI's answers: a stream of events byte for byte, or one body.

Per token of a stream only the text is encoded: the rest is ready.
"""

from __future__ import annotations

from typing import Any

import orjson

from slotmux.runtime.engine.request import Output
from slotmux.runtime.prompt_logprobs import PromptLogprobs
from slotmux.server.answers.answer import (
    REASONING_FIELDS,
    Answer,
    finish_word,
    whole_answer,
)
from slotmux.server.answers.delta import Delta, Reader, ToolDelta, finish_text
from slotmux.server.answers.generation import ChoiceOutput, Generation
from slotmux.server.answers.logprobs import LogprobsFormat
from slotmux.server.answers.prompt_scores import ScoresFirst
from slotmux.server.answers.usage import timings_object, usage_object
from slotmux.server.http.errors import ApiError

DONE = b"data: [DONE]\n\n"
_dumps = orjson.dumps


class ChunkWriter:
    """Implements stream.Writer. Without readers (Answer.new_reader) all text is content."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.n_left = answer.n_choices  # those whose last chunk is still to come
        self._usage_null = b',"usage":null' if answer.with_usage_chunk else b""
        head = _dumps(answer.head(is_chunk=True))
        self._head = b"data: " + head[:-1] + b',"choices":['
        is_chat = answer.kind == "chat"
        opening = b'"delta":{"content":' if is_chat else b'"text":'
        self._before = [
            self._head + b'{"index":%d,' % index + opening for index in range(answer.n_choices)
        ]
        self._after_text = b"}" if is_chat else b""
        self._after = self._after_text + b',"logprobs":null,"finish_reason":null}]'
        self._after += self._usage_null + b"}\n\n"
        make = answer.new_logprobs
        self._logprobs: list[LogprobsFormat] | None = (
            None if make is None else [make() for _ in range(answer.n_choices)]
        )
        new = answer.new_reader
        self._readers: list[Reader] | None = (
            None if new is None else [new() for _ in range(answer.n_choices)]
        )
        self._outputs: list[list[Output]] = [[] for _ in range(answer.n_choices)]
        is_echoed = answer.scores is not None and answer.scores.are_echoed
        self._scores_first = ScoresFirst(answer.n) if is_echoed else None
        # Tokens of each choice so far, where every chunk tells them.
        self._n_tokens = [0] * answer.n_choices if answer.has_continuous_usage else None

    def opening(self) -> bytes:
        """The role of each chat choice, or the echoed prompts of completions; those with
        log-probabilities come when these are known."""
        if self._scores_first is not None:
            return b""
        return b"".join(self._opening_of(index) for index in range(self._answer.n_choices))

    def events(self, choices: list[ChoiceOutput], generation: Generation) -> bytes:
        """The chunks of these Outputs; with the last one also the end of the stream."""
        parts: list[bytes] = []
        is_plain = self._logprobs is None and not self._answer.with_token_ids
        is_plain = is_plain and self._n_tokens is None
        if self._scores_first is not None:
            choices = self._scores_first.order(choices)
        for index, output in choices:
            if output.prompt_logprobs is not None:
                parts.append(self._echoes(index // self._answer.n, output.prompt_logprobs))
            if self._n_tokens is not None:
                self._n_tokens[index] += len(output.token_ids)
            if self._readers is not None:
                parts.append(self._read_chunks(index, output, self._readers[index]))
            elif not is_plain:
                parts.append(self._rich_chunk(index, output))
            elif output.text:
                parts += (self._before[index], _dumps(output.text), self._after)
            if output.finish_reason is not None:
                parts.append(self._finish_chunk(index, output, generation))
        return b"".join(parts)

    def take(self, choices: list[ChoiceOutput], generation: Generation) -> None:
        """Keeps Outputs for ``whole``."""
        for index, output in choices:
            self._outputs[index].append(output)
            self.n_left -= output.finish_reason is not None

    def whole(self, generation: Generation) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        return whole_answer(self._answer, generation, self._outputs)

    def error(self, error: ApiError) -> bytes:
        """The event that ends a stream which went wrong; no [DONE] comes after it."""
        return b"data: " + _dumps(error.body()) + b"\n\n"

    def _echoes(self, prompt: int, found: PromptLogprobs) -> bytes:
        """The opening of each choice of an echoed prompt, with its log-probabilities."""
        answer = self._answer
        if self._scores_first is None or answer.scores is None or self._logprobs is None:
            return b""
        logprobs = answer.scores.echoed(prompt, found)
        parts = []
        for index in range(prompt * answer.n, (prompt + 1) * answer.n):
            self._logprobs[index].begin_at(len(answer.echo_of(index)))
            parts.append(self._opening_of(index, logprobs))
        return b"".join(parts)

    def _usage(self, index: int) -> bytes:
        """The usage of a chunk of a choice."""
        if self._n_tokens is None:
            return self._usage_null
        n_prompt = len(self._answer.prompts[index // self._answer.n])
        n = self._n_tokens[index]
        return b',"usage":' + _dumps(
            {"prompt_tokens": n_prompt, "completion_tokens": n, "total_tokens": n_prompt + n}
        )

    def _opening_of(self, index: int, logprobs: dict[str, Any] | None = None) -> bytes:
        answer = self._answer
        extra: dict[str, Any] = {}
        if answer.kind == "chat":
            choice: dict[str, Any] = {"delta": {"role": "assistant", "content": ""}}
            if answer.with_token_ids and index == 0:
                extra = {"prompt_token_ids": answer.prompts[0]}
            return self._chunk(index, choice, extra)
        choice = {"text": answer.echo_of(index)}
        if answer.with_token_ids:
            choice["prompt_token_ids"] = answer.prompts[index // answer.n]
        elif not choice["text"]:
            return b""
        return self._chunk(index, choice, extra, logprobs=logprobs)

    def _read_chunks(self, index: int, output: Output, reader: Reader) -> bytes:
        """Chunks of what a reader makes of an Output; the first has its logprobs and token ids."""
        deltas = self._deltas_of(reader.push(output.text, output.token_ids))
        extra: dict[str, Any] = {}
        logprobs = None
        if self._logprobs is not None and output.logprobs:
            logprobs = self._logprobs[index].format(output.logprobs)
        if self._answer.with_token_ids and output.token_ids:
            extra = {"token_ids": output.token_ids}
        if not deltas and (extra or logprobs):
            deltas = [{"content": ""}]
        chunks: list[bytes] = []
        for delta in deltas:
            chunks.append(self._chunk(index, {"delta": delta, **extra}, {}, logprobs=logprobs))
            extra, logprobs = {}, None
        return b"".join(chunks)

    def _deltas_of(self, delta: Delta) -> list[dict[str, Any]]:
        """OpenAI's deltas: thought, content and each piece of a call by itself."""
        deltas: list[dict[str, Any]] = []
        if delta.reasoning:
            deltas.append(dict.fromkeys(REASONING_FIELDS, delta.reasoning))
        if delta.content:
            deltas.append({"content": delta.content})
        deltas += [d for tool in delta.tools if (d := self._tool_delta(tool)) is not None]
        return deltas

    def _tool_delta(self, tool: ToolDelta) -> dict[str, Any] | None:
        function = {"arguments": tool.arguments}
        if tool.name is not None:
            function = {"name": tool.name, **function}
        if self._answer.as_function_call:
            return {"function_call": function} if tool.index == 0 else None
        call: dict[str, Any] = {"index": tool.index}
        if tool.name is not None:
            call |= {"id": tool.id, "type": "function"}
        return {"tool_calls": [{**call, "function": function}]}

    def _rich_chunk(self, index: int, output: Output) -> bytes:
        """A chunk with logprobs or token ids, sent for tokens whose text is still held back too."""
        if not (output.text or output.token_ids):
            return b""
        logprobs = b"null"
        if self._logprobs is not None and output.logprobs:
            logprobs = _dumps(self._logprobs[index].format(output.logprobs))
        ids = b""
        if self._answer.with_token_ids:
            ids = b',"token_ids":' + _dumps(output.token_ids)
        return b"".join(
            (
                self._before[index],
                _dumps(output.text),
                self._after_text,
                b',"logprobs":',
                logprobs,
                b',"finish_reason":null',
                ids,
                b"}]",
                self._usage(index),
                b"}\n\n",
            )
        )

    def _finish_chunk(self, index: int, output: Output, generation: Generation) -> bytes:
        """The choice's last chunk; after the last choice also usage, timings and [DONE]."""
        self.n_left -= 1
        assert output.finish_reason is not None
        rest, word = b"", finish_text(output.finish_reason)
        if self._readers is not None:
            delta, word = self._readers[index].finish(output.finish_reason)
            chunks = [self._chunk(index, {"delta": d}, {}) for d in self._deltas_of(delta)]
            rest, word = b"".join(chunks), finish_word(self._answer, word)
        choice: dict[str, Any] = {"delta": {}} if self._answer.kind == "chat" else {"text": ""}
        is_last = self.n_left == 0
        extra: dict[str, Any] = {}
        if is_last and not self._answer.with_usage_chunk:
            extra = {"timings": timings_object(generation)}
        chunk = rest + self._chunk(index, choice, extra, word)
        if not is_last:
            return chunk
        return chunk + self._usage_chunk(generation) + DONE

    def _usage_chunk(self, generation: Generation) -> bytes:
        if not self._answer.with_usage_chunk:
            return b""
        n_reasoning = None
        if self._readers is not None:
            n_reasoning = sum(reader.n_reasoning for reader in self._readers)
        usage = usage_object(generation, n_reasoning)
        tail = {"usage": usage, "timings": timings_object(generation)}
        return self._head + b"]," + _dumps(tail)[1:] + b"\n\n"

    def _chunk(
        self,
        index: int,
        choice: dict[str, Any],
        extra: dict[str, Any],
        finish: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        """A chunk that is rare enough to be built the plain way."""
        whole = {"index": index, **choice, "logprobs": logprobs, "finish_reason": finish}
        tail = b"," + _dumps(extra)[1:-1] if extra else b""
        return self._head + _dumps(whole) + b"]" + self._usage(index) + tail + b"}\n\n"
