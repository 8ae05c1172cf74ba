"""Make docs/report.svg, the picture of a report in the README: a real run of examples/overrun/convolve.py.

Run it with the environment's Python: ``.venv/bin/python tools/report_picture.py``.
"""

import html
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
PROGRAM = "examples/overrun/convolve.py"
PICTURE = ROOT / "docs" / "report.svg"
WIDTH = 102
SPACE = "&#160;"
TEXT = re.compile(
    r'x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" textLength="(?P<length>[\d.]+)"(?P<rest>[^>]*)>(?P<content>[^<]+)<'
)


def run() -> str:
    """What a terminal shows of the run, colours included."""
    command = [sys.executable, "-m", "memprot", "run", PROGRAM]
    environment = {**os.environ, "FORCE_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout


def without_outer_spaces(text: re.Match[str]) -> str:
    """Not every program that draws SVG keeps them; each text has its place, so they can go."""
    x, length, content = float(text["x"]), float(text["length"]), text["content"]
    width = length / len(html.unescape(content))
    bare = content
    while bare.startswith(SPACE):
        bare, x, length = bare.removeprefix(SPACE), x + width, length - width
    while bare.endswith(SPACE):
        bare, length = bare.removesuffix(SPACE), length - width
    return f'x="{x:.4g}" y="{text["y"]}" textLength="{length:.4g}"{text["rest"]}>{bare}<' if bare else text[0]


def main() -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), (f"memprot run {PROGRAM}", "bold")))
    console.print(Text.from_ansi(run()))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(TEXT.sub(without_outer_spaces, console.export_svg(title="memprot run", unique_id="report")))
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
