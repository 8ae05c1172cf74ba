"""Run the three programs of this folder under ``memprot run``: each breaks memory and lives."""

import importlib.util
import subprocess
import sys
from pathlib import Path

PROGRAMS = {
    "memmove.py": "ctypes.memmove past the end of a NumPy array",
    "convolve.py": "a C extension with an off-by-one, in a worker thread without the GIL",
    "njit.py": "a numba function that writes one element too many",
}


def install_numba() -> bool:
    """Have numba in the running environment; it is needed by njit.py only."""
    if importlib.util.find_spec("numba") is not None:
        return True
    print("installing numba for njit.py ...", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "numba"]
    return subprocess.run(command, check=False).returncode == 0


def run(program: str) -> bool:
    """Run one program; True when it went on to a normal end."""
    path = Path(__file__).parent / program
    status = subprocess.run([sys.executable, "-m", "memprot", "run", path], check=False).returncode
    if status != 0:
        print(f"{program} ended with status {status}; 0 was expected.", flush=True)
    return status == 0


def main() -> int:
    ended_well = 0
    for program, title in PROGRAMS.items():
        print(f"\n=== {program}: {title} ===", flush=True)
        if program == "njit.py" and not install_numba():
            print("njit.py was not run: numba could not be installed (see pip's message above).", flush=True)
            continue
        ended_well += run(program)
    print(f"\n{ended_well} of {len(PROGRAMS)} programs caught their fault and went on, data intact.")
    return 0 if ended_well == len(PROGRAMS) else 1


if __name__ == "__main__":
    sys.exit(main())
