"""What a synthetic GGUF holds, before any weight is drawn: its keys and its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

Value = int | float | bool | str | list[int] | list[bool] | list[str]


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A tensor of uniform numbers in ``low`` .. ``high``.

    ``shape`` is NumPy's (the contiguous dimension last). ``form`` is "file" (the type asked for),
    "half" (F16 in any file) or "float" (F32 in any file).
    """

    name: str
    shape: tuple[int, ...]
    low: float
    high: float
    form: str


@dataclass(slots=True)
class FilePlan:
    """Collects keys and tensors in the order of the file. Methods are named after roles."""

    arch: str
    keys: dict[str, Value] = field(default_factory=dict)
    tensors: list[TensorPlan] = field(default_factory=list)

    def key(self, name: str, value: Value) -> None:
        """A key of the architecture: ``name`` without its prefix."""
        self.keys[f"{self.arch}.{name}"] = value

    def matrix(self, name: str, n_out: int, n_in: int, n_experts: int = 0) -> None:
        """A weight that does not raise its input's variance; ``n_experts`` of them, if any."""
        self._weight(name, n_out, n_in, n_experts, "file")

    def half_matrix(self, name: str, n_out: int, n_in: int) -> None:
        """A small weight that quantisers leave as it is."""
        self._weight(name, n_out, n_in, 0, "half")

    def float_matrix(self, name: str, n_out: int, n_in: int) -> None:
        """A weight that converters keep in F32 (routers, some low-rank factors)."""
        self._weight(name, n_out, n_in, 0, "float")

    def vector(self, name: str, n: int, low: float = 0.8, high: float = 1.2) -> None:
        self.table(name, (n,), low, high)

    def table(self, name: str, shape: tuple[int, ...], low: float, high: float) -> None:
        self.tensors.append(TensorPlan(name, shape, low, high, "float"))

    def norm(self, name: str, n: int) -> None:
        """A layer norm: weight and bias."""
        self.vector(f"{name}.weight", n)
        self.vector(f"{name}.bias", n, -0.1, 0.1)

    def _weight(self, name: str, n_out: int, n_in: int, n_experts: int, form: str) -> None:
        bound = 0.7 * (3 / n_in) ** 0.5  # uniform in +-sqrt(3) s has the deviation s
        shape = (n_experts, n_out, n_in) if n_experts else (n_out, n_in)
        self.tensors.append(TensorPlan(name, shape, -bound, bound, form))
