# What kernels use of Numba, as mypy sees it: a compiled function is called as its source is.
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)

__version__: str
types: Any
int64: Any
void: Any

class Compiled(Generic[_P, _R]):
    py_func: Callable[_P, _R]
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...

@overload
def njit(function: Callable[_P, _R], /) -> Compiled[_P, _R]: ...
@overload
def njit(signature: str, /, **options: Any) -> Callable[[Callable[_P, _R]], Compiled[_P, _R]]: ...
@overload
def njit(**options: Any) -> Callable[[Callable[_P, _R]], Compiled[_P, _R]]: ...
def __getattr__(name: str) -> Any: ...
