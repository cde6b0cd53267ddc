"""Tools that a model may call, and which of them it has to: by today's names and the old."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from slotmux.server.schemas.base import fault
from slotmux.server.tools.rules import Tool

MAX_TOOLS = 1024
MAX_CALLS = 1024  # of one message
_NAME = re.compile(r"[A-Za-z0-9_.:/\-]{1,128}")
_EMPTY: Mapping[str, Any] = {"type": "object", "properties": {}}

Mode = Literal["none", "auto", "required"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What ``tool_choice`` says. ``names``: the only tools to call; None: any."""

    mode: Mode
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ToolWish:
    """``shown`` are told to the model, ``callable`` may be called."""

    shown: tuple[Tool, ...] = ()
    callable: tuple[Tool, ...] = ()
    mode: Mode = "none"
    many: bool = True
    as_function_call: bool = False


def _object(value: Any, param: str | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PydanticCustomError("dict_type", "should be an object", {"param": param})
    return value


def _named(value: Any, param: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise fault("should be 1 to 128 letters, digits, or characters of _-.:/", param)
    return value


def _function(value: Any, param: str) -> Tool:
    function = _object(value, param)
    name = _named(function.get("name"), f"{param}.name")
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise PydanticCustomError(
            "string_type", "should be a string", {"param": f"{param}.description"}
        )
    strict = function.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise PydanticCustomError("bool_type", "should be a boolean", {"param": f"{param}.strict"})
    parameters = function.get("parameters")
    if parameters is None:
        parameters = _EMPTY
    parameters = _object(parameters, f"{param}.parameters")
    return Tool(name, description, parameters, is_strict=strict is True)


def _unlike(tools: list[Tool], what: str) -> list[Tool]:
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise fault(f"two {what} have the same name")
    return tools


def _tools(value: Any) -> list[Tool]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise PydanticCustomError("list_type", "should be an array")
    if len(value) > MAX_TOOLS:
        raise fault(f"at most {MAX_TOOLS} tools")
    tools = []
    for index, item in enumerate(value):
        tool = _object(item, f"[{index}]")
        if tool.get("type", "function") != "function":
            raise fault("only tools of type 'function' are supported", f"[{index}].type")
        tools.append(_function(tool.get("function"), f"[{index}].function"))
    return _unlike(tools, "tools")


def _functions(value: Any) -> list[Tool]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise PydanticCustomError("list_type", "should be an array")
    if len(value) > MAX_TOOLS:
        raise fault(f"at most {MAX_TOOLS} functions")
    found = [_function(item, f"[{index}]") for index, item in enumerate(value)]
    return _unlike(found, "functions")


def _choice(value: Any) -> Choice | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value not in ("none", "auto", "required", "any"):
            raise fault("should be 'none', 'auto', 'required', or name a function")
        return Choice("required") if value in ("required", "any") else _plain(value)
    wish = _object(value)
    if wish.get("type") == "allowed_tools":
        return _allowed(_object(wish.get("allowed_tools", wish), "allowed_tools"))
    if wish.get("type", "function") != "function":
        raise fault("should be 'function' or 'allowed_tools'", "type")
    function = _object(wish.get("function"), "function")
    return Choice("required", (_named(function.get("name"), "function.name"),))


def _plain(value: str) -> Choice:
    return Choice("none" if value == "none" else "auto")


def _allowed(wish: dict[str, Any]) -> Choice:
    mode = wish.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise fault("should be 'auto' or 'required'", "allowed_tools.mode")
    tools = wish.get("tools")
    if not isinstance(tools, list) or not tools or len(tools) > MAX_TOOLS:
        raise fault("should be an array of tools", "allowed_tools.tools")
    names = []
    for index, tool in enumerate(tools):
        param = f"allowed_tools.tools[{index}]"
        function = _object(_object(tool, param).get("function"), f"{param}.function")
        names.append(_named(function.get("name"), f"{param}.function.name"))
    return Choice("auto" if mode == "auto" else "required", tuple(names))


def _function_call(value: Any) -> Choice | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value not in ("none", "auto"):
            raise fault("should be 'none', 'auto', or name a function")
        return _plain(value)
    return Choice("required", (_named(_object(value).get("name"), "name"),))


_Json = dict[str, Any]


class ToolParams(BaseModel):
    """A mixin of what a chat is made from. Values are checked and turned into our own here."""

    tools: Annotated[
        list[Tool], BeforeValidator(_tools, json_schema_input_type=list[_Json] | None)
    ] = []
    tool_choice: Annotated[
        Choice | None, BeforeValidator(_choice, json_schema_input_type=str | _Json | None)
    ] = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[
        list[Tool], BeforeValidator(_functions, json_schema_input_type=list[_Json] | None)
    ] = []
    function_call: Annotated[
        Choice | None, BeforeValidator(_function_call, json_schema_input_type=str | _Json | None)
    ] = None
    parse_tool_calls: bool | None = None

    def check_tools(self) -> None:
        """What the fields say together."""
        if self.tools and self.functions:
            raise fault("'tools' and 'functions' are the same: not both", "functions")
        for param, choice, tools in (
            ("tool_choice", self.tool_choice, self.tools),
            ("function_call", self.function_call, self.functions),
        ):
            if choice is None:
                continue
            if choice.mode == "required" and not tools:
                raise fault("there are no tools to call", param)
            known = {tool.name for tool in tools}
            if not known.issuperset(choice.names or ()):
                raise fault("it names a function that is none of the tools", param)

    @property
    def tool_wish(self) -> ToolWish:
        """All of it in one. With ``none`` the model is not told of any tool."""
        is_old = bool(self.functions)
        tools = tuple(self.functions if is_old else self.tools)
        choice = (self.function_call if is_old else self.tool_choice) or Choice("auto")
        if not tools or choice.mode == "none":
            return ToolWish()
        names = choice.names
        callable_ = tuple(t for t in tools if names is None or t.name in names)
        # The old way has room for one call, and a named function is called once.
        is_named = choice.mode == "required" and names is not None and len(names) == 1
        many = self.parallel_tool_calls is not False and not is_old and not is_named
        return ToolWish(tools, callable_, choice.mode, many, is_old)


def calls_of(value: Any) -> Any:
    """The ``tool_calls`` of a message for templates. Arguments may be text or an object."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise PydanticCustomError("list_type", "should be an array")
    if len(value) > MAX_CALLS:
        raise fault(f"at most {MAX_CALLS} calls")
    return [_call(item, f"[{index}]") for index, item in enumerate(value)] or None


def _call(value: Any, param: str) -> dict[str, Any]:
    call = _object(value, param)
    if call.get("type", "function") not in ("function", None):
        raise fault("only calls of type 'function' are supported", f"{param}.type")
    call_id = call.get("id")
    if call_id is not None and (not isinstance(call_id, str) or len(call_id) > 256):
        raise fault("should be a string of at most 256 characters", f"{param}.id")
    told: dict[str, Any] = {"type": "function", "function": function_of(
        call.get("function"), f"{param}.function"
    )}  # fmt: skip
    return told if call_id is None else {"id": call_id, **told}


def function_of(value: Any, param: str | None = None) -> dict[str, Any]:
    """Name and arguments of a call."""
    function = _object(value, param)
    prefix = f"{param}." if param else ""
    name = function.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 256:
        raise fault("should be a string of 1 to 256 characters", f"{prefix}name")
    arguments = function.get("arguments")
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        arguments = "{}"  # as models and clients write "none"
    if not isinstance(arguments, str | dict):
        raise fault("should be JSON text, or an object", f"{prefix}arguments")
    return {"name": name, "arguments": arguments}
