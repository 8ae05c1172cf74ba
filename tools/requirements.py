"""Print the requirements that pyproject.toml names: ``requirements.py build project EXTRA...``."""

import sys
import tomllib
from pathlib import Path

pyproject = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
groups = {
    "build": pyproject["build-system"]["requires"],
    "project": pyproject["project"]["dependencies"],
    **pyproject["project"]["optional-dependencies"],
}
print("\n".join(requirement for group in sys.argv[1:] for requirement in groups[group]))
