"""The operations as the model says the kernel does them."""

from memprot import PAGE_SIZE, ProtectionError, features
from memprot.model import Access, AddressSpace, File, Thread
from tests.kernel.differential.files import OpenFile
from tests.kernel.differential.kernel_side import Outcome, Surroundings, number
from tests.kernel.differential.operations import ARENA, HEAP_PAGE, Operation, World, at

CODES = {None: 0, "SEGV_MAPERR": 1, "SEGV_ACCERR": 2, "SEGV_PKUERR": 4, "BUS_ADRERR": 2}
PLACING = {"mmap": 1, "mremap": 2}
"""Calls that return an address, and which of their arguments is the length of what is there."""


class ModelSide:
    """One sequence in a model of the process."""

    def __init__(self, world: World, surroundings: Surroundings) -> None:
        self._space = AddressSpace(
            max_map_count=surroundings.mappings_left,
            keys=16 if features.available("protection_keys") else 0,
            **({"brk": at(HEAP_PAGE)} if world.heap else {}),
            **surroundings.limits,
        )
        first = self._space.thread
        self._threads = [first, *[Thread(first) for _ in range(1, world.threads)]]
        self._files = {name: as_file(file) for name, file in surroundings.files.items()}
        self._inside = range(ARENA, at(world.pages))

    def perform(self, operation: Operation) -> Outcome:
        """What comes of it."""
        name, arguments = operation
        if name == "access":
            address, access, thread = arguments
            return Outcome(0, 0, (self._touch(number(address), str(access), number(thread)),))
        if name == "probe":
            access, thread = arguments
            pages = self._inside[::PAGE_SIZE]
            return Outcome(0, 0, tuple(self._touch(page, str(access), number(thread)) for page in pages))
        if name == "pages":
            return Outcome(0, pages=self._pages())
        if name == "truncate":
            return self._truncate(str(arguments[0]), number(arguments[1]))
        if name == "rights":
            key, rights, thread = map(number, arguments)
            before = self._threads[thread].rights[key]
            self._threads[thread].rights[key] = rights
            return Outcome(0, before)
        try:
            return Outcome(0, self._call(name, arguments))
        except ProtectionError as error:
            assert error.errno is not None
            return Outcome(error.errno)

    def _call(self, name: str, arguments: tuple[int | str, ...]) -> int:
        values = [self._files.get(value, -1) if isinstance(value, str) else value for value in arguments]
        result = getattr(self._space, name)(*values) or 0
        assert isinstance(result, int)
        if name in PLACING and result not in self._inside:
            self._space.munmap(result, number(arguments[PLACING[name]]))
        return result

    def _touch(self, address: int, access: str, thread: int) -> tuple[int, int, int]:
        result: Access = self._space.access(address, access, thread=self._threads[thread])
        return int(result.signal or 0), CODES[result.code], result.key or 0

    def _pages(self) -> tuple[bool | None, ...]:
        """Which are there. Of files the kernel brings in more than is touched, and PROT_NONE hides from a walk."""
        there: list[bool | None] = [False] * len(self._inside[::PAGE_SIZE])
        for mapping in self._space.mappings:
            known = mapping.file is None and mapping.prot
            for address in range(mapping.start, mapping.stop, PAGE_SIZE):
                if address in self._inside:
                    page = (address - ARENA) // PAGE_SIZE
                    there[page] = self._space.walk(address).present if known else None
        return tuple(there)

    def _truncate(self, name: str, size: int) -> Outcome:
        truncated = self._files[name]
        for file in self._files.values():
            if (file.device, file.inode) == (truncated.device, truncated.inode):
                file.truncate(size)
        return Outcome(0)

    def maps(self) -> str:
        """What /proc/PID/maps would say."""
        return self._space.maps()


def as_file(file: OpenFile) -> File:
    """A file as the model knows files."""
    path, device, inode = file.identity
    return File(path, file.size, device, inode, file.readable, file.writable, file.executable, file.seals)
