"""What is known of one fault: the access, the block it missed, and who was running."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from memprot.faults.disassembly import disassemble

if TYPE_CHECKING:
    from traceback import StackSummary

    from memprot.faults.mapped_file import MappedFile
    from memprot.faults.source_line import SourceLine

__all__ = [
    "Access",
    "Block",
    "Element",
    "FaultKind",
    "FaultRecord",
    "FaultThread",
    "NativeFrame",
    "PythonFrame",
    "Where",
]

FaultKind = Literal[
    "overflow",
    "underflow",
    "use-after-free",
    "double-free",
    "wild-free",
    "slack",
    "protection",
    "key",
    "unmapped",
    "bus",
    "stack-overflow",
]
Access = Literal["read", "write", "execute"]


class Where(Protocol):
    """A mapping, as far as a fault speaks of it: :class:`memprot.Mapping` is one.

    Attributes:
        start: its first address.
        stop: the address behind its last.
        prot: its protection; ``str()`` of it is of the form ``r-x``.
        path: the file it maps or its name in square brackets; None when it has neither.

    >>> from types import SimpleNamespace
    >>> stack: Where = SimpleNamespace(start=0x1000, stop=0x2000, prot="rw-", path="[stack]")
    """

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def prot(self) -> object: ...
    @property
    def path(self) -> str | None: ...


class PythonFrame(NamedTuple):
    """A line of Python that was running.

    Attributes:
        file: as the code object has it.
        line: from 1 on.
        function: its qualified name where Python has one, else its name.

    >>> PythonFrame("app.py", 12, "main")
    PythonFrame(file='app.py', line=12, function='main')
    """

    file: str
    line: int
    function: str


class NativeFrame(NamedTuple):
    """A place in machine code.

    Attributes:
        address: of the instruction.
        function: the symbol it lies in.
        library: the file it lies in.
        offset: from the start of the function, or of the library where no function is known, in bytes.
        source: the line it was compiled from, looked up when :attr:`file` or :attr:`line` is asked for.

    >>> str(NativeFrame(0x7F0000001234, "convolve", "/app/libfoo.so", 0x4C))
    'libfoo.so: convolve+0x4c'
    """

    address: int
    function: str | None
    library: str | None
    offset: int | None
    source: SourceLine | None = None

    @property
    def file(self) -> str | None:
        """The source file, as the compiler was given it; None without debug information.

        >>> NativeFrame(0x7F0000001234, "convolve", "/app/libfoo.so", 0x4C).file is None
        True
        """
        return None if self.source is None else self.source.file

    @property
    def line(self) -> int | None:
        """The line in that file, from 1 on; None without debug information.

        >>> NativeFrame(0x7F0000001234, "convolve", "/app/libfoo.so", 0x4C).line is None
        True
        """
        return None if self.source is None else self.source.line

    def __str__(self) -> str:
        beyond = "" if self.offset is None else f"+{self.offset:#x}"
        library = None if self.library is None else os.path.basename(self.library)
        if self.function is None:
            return f"code made at run time, {self.address:#x}" if library is None else f"{library}{beyond}"
        return f"{self.function}{beyond}" if library is None else f"{library}: {self.function}{beyond}"


class FaultThread(NamedTuple):
    """The thread that made the access.

    Attributes:
        id: the kernel's number, as ``threading.get_native_id()`` gives it.
        name: its Python name; None for a thread without one.

    >>> FaultThread(4242, "MainThread").name
    'MainThread'
    """

    id: int
    name: str | None


class Element(NamedTuple):
    """The place in an array that an address would be, if the array went on.

    Attributes:
        number: along the axis, counted from 0; below 0 before its start.
        length: of the axis.
        axis: of the array.

    >>> str(Element(10, 10, 0))
    'element 10 of 10, axis 0'
    """

    number: int
    length: int
    axis: int

    def __str__(self) -> str:
        return f"element {self.number:,} of {self.length:,}, axis {self.axis}"


class Block(NamedTuple):
    """The memory that was handed out, which the access missed or should not have touched any more.

    Attributes:
        address: of its first byte.
        nbytes: how many were asked for.
        allocated: the Python lines that ran when it was handed out, innermost first; empty when unknown.
        dtype: of the array found over it; None when none was found.
        shape: of that array.
        name: of a variable that holds that array.
        freed: the Python lines that ran when it was freed, innermost first; empty when it was not, or unknown.
        is_freed: whether it was freed before.
        freed_thread: the kernel's number of the thread that freed it; None when it was not, or unknown.
        allocated_native: the machine code that asked for it, innermost first; empty when unknown.
        freed_native: the machine code that freed it.
        allocator: who handed it out: ``"numpy"``, ``"raw"``, ``"mem"``, ``"obj"`` or ``"malloc"``; None for memory
            of no guard pool.

    >>> Block(0x10000, 800, (), "float64", (100,), "out").name
    'out'
    """

    address: int
    nbytes: int
    allocated: tuple[PythonFrame, ...]
    dtype: str | None
    shape: tuple[int, ...] | None
    name: str | None
    freed: tuple[PythonFrame, ...] = ()
    is_freed: bool = False
    freed_thread: int | None = None
    allocated_native: tuple[NativeFrame, ...] = ()
    freed_native: tuple[NativeFrame, ...] = ()
    allocator: str | None = None


class FaultRecord(NamedTuple):
    """One access that broke a rule. What is not known is None.

    Attributes:
        kind: which rule.
        access: what the instruction did.
        size: how many bytes of the access lie where they must not, from ``address`` on.
        address: the first such byte.
        distance: in bytes from the end of the block (0 is the first byte past it), below zero from its start;
            inside a freed block from its start.
        recovered: whether the program goes on.
        signal: the number of the signal; 0 for what was found without one.
        block: the memory it is about.
        python: the Python lines that were running, innermost first.
        native: the machine code that was running, innermost first.
        thread: the thread that made the access.
        mapping: what ``address`` lies in.
        key: the protection key that forbade it.
        file: the file beneath, where the kernel could not give the page.
        depth: how many Python frames were on a stack that ran out; 0 for a thread without Python.
        time: when it happened, in nanoseconds since 1970, as ``time.time_ns()`` counts them.
        code: the machine code from the faulting instruction on, at most 16 bytes.
        value: the bytes that the instruction would have stored, all of its operand: also those that lie before
            ``address``, where the access was allowed. Of ``rep stos`` the next element, of ``rep movs`` the next
            64 bytes at most.
        call: the function through which the kernel made the access, such as ``"readv"``; None for the program's own.
        transferred: how many bytes that call had moved before.
        element: which element of the array over the block ``address`` would be; None where that cannot be said.

    >>> thread = FaultThread(4242, "MainThread")
    >>> FaultRecord("unmapped", "read", 8, 0, None, False, 11, None, None, (), thread, None).kind
    'unmapped'
    """

    kind: FaultKind
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
    mapping: Where | None
    key: int | None = None
    file: MappedFile | None = None
    depth: int | None = None
    time: int | None = None
    code: bytes | None = None
    value: bytes | None = None
    call: str | None = None
    transferred: int | None = None
    element: Element | None = None

    @property
    def instruction(self) -> str | None:
        """The faulting instruction as text: disassembled where capstone is installed, else its bytes in hexadecimal.

        >>> thread = FaultThread(4242, "MainThread")
        >>> record = FaultRecord("bus", "read", 8, 0, None, False, 7, None, None, (), thread, None)
        >>> record.instruction is None, record._replace(code=b"").instruction is None
        (True, True)
        """
        address = self.native[0].address if self.native else 0
        return disassemble(self.code, address) if self.code else None

    @property
    def traceback(self) -> StackSummary | None:
        """The Python lines that were running, as :mod:`traceback` has them: outermost first, with their source.

        >>> thread = FaultThread(4242, "MainThread")
        >>> lines = (PythonFrame("app.py", 12, "inner"), PythonFrame("app.py", 20, "<module>"))
        >>> record = FaultRecord("bus", "read", 8, 0, None, False, 7, None, lines, (), thread, None)
        >>> print("".join(record.traceback.format()), end="")
          File "app.py", line 20, in <module>
          File "app.py", line 12, in inner
        """
        if self.python is None:
            return None
        # Here, because few programs look at it and importing it takes longer than a fault.
        from traceback import FrameSummary, StackSummary

        frames = (FrameSummary(*frame, lookup_line=False) for frame in reversed(self.python))
        return StackSummary.from_list(frames)
