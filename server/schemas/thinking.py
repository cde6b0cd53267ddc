"""Whether, how much and how visibly a model thinks, under all the names that servers have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from slotmux.server.schemas.base import fault

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Format = Literal["none", "auto", "deepseek", "deepseek-legacy"]
_MAX = 2**31 - 1
Budget = Annotated[int, Field(ge=-1, le=_MAX)]
BUDGET_NAMES = ("thinking_token_budget", "reasoning_budget_tokens", "thinking_budget_tokens")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def _members(value: Any, known: str) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise PydanticCustomError("dict_type", "should be an object")
    for name, member in value.items():
        if name not in known.split() and member is not None:
            raise fault("a member of it is not supported")
    return value


def _count(value: Any, param: str) -> None:
    if value is not None and (type(value) is not int or not 0 <= value <= _MAX):
        raise fault("should be a whole number", param)


def _reasoning(value: Any) -> dict[str, Any] | None:
    """OpenRouter's and OpenAI's object."""
    told = _members(value, "effort max_tokens enabled exclude summary generate_summary")
    if told is not None:
        _count(told.get("max_tokens"), "max_tokens")
        if told.get("effort") not in (None, *_EFFORTS):
            raise fault(f"should be one of {', '.join(_EFFORTS)}", "effort")
        for name in ("enabled", "exclude"):
            if not isinstance(told.get(name), bool | None):
                raise fault("should be a boolean", name)
    return told


def _thinking(value: Any) -> dict[str, Any] | None:
    """Anthropic's and GLM's object."""
    told = _members(value, "type budget_tokens clear_thinking display")
    if told is not None:
        if told.get("type") not in ("enabled", "disabled", "adaptive"):
            raise fault("should be 'enabled', 'disabled' or 'adaptive'", "type")
        _count(told.get("budget_tokens"), "budget_tokens")
    return told


class ThinkingParams(BaseModel):
    """A mixin of what a chat is made from."""

    enable_thinking: bool | None = None
    reasoning_effort: Effort | None = None
    reasoning_format: Format | None = None
    reasoning: Annotated[dict[str, Any] | None, BeforeValidator(_reasoning)] = None
    thinking: Annotated[dict[str, Any] | None, BeforeValidator(_thinking)] = None
    include_reasoning: bool | None = None
    thinking_token_budget: Budget | None = None
    reasoning_budget_tokens: Budget | None = None
    thinking_budget_tokens: Budget | None = None

    def check_thinking(self) -> None:
        """What the fields say together."""
        if len(self._budgets) > 1:
            raise fault("there are different budgets for thinking", "thinking_token_budget")
        if len(self._wishes) > 1:
            raise fault("thinking is wanted and not wanted", "enable_thinking")

    @property
    def effort(self) -> str | None:
        """How hard to think, if that is said."""
        return self.reasoning_effort or (self.reasoning or {}).get("effort")

    @property
    def n_thinking(self) -> int | None:
        """The most tokens of thought; None: no limit."""
        return next(iter(self._budgets), None)

    @property
    def wants_thinking(self) -> bool | None:
        """Whether to think at all, if that is said."""
        return next(iter(self._wishes), None)

    @property
    def hides_thoughts(self) -> bool:
        """Whether thoughts are cut out and not told."""
        return self.include_reasoning is False or bool((self.reasoning or {}).get("exclude"))

    @property
    def thinking_variables(self) -> dict[str, Any]:
        """What templates are told of it: each reads the names that it knows."""
        variables: dict[str, Any] = {}
        if (wish := self.wants_thinking) is not None:
            variables |= {"enable_thinking": wish, "thinking": wish}
        if self.effort is not None and self.effort != "none":
            variables["reasoning_effort"] = self.effort
        return variables

    @property
    def _budgets(self) -> set[int]:
        values = [getattr(self, name) for name in BUDGET_NAMES]
        values += [(self.reasoning or {}).get("max_tokens")]
        values += [(self.thinking or {}).get("budget_tokens")]
        return {value for value in values if value is not None and value >= 0}

    @property
    def _wishes(self) -> set[bool]:
        values = [self.enable_thinking, (self.reasoning or {}).get("enabled")]
        if self.thinking is not None and self.thinking["type"] != "adaptive":
            values.append(self.thinking["type"] == "enabled")
        if self.effort == "none":
            values.append(False)
        return {value for value in values if value is not None}
