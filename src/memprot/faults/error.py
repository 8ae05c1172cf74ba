"""FaultError: an access that broke a rule, as an exception."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from memprot._native import Region, region_at
from memprot.faults.cause import cause_at
from memprot.faults.mapped_file import explain_file, file_beneath
from memprot.faults.native_record import ACCESSES, NO_KEY, cause_of, mapping_at

if TYPE_CHECKING:
    from traceback import StackSummary

    from memprot.faults.late_record import LateRecord
    from memprot.faults.mapped_file import MappedFile
    from memprot.faults.native_record import Cause
    from memprot.faults.record import Access, FaultRecord, FaultThread, NativeFrame


_REASONS = {
    "unmapped": "no memory is mapped",
    "protection": "the protection forbids it",
    "guard": "a guard stands",
}

# What no access says by itself.
_HEADLINES = ("use-after-free", "double-free", "wild-free", "slack")


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


class FaultError(Exception):
    """An access to memory that its protection, a guard or the lack of a mapping forbids.

    The access was let through onto bytes that do not count, so the data is as it was before.

    Attributes:
        address: where the access went, the first byte of it that was forbidden.
        access: ``"read"``, ``"write"`` or ``"execute"``.
        cause: ``"unmapped"``, ``"protection"``, ``"guard"``, ``"key"`` or ``"bus"``.
        key: the protection key that forbids the access to this thread, where the cause is ``"key"``; else None.
        region: the :class:`memprot.Region` it belongs to, or None.
        offset: bytes from the start of the region, of the guarded block, or of what was given to
            :func:`memprot.protect`; None where none is known.
        file: the file beneath, where the cause is ``"bus"``: its name as the kernel knows it; else None.
        file_size: how many bytes that file has now; None where nobody can tell.
        call: the function through which the kernel made the access, such as ``"readv"``; None for the program's own.
        transferred: how many bytes were moved before the forbidden one; None where that is not known.
        partial: those bytes, where memprot's own accessors were reading; else None.
        others: further faults of the same thread that were raised together with this one.

    It can be pickled and copied, whole: what is looked up late is looked up then. In another process, and in what
    was pickled, ``region`` is None; a copy has the same Region.

    Example:
        >>> region = Region(4096, "r--")
        >>> try:
        ...     region[0] = 1
        ... except FaultError as fault:
        ...     print(fault.access, fault.cause, fault.offset)
        write protection 0
    """

    __module__ = "memprot"

    address: int | None = None
    access: Access | None = None
    cause: Cause | None = None
    key: int | None = None
    region: Any = None
    offset: int | None = None
    file: str | None = None
    file_size: int | None = None
    call: str | None = None
    transferred: int | None = None
    partial: bytes | None = None
    others: tuple[FaultError, ...] = ()
    _delivered: LateRecord | None = None
    _record: FaultRecord | None = None
    _beneath: MappedFile | None = None
    _words: str | None = None

    @classmethod
    def _from_native(cls, late: LateRecord) -> FaultError:
        signal_number, access, address, _, guard, block, _, _, _, key, code, call, transferred = late.row[3:16]
        region, offset = region_at(address), None
        if block is not None:
            offset = address - block[0]
        elif region is not None:
            offset = address - region.address
        self = cls()
        # All at once: one by one they take longer than the fault itself.
        self.__dict__ = {
            "_delivered": late,
            "address": address,
            "access": ACCESSES[access],
            "cause": cause_of(signal_number, guard, key),
            "key": None if key == NO_KEY else key,
            "call": call,
            "transferred": None if call is None else transferred,
            "region": region,
            "offset": offset,
        }
        self._look_beneath(code)
        return self

    @classmethod
    def _from_copy(cls, address: int, access: Access, transferred: int, partial: bytes | None = None) -> FaultError:
        self = cls()
        self.address = address
        self.access = access
        self.cause, self.key = cause_at(address, access)
        self.transferred = transferred
        self.partial = partial
        self.region = region_at(address)
        if self.region is not None:
            self.offset = address - self.region.address
        self._look_beneath(0)
        return self

    @classmethod
    def _from_accessor(
        cls,
        region: Region,
        address: int,
        access: int,
        signal_number: int,
        key: int,
        transferred: int,
        partial: bytes | None,
    ) -> FaultError:
        if signal_number == 0:
            return cls._from_copy(address, ACCESSES[access], transferred, partial)
        self = cls()
        self.address = address
        self.access = ACCESSES[access]
        self.transferred = transferred
        self.partial = partial
        start, stop = region.extent
        self.cause = cause_of(signal_number, False, key)
        self.key = None if key == NO_KEY else key
        if start <= address < stop:
            self.region = region
            self.offset = address - region.address
        elif self.cause == "protection":
            self.cause = "unmapped"
        self._look_beneath(0)
        return self

    def _look_beneath(self, code: int) -> None:
        """Ask for the file at once: later it may have another length."""
        if self.cause != "bus" or self.address is None:
            return
        self._beneath = file_beneath(mapping_at(self.address), self.address, code)
        if self._beneath is not None:
            self.file, self.file_size = self._beneath.path, self._beneath.size
        if self._delivered is not None:
            self._delivered.beneath = self._beneath

    @property
    def _row(self) -> tuple[Any, ...] | None:
        return None if self._delivered is None else self._delivered.row

    @property
    def record(self) -> FaultRecord | None:
        """All that is known of the fault; None where memprot's own accessors met it."""
        return self._record if self._delivered is None else self._delivered.record

    @property
    def mapping(self) -> Any:
        """The :class:`memprot.Mapping` the address lies in, or None."""
        return self.record.mapping if self.record else None

    @property
    def native(self) -> tuple[NativeFrame, ...]:
        """The native call stack, innermost frame first; empty where memprot's own accessors met the fault."""
        return self.record.native if self.record else ()

    @property
    def thread(self) -> FaultThread | None:
        """The thread that made the access: ``.id`` as the kernel numbers it, and ``.name``."""
        return self.record.thread if self.record else None

    @property
    def time(self) -> int | None:
        """When it happened, in nanoseconds since 1970, as ``time.time_ns()``; None where an own accessor met it."""
        return self.record.time if self.record else None

    @property
    def instruction(self) -> str | None:
        """The machine instruction: disassembled where capstone is installed, else its bytes in hexadecimal."""
        return self.record.instruction if self.record else None

    @property
    def value(self) -> bytes | None:
        """The bytes that would have been written, where they can be told: the whole of what the instruction stores.

        That includes what lies before ``address``, where the access was still allowed. Of an instruction that fills
        (``rep stos``) it is the next element, of one that copies (``rep movs``) the next 64 bytes at most. None for a
        read, and on aarch64.
        """
        return self.record.value if self.record else None

    @property
    def traceback(self) -> StackSummary | None:
        """The Python lines that were running, outermost first, as :mod:`traceback` formats them; or None."""
        return self.record.traceback if self.record else None

    def __str__(self) -> str:
        if self._words is not None:
            return self._words
        if self.args or self.address is None:
            return super().__str__()
        record = self.record
        size = "" if record is None or record.size is None else f" of {_bytes(record.size)}"
        by = "" if self.call is None else f" in {self.call} ({_bytes(self.transferred or 0)} moved before)"
        place = f"{self.access}{size} at {self.address:#x}{by}"
        if record is not None and record.kind in _HEADLINES:
            # Here, because a program that meets none of them never needs what it imports.
            from memprot.faults.headline import headline

            return headline(record)
        if record is not None and record.block is not None and record.distance is not None:
            past = record.distance >= 0
            where = f"{_bytes(abs(record.distance))} {'past the end' if past else 'before the start'}"
            return f"{place}, {where} of a block of {_bytes(record.block.nbytes)}"
        if self.cause == "bus":
            return f"{place}: {explain_file(self._beneath)}"
        if self.key is not None:
            return f"{place}, to which the thread has no right: it lies under protection key {self.key}"
        if self.region is not None:
            return f"{place}, byte {self.offset} of a Region whose {self.cause} forbids it"
        if record is not None and record.block is not None:
            return f"{place}, byte {self.offset} of {_bytes(record.block.nbytes)} whose protection forbids it"
        return f"{place}, where {_REASONS.get(self.cause or '', 'nothing allows it')}"

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in vars(self).items() if name not in ("region", "_delivered")}
        state["_record"], state["_words"] = self.record, str(self)
        return type(self), self.args, state

    def __copy__(self) -> FaultError:
        copy = type(self)(*self.args)
        copy.__dict__.update(self.__dict__)
        return copy

    def __deepcopy__(self, memo: dict[int, object]) -> FaultError:
        copy = self.__copy__()
        memo[id(self)] = copy
        copy.others = tuple(deepcopy(other, memo) for other in self.others)
        return copy

    def _join(self, later: FaultError) -> None:
        """Take along a fault that was found while this one was on its way."""
        self.others = (*self.others, later, *later.others)
        later.others = ()
