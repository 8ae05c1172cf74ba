"""Every cause of a failed memory call, provoked for real: what the error says of it, and docs/errors.md."""

import errno
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memprot import Reason
from tests.kernel.provocations import CASES, Case

ROOT = Path(__file__).parents[2]
BEGIN = "<!-- begin: tools/errors_table.py -->\n"
# The arguments are wrong whatever is mapped: there is no place to name.
PLACELESS = {Reason.MISALIGNED, Reason.RANGE_WRAPS, Reason.UNKNOWN_FLAGS, Reason.BOTH_GROWS, Reason.NO_KEYS}
# What only an administrator, another kernel or luck can bring about.
WITHOUT_A_ROW = {
    Reason.OUT_OF_MEMORY,
    Reason.EXECHEAP,
    Reason.EXECSTACK,
    Reason.EXECMOD,
    Reason.NOT_SUPPORTED,
    Reason.SHARED_PAGE,
    Reason.CHANGED_MEANWHILE,
}


def name(case: Case) -> str:
    return f"{case.call}-{case.errno}-{case.reason}-{case.provoke.__name__}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_a_provoked_failure_is_told_with_its_cause(case: Case) -> None:
    if not case.possible:
        pytest.skip(f"this machine cannot: it needs {case.needs}")
    error, otherwise = case.run()
    assert error is not None, otherwise
    assert (error.call, errno.errorcode[error.errno or 0], error.reason) == (case.call, case.errno, case.reason)
    assert error.explanation
    assert error.hint
    assert str(error).endswith(f"): {error.explanation}; {error.hint}")
    assert "\n" not in str(error)
    assert (error.start is None) == (error.stop is None)
    if error.start is not None and error.stop is not None:
        assert error.start < error.stop
    if error.reason in PLACELESS:
        assert (error.start, error.mapping) == (None, None)
    if error.mapping is not None:
        assert error.start is not None
        assert error.mapping.start <= error.start
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_every_reason_has_a_provocation_or_is_known_to_have_none() -> None:
    assert {case.reason for case in CASES} | WITHOUT_A_ROW == set(Reason)


def test_the_table_of_the_documentation_is_what_the_provocations_give() -> None:
    command = [sys.executable, str(ROOT / "tools" / "errors_table.py")]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    kept = (ROOT / "docs" / "errors.md").read_text().split(BEGIN)[1].split("\n<!-- end -->")[0].splitlines()
    assert len(made) == len(kept)
    for here, there in zip(made, kept, strict=True):
        if "(needs " in here + there:  # one of the two machines could not
            assert re.sub(r"\|[^|]*\|$", "", here) == re.sub(r"\|[^|]*\|$", "", there)
        else:
            assert here == there
