"""The model and the kernel, given the same operations; everything that shows is compared after each."""

import errno
import os
import re
from collections.abc import Sequence

from memprot import PAGE_SIZE
from tests.kernel.differential.kernel_side import KernelSide, Outcome
from tests.kernel.differential.model_side import ModelSide
from tests.kernel.differential.operations import ARENA, FENCE, FENCE_PAGES, Operation, World, at

PRIVATE_FIXED = 0x12
SHARED_ANONYMOUS = re.compile(r"\S+ (\d+) +/dev/zero \(deleted\)")
"""Device and inode of shared anonymous memory: the kernel numbers it, so only which is equal to which can be known."""


class DisagreementError(AssertionError):
    """The model and the kernel did not do the same."""

    def __init__(self, world: World, operations: Sequence[Operation], what: str) -> None:
        history = "\n".join(f"    {operation!r}," for operation in operations)
        super().__init__(f"in the world {world.name!r}, after\n{history}\n{what}")
        self.operations = tuple(operations)


class Comparison:
    """One sequence of operations in a world, done on both sides."""

    def __init__(self, kernel: KernelSide, world: World) -> None:
        self._kernel = kernel
        self._world = world
        self._done: list[Operation] = []
        self._names: dict[tuple[str, str], int] = {}
        self._model = ModelSide(world, kernel.begin(world))
        below, above = at(-FENCE_PAGES), at(world.pages)
        fences = [
            Operation("mmap", (start, FENCE_PAGES * PAGE_SIZE, 0, PRIVATE_FIXED, FENCE, 0)) for start in (below, above)
        ]
        self.perform([*fences, *world.first])

    def perform(self, operations: Sequence[Operation]) -> None:
        """Do these on both sides.

        Raises:
            DisagreementError: something was not the same.
        """
        observed = self._kernel.perform(list(operations), self._world)
        for operation, (outcome, maps) in zip(operations, observed, strict=True):
            self._done.append(operation)
            self._compare(operation, self._model.perform(operation), outcome)
            self._compare_maps(self._model.maps(), maps)

    def _compare(self, operation: Operation, model: Outcome, kernel: Outcome) -> None:
        if model == kernel or (operation.name in ("mmap", "mremap") and self._outside(model, kernel)):
            return
        if model.pages:
            both = enumerate(zip(model.pages, kernel.pages, strict=True))
            wrong = [page for page, (ours, its) in both if ours is not None and ours != its]
            if wrong:
                self._disagree(f"of the pages {wrong} only one of both says that they are there: {kernel.pages}")
            return
        if len(model.touches) > 1:
            pairs = enumerate(zip(model.touches, kernel.touches, strict=True))
            different = [f"page {page}: model {ours}, kernel {its}" for page, (ours, its) in pairs if ours != its]
            self._disagree("\n".join(["(signal, code, key)", *different]))
        self._disagree(f"the model says {describe(model)}, the kernel {describe(kernel)}")

    def _outside(self, *outcomes: Outcome) -> bool:
        """Whether these put a mapping outside the arena: where, is the kernel's affair."""
        arena = range(ARENA, at(self._world.pages))
        return all(outcome.errno == 0 and outcome.result not in arena for outcome in outcomes)

    def _compare_maps(self, model: str, kernel: str) -> None:
        if model == kernel:
            return
        model, kernel = self._name_shared("model", model), self._name_shared("kernel", kernel)
        if model != kernel:
            self._disagree(f"the model's mappings are\n{model}the kernel's are\n{kernel}")

    def _name_shared(self, side: str, maps: str) -> str:
        def name(match: re.Match[str]) -> str:
            known = self._names.setdefault((side, match[1]), sum(key[0] == side for key in self._names))
            return f"shared anonymous {known}"

        return SHARED_ANONYMOUS.sub(name, maps)

    def _disagree(self, what: str) -> None:
        raise DisagreementError(self._world, self._done[2 + len(self._world.first) :], what)

    def end(self) -> None:
        """End the kernel's process of this sequence."""
        self._kernel.end()


def describe(outcome: Outcome) -> str:
    """An outcome in words."""
    if outcome.errno:
        return f"{errno.errorcode.get(outcome.errno, outcome.errno)} ({os.strerror(outcome.errno)})"
    if outcome.touches:
        return f"(signal, code, key) {outcome.touches[0]}"
    return f"success, {outcome.result:#x}"


def compare(kernel: KernelSide, world: World, operations: Sequence[Operation]) -> None:
    """Do a whole sequence on both sides.

    Raises:
        DisagreementError: something was not the same.
    """
    comparison = Comparison(kernel, world)
    try:
        comparison.perform(operations)
    finally:
        comparison.end()


def smallest(kernel: KernelSide, world: World, operations: Sequence[Operation]) -> DisagreementError | None:
    """The disagreement with everything left out of its operations that it does not need; None when there is none."""
    found: DisagreementError | None = None
    kept = list(operations)
    step = len(kept)
    while step:
        start = 0
        while start < len(kept):
            fewer = kept[:start] + kept[start + step :] if found else kept
            try:
                compare(kernel, world, fewer)
            except DisagreementError as disagreement:
                found = disagreement
                kept = list(disagreement.operations)
            else:
                if found is None:
                    return None
                start += step
        step //= 2
    return found
