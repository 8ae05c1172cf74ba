"""What `make bench` measures can be measured: nothing here looks at a figure."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("run", "measure"))


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in set(sys.modules) - before:
        if name in {*MODULES, "measure"}:
            del sys.modules[name]


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("name", MODULES)
def test_every_module_of_the_benchmarks_has_rows(name: str) -> None:
    if name == "read_mappings":
        pytest.importorskip("psutil")
    assert callable(importlib.import_module(name).rows)


@pytest.mark.usefixtures("importable")
def test_every_blocked_write_of_the_benchmark_is_caught() -> None:
    fault_recovery = importlib.import_module("fault_recovery")
    with fault_recovery.read_only(3, shared=True) as region:
        fault_recovery.blocked_writes(region.address, 8, 5)
        fault_recovery.blocked_writes(region.address, region.size, 1)
        assert set(region[:]) == {1}


@pytest.mark.usefixtures("importable")
def test_a_row_without_a_target_is_shown_and_reached(capsys: pytest.CaptureFixture[str]) -> None:
    measure = importlib.import_module("measure")
    assert measure.show([measure.Row("reading [i]", 1.0, 2.0, None)])
    assert "reading [i]" in capsys.readouterr().out
    assert not measure.show([measure.Row("writing", 3.0, 2.0, 1.1)])
