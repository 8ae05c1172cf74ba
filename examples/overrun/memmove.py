"""ctypes.memmove copies one element more than the array holds.

A histogram of n bins has n + 1 edges. This program copies "the edges" into an array made for the n bins: 8
bytes land behind the array, on whatever the allocator keeps there. Under plain ``python`` nothing complains
at that line; the damage is silent, or the program dies much later, in an innocent ``free``. Under ``memprot
run`` the line itself raises FaultError, and not a byte behind the array has changed.
"""

import ctypes
import sys

import numpy as np

try:
    from memprot import FaultError
except ImportError:  # Without memprot there is nothing to catch: the program corrupts its memory.

    class FaultError(Exception):  # type: ignore[no-redef]
        pass


BINS = 1001


def main() -> str | None:
    before = np.full(BINS, -1.0)
    lower_edges = np.zeros(BINS)
    after = np.full(BINS, -2.0)
    edges = np.linspace(0.0, 1.0, BINS + 1)

    try:
        ctypes.memmove(lower_edges.ctypes.data, edges.ctypes.data, edges.nbytes)  # lower_edges.nbytes!
    except FaultError as error:
        print(f"memmove.py: caught {type(error).__name__}: {error}")
    else:
        return "memmove.py: 8 bytes were written behind the array and nobody noticed"

    intact = (
        lower_edges.tobytes() == edges[:BINS].tobytes()
        and edges.tobytes() == np.linspace(0.0, 1.0, BINS + 1).tobytes()
        and before.tobytes() == np.full(BINS, -1.0).tobytes()
        and after.tobytes() == np.full(BINS, -2.0).tobytes()
    )
    if not intact:
        return "memmove.py: data were damaged"
    print("memmove.py: every byte of the four arrays is as intended; going on")
    return None


if __name__ == "__main__":
    sys.exit(main())
