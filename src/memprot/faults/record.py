"""What is known of one fault, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from memprot.space.mapping import Mapping

Access = Literal["read", "write", "execute"]
Cause = Literal["unmapped", "protection", "guard", "key", "bus"]
Kind = Literal[
    "overflow", "underflow", "use-after-free", "double-free", "wild-free", "slack", "protection", "unmapped", "bus"
]


@dataclass(frozen=True, slots=True)
class PythonFrame:
    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class NativeFrame:
    address: int
    function: str | None
    library: str | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class FaultThread:
    id: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Block:
    address: int
    nbytes: int
    allocated: tuple[PythonFrame, ...]
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class FaultRecord:
    kind: Kind
    access: Access
    size: int | None
    address: int
    distance: int | None
    recovered: bool
    signal: int
    block: Block | None
    python: tuple[PythonFrame, ...] | None
    native: tuple[NativeFrame, ...]
    thread: FaultThread
    mapping: Mapping | None
