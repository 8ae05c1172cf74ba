"""What a run comes to, in one or two lines."""

from __future__ import annotations

# What typing.TYPE_CHECKING stands for, without the modules that typing would bring into the program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["summary"]


def summary(faults: int, distinct: int, guarded: Mapping[str, int] | None) -> str:
    """The last words of a run.

    Args:
        faults: how many there were in all.
        distinct: how many after folding those that are alike.
        guarded: of NumPy's arrays: ``arrays`` and ``bytes`` guarded since the start, ``unguarded`` arrays,
            and the bytes of ``overhead`` at most. A missing number is 0. None when nothing could be guarded.

    >>> print(summary(3, 1, {"arrays": 12, "bytes": 9_600_000, "overhead": 24_576}), end="")
    memprot: 3 faults, all alike. 12 NumPy arrays were guarded, 9.2 MiB in all, for 24.0 KiB of memory at most.
    """
    if guarded is None:
        return f"memprot: {_faults(faults, distinct)}\n"
    lines = [f"memprot: {_faults(faults, distinct)} {_guarded(guarded)}\n"]
    unguarded = guarded.get("unguarded", 0)
    if unguarded:
        were = "array was" if unguarded == 1 else "arrays were"
        lines.append(f"memprot: {unguarded:,} {were} left without a guard.\n")
    return "".join(lines)


def _faults(faults: int, distinct: int) -> str:
    if faults == 0:
        return "no faults."
    if faults == 1:
        return "1 fault."
    if distinct == 1:
        return f"{faults:,} faults, all alike."
    return f"{faults:,} faults, {distinct:,} of them distinct."


def _guarded(guarded: Mapping[str, int]) -> str:
    arrays = guarded.get("arrays", 0)
    if arrays == 0:
        return "No NumPy array was guarded: there was none."
    were = "NumPy array was" if arrays == 1 else "NumPy arrays were"
    size = _bytes(guarded.get("bytes", 0))
    cost = _bytes(guarded.get("overhead", 0))
    return f"{arrays:,} {were} guarded, {size} in all, for {cost} of memory at most."


def _bytes(number: int) -> str:
    if number < 1024:
        return "1 byte" if number == 1 else f"{number} bytes"
    size = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"
