"""Does random operations in this process and in the model, and compares what their errors say of each failure.

The arena and the operations are those with which the model itself is held against the kernel. Run it in a child.
"""

import ctypes
import os
import random
import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from memprot import PAGE_SIZE, Prot, ProtectionError, Reason, calls
from memprot.flags import Advice, MapFlag, RemapFlag
from memprot.model import AddressSpace
from tests.kernel.differential.files import Files
from tests.kernel.differential.kernel_side import locks_without_limit, number
from tests.kernel.differential.model_side import as_file
from tests.kernel.differential.operations import ARENA, FENCE, FENCE_PAGES, WORLDS, Dice, Operation, World, at

LENGTH = 60
COMPARED = ("mmap", "munmap", "mprotect", "madvise", "mremap", "mlock", "mlock2", "munlock", "mseal")
# Keys have tests of their own, where there are some; "probe" says nothing of failures.
LEFT_OUT = (("pkey_mprotect", 0), ("pkey_alloc", 0), ("pkey_free", 0), ("probe", 0))
CHOSEN = tuple(
    World(world.name, moves_out=False, first=world.first, weights=(*world.weights, *LEFT_OUT))
    for world in WORLDS
    if world.name in ("plain", "files", "sealing", "deny write execute", "read implies execute")
)
POPULATE = (Advice.POPULATE_READ, Advice.POPULATE_WRITE)
MARKS = (
    *(Advice.NORMAL, Advice.RANDOM, Advice.SEQUENTIAL, Advice.DONTFORK, Advice.DOFORK, Advice.WIPEONFORK),
    *(Advice.KEEPONFORK, Advice.DONTDUMP, Advice.DODUMP, Advice.MERGEABLE, Advice.UNMERGEABLE),
    *(Advice.HUGEPAGE, Advice.NOHUGEPAGE),
)

Range = tuple[int, int] | None


@dataclass
class Comparison:
    """What came of it."""

    failures: Counter[str] = field(default_factory=Counter)
    """The failures compared, by their reason."""
    differences: list[str] = field(default_factory=list)


def compare(seed: int) -> Comparison:
    """One sequence of operations, in this process, which is of no use for anything else afterwards."""
    chance = random.Random(seed)
    world = chance.choice(CHOSEN)
    files = Files()
    result = Comparison()
    arena = Arena(world, files)
    done: list[Operation] = []
    for operation in (*world.first, *Dice(chance, world).sequence(LENGTH)):
        operation = without_touching(operation)
        done.append(operation)
        real, model = arena.perform(operation)
        if (real is None) != (model is None) or (real and model and real.errno != model.errno):
            break  # the model is wrong, which other tests are about, and from here on both have other mappings
        if real is not None and model is not None:
            result.failures[str(real.reason)] += 1
            where = f"seed {seed}, world {world.name!r}"
            result.differences += [f"{where}: {what}\n{real}\n{done}" for what in differences(operation, real, model)]
    files.close()
    return result


class Arena:
    """Addresses of this process and the same ones of a model, with the same files."""

    def __init__(self, world: World, files: Files) -> None:
        privileged = locks_without_limit(Path("/proc/self/status").read_text())
        limits = {} if privileged else {"memlock": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]}
        self._model = AddressSpace(keys=0, **limits)
        self._files = files.by_name
        self._modelled = {name: as_file(file) for name, file in self._files.items()}
        for start in (at(-FENCE_PAGES), at(world.pages)):
            fence = (start, FENCE_PAGES * PAGE_SIZE, 0, MapFlag.PRIVATE | MapFlag.FIXED_NOREPLACE, FENCE, 0)
            assert self.perform(Operation("mmap", fence)) == (None, None)

    def perform(self, operation: Operation) -> tuple[ProtectionError | None, ProtectionError | None]:
        """Do it on both sides; the errors."""
        name, arguments = operation
        if name in COMPARED:
            return self._really(name, arguments), self._in_model(name, arguments)
        if name == "truncate":
            self._truncate(str(arguments[0]), number(arguments[1]))
        elif name == "set_mdwe":
            self._really(name, arguments)
            self._in_model(name, arguments)
        elif name == "personality":
            ctypes.CDLL(None).personality(arguments[0])
            self._model.personality(number(arguments[0]))
        return None, None

    def _really(self, name: str, arguments: tuple[int | str, ...]) -> ProtectionError | None:
        values = [self._descriptor(word) if isinstance(word, str) else word for word in arguments]
        return failure(getattr(calls, name), values)

    def _descriptor(self, name: str) -> int:
        return self._files[name].descriptor if name in self._files else -1

    def _in_model(self, name: str, arguments: tuple[int | str, ...]) -> ProtectionError | None:
        values = [self._modelled.get(word, -1) if isinstance(word, str) else word for word in arguments]
        return failure(getattr(self._model, name), values)

    def _truncate(self, name: str, size: int) -> None:
        os.ftruncate(self._files[name].descriptor, size)
        truncated = self._modelled[name]
        for file in self._modelled.values():
            if (file.device, file.inode) == (truncated.device, truncated.inode):
                file.truncate(size)


def without_touching(operation: Operation) -> Operation:
    """An access as advice that brings the page in: where the model is wrong about it, nothing dies."""
    if operation.name != "access":
        return operation
    address, access = operation.arguments[:2]
    advice = Advice.POPULATE_WRITE if access == "write" else Advice.POPULATE_READ
    return Operation("madvise", (number(address) // PAGE_SIZE * PAGE_SIZE, PAGE_SIZE, int(advice)))


def failure(call: object, arguments: Sequence[object]) -> ProtectionError | None:
    """Make a call; its error."""
    assert callable(call)
    try:
        call(*arguments)
    except ProtectionError as error:
        return error
    return None


def differences(operation: Operation, real: ProtectionError, model: ProtectionError) -> list[str]:
    """In what the errors of one failure differ, as far as the model knows."""
    found = []
    if real.reason != model.reason and not is_same_cause(real, model):
        found.append(f"reason {real.reason}, the model says {model.reason}")
    elif knows_place(model):
        here, there = clipped(operation, real), clipped(operation, model)
        if here != there:
            found.append(f"at {spelled(here)}, the model says {spelled(there)}")
    here_applied, there_applied = merged(real.applied), merged(model.applied)
    if (
        operation.name == "madvise"
        and operation.arguments[2] in MARKS
        and all(map(partial(covered, here_applied), there_applied))
    ):
        # A mapping that merged with the next one by taking the advice took it along, which the model leaves out.
        there_applied = here_applied
    if knows_applied(operation, real) and here_applied != there_applied:
        found.append(f"applied {list(map(spelled, here_applied))}, the model says {list(map(spelled, there_applied))}")
    return found


def is_same_cause(real: ProtectionError, model: ProtectionError) -> bool:
    """mremap rounds a length near 2**64 up to 0: we say that it wraps, the model that there is none."""
    return (real.call, real.reason, model.reason) == ("mremap", Reason.RANGE_WRAPS, Reason.BAD_ARGUMENT)


def knows_place(model: ProtectionError) -> bool:
    """Whether the model tells where it was."""
    if (model.call, model.reason) == ("mremap", Reason.OCCUPIED):
        return False  # it names the addresses that were wanted, not the mapping in the way
    return model.start is not None  # it has none for ranges outside of all addresses, where we may name one


def knows_applied(operation: Operation, real: ProtectionError) -> bool:
    """Whether the model tells what was changed before."""
    if operation.name == "madvise" and operation.arguments[2] in POPULATE:
        return False  # it brings pages in, and its error does not say how far it came
    if operation.name == "mprotect" and number(operation.arguments[2]) & Prot.GROWSDOWN:
        return False  # it begins where the growing mapping does, and its error where the request does
    # Where there are holes in what is moved, what lies at their new place cannot be told from what was moved.
    return operation.name != "mremap" or not number(operation.arguments[3]) & RemapFlag.FIXED or not real.applied


def clipped(operation: Operation, error: ProtectionError) -> Range:
    """The place that an error names within what was asked for: the model names whole mappings here and there."""
    if error.start is None or error.stop is None:
        return None
    asked = [(number(operation.arguments[0]) // PAGE_SIZE * PAGE_SIZE, number(operation.arguments[1]))]
    if operation.name == "mremap":
        asked.append((number(operation.arguments[4]), number(operation.arguments[2])))
    for address, length in asked:
        stop = min(address + max(-(-length // PAGE_SIZE) * PAGE_SIZE % 2**64, PAGE_SIZE), at(CHOSEN[0].pages))
        start, end = max(error.start, address), min(error.stop, stop)
        if start < end:
            return start, end
    return error.start, error.stop


def merged(ranges: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """Neighbours as one."""
    found: list[tuple[int, int]] = []
    for start, stop in ranges:
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, stop))
    return found


def covered(ranges: list[tuple[int, int]], part: tuple[int, int]) -> bool:
    """Whether a part is within one of these."""
    return any(start <= part[0] and part[1] <= stop for start, stop in ranges)


def spelled(place: Range) -> str:
    """A place by its pages."""
    return "no place" if place is None else f"pages {(place[0] - ARENA) / PAGE_SIZE}-{(place[1] - ARENA) / PAGE_SIZE}"
