"""llama-server's own completion, streamed and whole."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from slotmux.runtime.engine.request import FinishReason, Output, Request, TokenLogprobs
from slotmux.server.answers.generation import ChoiceOutput, Generation, Sink
from slotmux.server.answers.logprobs import LOWEST
from slotmux.server.answers.usage import rates, usage_timings
from slotmux.server.dialects.llama.schema import NativeOptions
from slotmux.server.dialects.llama.settings_told import generation_settings
from slotmux.server.http.errors import ApiError
from slotmux.server.http.shapes import llama_body
from slotmux.server.interfaces import TokenizerPort


@dataclass(slots=True)
class NativeAnswer:
    """What does not change while the answer is generated. ``texts``: of the prompts, as they are
    computed; ``is_array``: whether a whole answer is an array, however many choices it has."""

    model: str
    tokenizer: TokenizerPort
    requests: list[Request]
    texts: list[str]
    options: NativeOptions
    n_ctx: int
    is_array: bool
    stream: bool

    @property
    def n_choices(self) -> int:
        """Of all prompts."""
        return sum(request.n for request in self.requests)


@dataclass(slots=True)
class _Progress:
    """How far one choice has come."""

    n_tokens: int = 0
    has_new_line: bool = False
    n_cached: int = -1  # -1: not asked yet
    t_first: float = 0.0
    is_cut: bool = False
    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    last: Output | None = None


class NativeWriter:
    """Implements Writer."""

    def __init__(self, answer: NativeAnswer) -> None:
        self._answer = answer
        self.n_left = answer.n_choices
        self._choices = [_Progress() for _ in range(answer.n_choices)]

    def opening(self) -> bytes:
        """Nothing: a stream begins with its first tokens."""
        return b""

    def events(self, choices: list[ChoiceOutput], generation: Generation) -> bytes:
        """A line for each Output that has something, and the long one for each end."""
        parts: list[bytes] = []
        for index, output in choices:
            self._note(index, output, generation)
            if (output.text or output.token_ids) and not self._answer.options.is_prompt_only:
                parts.append(_event(self._partial(index, output, generation)))
            if output.finish_reason is not None:
                parts.append(_event(self._final(index, generation)))
        return b"".join(parts)

    def error(self, error: ApiError) -> bytes:
        """What ends a stream that went wrong."""
        return _event(llama_body(error))

    def take(self, choices: list[ChoiceOutput], generation: Generation) -> None:
        """Keeps what a whole answer tells."""
        for index, output in choices:
            self._note(index, output, generation)
            if not self._answer.options.is_prompt_only:
                kept = self._choices[index]
                kept.texts.append(output.text)
                kept.token_ids += output.token_ids
                kept.logprobs += output.logprobs

    def whole(self, generation: Generation) -> Any:
        """One object, or an array of them."""
        bodies = [self._final(index, generation) for index in range(self._answer.n_choices)]
        return bodies if self._answer.is_array else bodies[0]

    def _note(self, index: int, output: Output, generation: Generation) -> None:
        """Counts, and ends a choice whose time is up once it has completed a line."""
        progress = self._choices[index]
        now = time.monotonic()
        progress.t_first = progress.t_first or now
        progress.n_tokens += len(output.token_ids)
        progress.has_new_line = progress.has_new_line or "\n" in output.text
        if output.finish_reason is not None:
            progress.last = output
            self.n_left -= 1
            return
        limit_ms = self._answer.options.t_max_predict_ms or 0
        is_late = limit_ms > 0 and (now - progress.t_first) * 1000 > limit_ms
        if is_late and progress.has_new_line and not progress.is_cut:
            progress.is_cut = True
            generation.engine.cut(self._sink(index, generation).request.id)

    def _sink(self, index: int, generation: Generation) -> Sink:
        return max((s for s in generation.sinks if s.base <= index), key=lambda s: s.base)

    def _partial(self, index: int, output: Output, generation: Generation) -> dict[str, Any]:
        sink = self._sink(index, generation)
        progress = self._choices[index]
        body: dict[str, Any] = {
            "index": index,
            "content": output.text,
            "tokens": list(output.token_ids),
            "stop": False,
            "id_slot": sink.request.progress.slot_id,
            "tokens_predicted": progress.n_tokens,
            "tokens_evaluated": len(sink.request.prompt),
        }
        if self._answer.options.timings_per_token:
            body["timings"] = self._timings_so_far(sink.request, progress, generation)
        if output.logprobs:
            body["completion_probabilities"] = self._probabilities(output.logprobs)
        return body

    def _final(self, index: int, generation: Generation) -> dict[str, Any]:
        answer, progress = self._answer, self._choices[index]
        sink = self._sink(index, generation)
        last = progress.last
        assert last is not None
        usage = generation.usages[index]
        n_generated = 0 if answer.options.is_prompt_only else usage.n_generated
        is_limit = last.finish_reason is FinishReason.LENGTH
        body: dict[str, Any] = {
            "index": index,
            "content": "".join(progress.texts),
            "tokens": progress.token_ids if answer.options.return_tokens else [],
            "id_slot": sink.request.progress.slot_id,
            "stop": True,
            "model": answer.model,
            "tokens_predicted": n_generated,
            "tokens_evaluated": usage.n_prompt,
            "generation_settings": generation_settings(
                sink.request,
                answer.options,
                stream=answer.stream,
                n_ctx=answer.n_ctx,
                model=answer.model,
            ),
            "prompt": answer.texts[generation.sinks.index(sink)],
            "has_new_line": progress.has_new_line,
            "truncated": is_limit and usage.n_prompt + usage.n_generated >= answer.n_ctx,
            "stop_type": "limit" if is_limit else "eos" if last.stop_string is None else "word",
            "stopping_word": last.stop_string or "",
            "tokens_cached": usage.n_prompt + max(0, n_generated - 1),
            "timings": usage_timings(usage),
        }
        if progress.logprobs:
            body["completion_probabilities"] = self._probabilities(progress.logprobs)
        fields = answer.options.response_fields
        return picked(body, fields) if fields else body

    def _timings_so_far(
        self, request: Request, progress: _Progress, generation: Generation
    ) -> dict[str, Any]:
        if progress.n_cached < 0:
            slots = generation.engine.stats().slots
            mine = (slot.n_cached for slot in slots if slot.request_id == request.id)
            progress.n_cached = next(mine, 0)
        n_prompt = len(request.prompt) - progress.n_cached
        prompt_s = max(0.0, progress.t_first - request.progress.t_admitted)
        return {
            "cache_n": progress.n_cached,
            **rates("prompt", n_prompt, prompt_s),
            **rates("predicted", progress.n_tokens, time.monotonic() - progress.t_first),
        }

    def _probabilities(self, entries: list[TokenLogprobs] | tuple[TokenLogprobs, ...]) -> Any:
        n_top = self._answer.options.n_probs
        return [
            self._token(entry.token_id, entry.logprob)
            | {"top_logprobs": [self._token(i, value) for i, value in entry.top[:n_top]]}
            for entry in entries
        ]

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        raw = self._answer.tokenizer.token_bytes(token_id)
        return {
            "id": token_id,
            "token": raw.decode("utf-8", "replace"),
            "bytes": list(raw),
            "logprob": max(logprob, LOWEST),
        }


def picked(body: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """The named members that there are; ``a/b`` is b of a, told under the name b."""
    found: dict[str, Any] = {}
    for path in fields:
        value: Any = body
        name = ""
        for name in path.split("/"):
            if not isinstance(value, dict) or name not in value:
                break
            value = value[name]
        else:
            found[name] = value
    return found


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
