# An intrinsic is written with Numba's typing context before its arguments, and called without it.
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

_P = ParamSpec("_P")

def intrinsic(build: Callable[Concatenate[Any, _P], Any], /) -> Callable[_P, Any]: ...
def __getattr__(name: str) -> Any: ...
