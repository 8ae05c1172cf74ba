"""What is promised about the order of a store and a later load, on this processor and this kernel.

Only promises are asserted. What is merely observed is printed by tools/litmus.py and told in
docs/memory-ordering.md.
"""

import errno
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    specification = importlib.util.spec_from_file_location("litmus", ROOT / "tools" / "litmus.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["litmus"] = module
    specification.loader.exec_module(module)
    return module


tool = load()

# A fence costs next to nothing, a membarrier interrupts the other processor.
ROUNDS = {tool.Between.FENCE: 20_000, tool.Between.MEMBARRIER: 2_000}
ENOUGH_TO_SEE_IT = 2_000_000
PROMISED = [pair for pair in tool.CASES if tool.is_promised(pair)]


@pytest.fixture(scope="module")
def litmus(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tool.Litmus(tmp_path_factory.mktemp("litmus"))


def run(litmus: Any, pair: Any, rounds: int, burden: int) -> Any:
    try:
        return litmus.run(pair, rounds, burden)
    except OSError as error:
        if tool.Between.MEMBARRIER in pair and error.errno in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            pytest.skip(f"membarrier is not to be had here: {error.strerror}")
        raise


def names(pair: Any) -> str:
    return f"{pair[0].name}-{pair[1].name}".lower()


@pytest.mark.parametrize("pair", tool.CASES, ids=names)
def test_every_round_has_one_of_four_outcomes(litmus: Any, pair: Any) -> None:
    affinity = os.sched_getaffinity(0)
    outcomes = run(litmus, pair, 200, burden=4)
    assert outcomes.rounds == 200
    assert os.sched_getaffinity(0) == affinity


@pytest.mark.parametrize("burden", tool.BURDENS)
@pytest.mark.parametrize("pair", PROMISED, ids=names)
def test_a_barrier_on_both_sides_or_a_membarrier_on_one_never_leaves_both_loads_old(
    litmus: Any, pair: Any, burden: int
) -> None:
    assert run(litmus, pair, ROUNDS[pair[0]], burden).both_old == 0


def test_without_a_barrier_the_loads_overtake_the_stores(litmus: Any) -> None:
    """What gives the tests above their meaning, where processor and machine let it be seen."""
    pair = (tool.Between.NOTHING, tool.Between.NOTHING)
    seen = tool.Outcomes()
    while seen.both_old == 0:
        if seen.rounds >= ENOUGH_TO_SEE_IT or len(os.sched_getaffinity(0)) == 1:
            pytest.skip(f"not seen in {seen.rounds} rounds on {len(os.sched_getaffinity(0))} processor(s)")
        seen += run(litmus, pair, 50_000, burden=max(tool.BURDENS))
    assert seen.rounds > seen.both_old > 0


def test_the_promised_cases_are_those_with_a_membarrier_or_with_two_fences() -> None:
    kinds = tool.Between
    assert set(PROMISED) == {
        (kinds.FENCE, kinds.FENCE),
        (kinds.MEMBARRIER, kinds.MEMBARRIER),
        (kinds.MEMBARRIER, kinds.NOTHING),
    }


def test_what_cannot_be_run_is_an_error(litmus: Any) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        litmus.run((tool.Between.NOTHING, tool.Between.NOTHING), 1, burden=1000)


def test_one_processor_is_enough_to_run_it() -> None:
    program = "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); exec(sys.stdin.read())"
    text = (
        f"import sys, tempfile; sys.path.insert(0, {str(ROOT / 'tools')!r}); import litmus\n"
        "from pathlib import Path\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    test = litmus.Litmus(Path(folder))\n"
        "    kinds = litmus.Between\n"
        "    for kind in (kinds.NOTHING, kinds.FENCE, kinds.MPROTECT_TIGHTEN):\n"
        "        print(test.run((kind, kind), 100).both_old)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=text, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["0", "0", "0"]


def test_the_document_has_the_table_of_the_tool() -> None:
    document = (ROOT / "docs" / "memory-ordering.md").read_text()
    header = "\n".join(tool.table(None, 0, [])) + "\n"
    lines = document.partition(header)[2].partition("\n\n")[0].splitlines()
    shown = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    promised = {(first, second): answer for first, second, _, _, answer in shown}
    assert promised == {
        (first.words, second.words): "yes" if tool.is_promised((first, second)) else "no"
        for first, second in tool.CASES
    }
    assert all(int(old.replace(",", "")) == 0 for _, _, _, old, answer in shown if answer == "yes")
    for command in re.findall(r"^    \.venv/bin/python (\S+)", document, re.MULTILINE):
        assert (ROOT / command).is_file()
