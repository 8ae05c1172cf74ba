"""A numba function writes one element past the end of its output.

n values have n - 1 differences between neighbours, but the loop runs over all n. Compiled code does not
check its indexes (numba can, at a price, with boundscheck=True). Under plain ``python`` the last difference
lands behind the array: silent damage, or a crash later. Under ``memprot run`` the call raises FaultError,
and not a byte behind the array has changed.
"""

import sys

import numpy as np
import numpy.typing as npt
from numba import njit

try:
    from memprot import FaultError
except ImportError:  # Without memprot there is nothing to catch: the program corrupts its memory.

    class FaultError(Exception):  # type: ignore[no-redef]
        pass


LENGTH = 1002


@njit(boundscheck=False)
def differences(values: npt.NDArray[np.float64], output: npt.NDArray[np.float64]) -> None:
    for i in range(len(values)):  # len(output) was meant
        output[i] = values[(i + 1) % len(values)] - values[i]


def main() -> str | None:
    values = np.arange(LENGTH, dtype=np.float64) ** 2
    before = np.full(LENGTH - 1, -1.0)
    steps = np.zeros(LENGTH - 1)
    after = np.full(LENGTH - 1, -2.0)

    try:
        differences(values, steps)
    except FaultError as error:
        print(f"njit.py: caught {type(error).__name__}: {error}")
    else:
        return "njit.py: 8 bytes were written behind the array and nobody noticed"

    intact = (
        steps.tobytes() == (np.arange(LENGTH - 1, dtype=np.float64) * 2 + 1).tobytes()
        and values.tobytes() == (np.arange(LENGTH, dtype=np.float64) ** 2).tobytes()
        and before.tobytes() == np.full(LENGTH - 1, -1.0).tobytes()
        and after.tobytes() == np.full(LENGTH - 1, -2.0).tobytes()
    )
    if not intact:
        return "njit.py: data were damaged"
    print("njit.py: every byte of the four arrays is as intended; going on")
    return None


if __name__ == "__main__":
    sys.exit(main())
