"""Measure every row: each module beside this one that has ``rows() -> list[Row]``.

``run.py`` measures all, ``run.py mprotect_toggle ...`` only those.
"""

import importlib
import sys
from pathlib import Path

import measure

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    sys.path.insert(0, str(HERE))
    found = names or sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("run", "measure"))
    rows: list[measure.Row] = []
    for name in found:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(name).rows()
    measure.show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
