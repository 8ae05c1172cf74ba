"""What a run comes to, in a few lines."""

from __future__ import annotations

# What typing.TYPE_CHECKING stands for, without the modules that typing would bring into the program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["REFUSALS", "summary"]

# What is guarded of each target: one, many, and how it is said that there was none.
_BLOCKS = {
    "numpy": ("NumPy array", "NumPy arrays", "No NumPy array"),
    "raw": ("block of Python's raw memory", "blocks of Python's raw memory", "No block of Python's raw memory"),
    "mem": ("block of Python's memory", "blocks of Python's memory", "No block of Python's memory"),
    "obj": ("block of Python's objects", "blocks of Python's objects", "No block of Python's objects"),
    "malloc": ("block of malloc", "blocks of malloc", "No block of malloc"),
}

REFUSALS = (
    None,
    "the pages of guarded blocks held as much beyond them as they may, an eighth of the memory",
    "the limit of address space (ulimit -v) leaves no room for more",
    "the limit of data (ulimit -d) leaves no room for more",
    "memory is locked (mlockall), and locked pages take no guards",
    "the kernel gave no more memory, or no more mappings (vm.max_map_count)",
)
"""Why blocks are not guarded, as C numbers it (enum memprot_guard_refusal)."""


def summary(
    faults: int,
    distinct: int,
    guarded: Mapping[str, Mapping[str, int]],
    refusals: Mapping[str, int] | None = None,
) -> str:
    """The last words of a run.

    Args:
        faults: how many there were in all.
        distinct: how many after folding those that are alike.
        guarded: by target, as memprot.guard.report() gives it, of what was to be guarded. A missing number is 0.
        refusals: by target, why blocks were not guarded: an index of :data:`REFUSALS`.

    >>> print(summary(3, 1, {"numpy": {"arrays": 12, "bytes": 9_600_000, "overhead": 24_576}}), end="")
    memprot: 3 faults, all alike. 12 NumPy arrays were guarded, 9.2 MiB in all, for 24.0 KiB of memory at most.
    """
    lines = [_faults(faults, distinct)]
    for target, counts in guarded.items():
        lines.append(_guarded(target, counts))
        lines += _unguarded(target, counts, (refusals or {}).get(target, 0))
    # What was guarded first stands beside the faults.
    first = " ".join(lines[:2])
    return "".join(f"memprot: {line}\n" for line in [first, *lines[2:]])


def _faults(faults: int, distinct: int) -> str:
    if faults == 0:
        return "no faults."
    if faults == 1:
        return "1 fault."
    if distinct == 1:
        return f"{faults:,} faults, all alike."
    return f"{faults:,} faults, {distinct:,} of them distinct."


def _guarded(target: str, counts: Mapping[str, int]) -> str:
    one, many, none = _BLOCKS[target]
    blocks = counts.get("arrays", counts.get("blocks", 0))
    if blocks == 0:
        return f"{none} was guarded: there was none."
    were = f"{one} was" if blocks == 1 else f"{many} were"
    size = _bytes(counts.get("bytes", 0))
    cost = _bytes(counts.get("overhead", 0))
    return f"{blocks:,} {were} guarded, {size} in all, for {cost} of memory at most."


def _unguarded(target: str, counts: Mapping[str, int], refusal: int) -> list[str]:
    unguarded = counts.get("unguarded", 0)
    if unguarded == 0:
        return []
    what = "array" if target == "numpy" else "block"
    were = f"{what} was" if unguarded == 1 else f"{what}s were"
    why = REFUSALS[refusal]
    return [f"{unguarded:,} {were} left without a guard{'' if why is None else f': {why}'}."]


def _bytes(number: int) -> str:
    if number < 1024:
        return "1 byte" if number == 1 else f"{number} bytes"
    size = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"
