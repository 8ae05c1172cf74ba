"""docs/flags.md is what the sources say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "flags.md"


def test_the_page_is_what_its_tool_writes() -> None:
    code = "import runpy, sys; sys.stdout.write(runpy.run_path(sys.argv[1])['page']())"
    command = [sys.executable, "-c", code, str(ROOT / "tools" / "flags_page.py")]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert PAGE.read_text() == written, "run tools/flags_page.py again"


def test_every_flag_has_a_meaning() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    for row in rows:
        assert "PER_" in row[0] or row[-1].strip(" |"), row
