"""Weight matrices in memory, as ops are given them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slotmux.kernels.formats.base import PANEL_ROWS, Format


@dataclass(frozen=True, slots=True)
class Panels:
    """A weight matrix [n_out, n_in] in panels of 16 rows."""

    WORDS: ClassVar = ("{}",)
    address: int
    format: Format
    n_in: int
    n_out: int

    @property
    def values(self) -> tuple[int]:
        """What an op's word holds."""
        return (self.address,)

    @property
    def n_panels(self) -> int:
        """Panels, the last one filled up with zero rows."""
        return -(-self.n_out // PANEL_ROWS)

    @property
    def n_blocks(self) -> int:
        """Panel blocks along the inputs."""
        return self.n_in // self.format.block_inputs

    @property
    def n_bytes(self) -> int:
        """Size in memory."""
        return self.n_panels * self.format.panel_bytes(self.n_in)

    def outputs(self, start: int, n: int) -> Panels:
        """Outputs ``start`` to ``start + n`` alone, as they stand; both whole panels, or at the
        end."""
        assert start % PANEL_ROWS == 0
        assert n % PANEL_ROWS == 0 or start + n == self.n_out
        at = self.address + start // PANEL_ROWS * self.format.panel_bytes(self.n_in)
        return Panels(at, self.format, self.n_in, n)


@dataclass(frozen=True, slots=True)
class Experts(Panels):
    """A matrix for each expert, one's panels after the other's."""

    n_expert: int = 0

    @property
    def expert_bytes(self) -> int:
        """From one expert's panels to the next one's."""
        return self.n_panels * self.format.panel_bytes(self.n_in)

    @property
    def n_bytes(self) -> int:
        """Size in memory."""
        return self.n_expert * self.expert_bytes


@dataclass(frozen=True, slots=True)
class FileRows:
    """A matrix [n, n_in] whose rows are read from the mapped file, as they stand."""

    WORDS: ClassVar = ("{}",)
    address: int
    format: Format
    n_in: int
    row_bytes: int

    @property
    def values(self) -> tuple[int]:
        """What an op's word holds."""
        return (self.address,)
