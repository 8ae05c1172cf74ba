"""Faults that come without an address: the instruction knows it."""

import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.programs.conftest import Runner

SOURCE = """
void aligned(void *address) { __asm__ volatile("movaps %%xmm0, (%0)" : : "r"(address) : "memory"); }
void wild(void *address) { __asm__ volatile("movb $1, (%0)" : : "r"(address) : "memory"); }
"""
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 alone has such faults")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("protection")
    (folder / "protection.c").write_text(SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "protection.so", folder / "protection.c"], check=True)
    return folder / "protection.so"


def test_an_address_that_is_not_aligned_is_named_with_what_to_do(runner: "Runner", library: Path) -> None:
    done = runner.watch(
        "-c",
        f"import ctypes, numpy; array = numpy.zeros(33, 'u1'); ctypes.CDLL({str(library)!r}).aligned("
        "ctypes.c_void_p(array.ctypes.data))",
    )
    assert done.status == -11
    assert int(done.fault["address"], 16) % 16 == 15
    assert done.fault["size"] == 16
    assert done.fault["mapping"] is not None
    assert "--align 16" in done.stderr


def test_an_address_that_no_address_space_has_is_named(runner: "Runner", library: Path) -> None:
    done = runner.watch("-c", f"import ctypes; ctypes.CDLL({str(library)!r}).wild(ctypes.c_void_p(0x4141414141414141))")
    assert done.status == -11
    assert (done.fault["address"], done.fault["kind"], done.fault["mapping"]) == (
        "0x4141414141414141",
        "unmapped",
        None,
    )
    assert "--align" not in done.stderr
