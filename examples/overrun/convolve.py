"""A C extension has an off-by-one at the border, and runs in a worker thread with the GIL released.

The extension is convolve.c, built by this program when it first runs. It writes output[n], 8 bytes behind
an array of n elements. Under plain ``python`` the heap is damaged: the program may die when it frees the
next block, in another thread and far from the bug, or go on with wrong numbers. Under ``memprot run`` the
call raises FaultError in the worker thread, the report names the C function and its library, and not a byte
behind the array has changed.
"""

import importlib.util
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

try:
    from memprot import FaultError
except ImportError:  # Without memprot there is nothing to catch: the program corrupts its memory.

    class FaultError(Exception):  # type: ignore[no-redef]
        pass


LENGTH = 1001
KERNEL = [1.0, 2.0, 1.0]


def build() -> ModuleType:
    """Compile convolve.c for the running interpreter, unless that is done, and import it."""
    source = Path(__file__).with_suffix(".c")
    library = source.parent / "build" / str(sys.implementation.cache_tag) / "convolve.so"
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        library.parent.mkdir(parents=True, exist_ok=True)
        options = ["-shared", "-fPIC", "-O2", "-g", "-fno-inline", f"-I{sysconfig.get_path('include')}"]
        subprocess.run(["cc", *options, "-o", str(library), str(source)], check=True)
    specification = importlib.util.spec_from_file_location("convolve", library)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def expected(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same convolution by NumPy; the numbers are whole, so that both are exact."""
    return np.convolve(np.pad(signal, 1, mode="edge"), KERNEL, mode="valid")


def main() -> str | None:
    extension = build()
    kernel = np.array(KERNEL)
    signal = np.arange(LENGTH, dtype=np.float64) % 7
    before = np.full(LENGTH, -1.0)
    smooth = np.zeros(LENGTH)
    after = np.full(LENGTH, -2.0)
    caught: list[FaultError] = []

    def work() -> None:
        try:
            extension.convolve(signal, kernel, smooth)
        except FaultError as error:
            caught.append(error)

    worker = threading.Thread(target=work, name="convolver")
    worker.start()
    worker.join()
    if not caught:
        return "convolve.py: 8 bytes were written behind the array and nobody noticed"
    print(f"convolve.py: caught {type(caught[0]).__name__} in the worker: {caught[0]}")

    intact = (
        smooth.tobytes() == expected(signal).tobytes()
        and signal.tobytes() == (np.arange(LENGTH, dtype=np.float64) % 7).tobytes()
        and kernel.tobytes() == np.array(KERNEL).tobytes()
        and before.tobytes() == np.full(LENGTH, -1.0).tobytes()
        and after.tobytes() == np.full(LENGTH, -2.0).tobytes()
    )
    if not intact:
        return "convolve.py: data were damaged"
    print("convolve.py: every byte of the five arrays is as intended; going on")
    return None


if __name__ == "__main__":
    sys.exit(main())
