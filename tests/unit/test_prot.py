"""Prot and the other flags: their numbers, and how they are read and written."""

import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memprot import Prot
from memprot.flags import HUGE_MASK, HUGE_SHIFT, Advice, MapFlag, MemfdFlag
from memprot.prot import as_prot

FORMS = [f"{r}{w}{x}" for r in "r-" for w in "w-" for x in "x-"]


@pytest.mark.parametrize("form", FORMS)
def test_three_letters_are_read_and_written_alike(form: str) -> None:
    assert str(Prot(form)) == form
    assert f"{Prot(form):>5}" == f"{form:>5}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "r",
        "rw",
        "rwxp",
        "wr-",
        "r x",
        "R-X",
        "x--",
        "--r",
        "r--+",
        "r--+read",
        "r--+nonsense",
        "r--+0xzz",
    ],
)
def test_any_other_form_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("'r-x'")):
        Prot(text)


def test_flags_beyond_the_letters_are_appended_readably() -> None:
    assert str(Prot.READ | Prot.GROWSDOWN) == "r--+growsdown"
    assert str(Prot.SEM | Prot.GROWSUP) == "---+sem+growsup"
    assert str(Prot(5 | 1 << 32)) == "r-x+0x100000000"


@given(st.integers(0, 2**64 - 1))
def test_every_protection_is_read_back_as_it_was_written(value: int) -> None:
    assert Prot(str(Prot(value))) == value


def test_number_formats_are_those_of_an_int() -> None:
    assert f"{Prot.READ | Prot.EXEC:#x} {Prot.WRITE:d}" == "0x5 2"


def test_protections_survive_pickling() -> None:
    for form in FORMS:
        assert pickle.loads(pickle.dumps(Prot(form))) is Prot(form)


def test_as_prot_takes_what_a_caller_may_mean() -> None:
    assert as_prot(5) is as_prot("r-x") is as_prot(Prot.READ | Prot.EXEC)


@pytest.mark.parametrize("value", [True, False, 1.0, None, b"r-x", [1], object()])
def test_as_prot_refuses_what_is_no_protection(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        as_prot(value)  # type: ignore[arg-type]


def test_as_prot_refuses_a_negative_number() -> None:
    with pytest.raises(ValueError, match="-1"):
        as_prot(-1)


def _defined(header: Path, prefix: str) -> dict[str, int]:
    pattern = re.compile(rf"#define\s+{prefix}_(\w+)\s+(0x[0-9a-fA-F]+|\d+)U?\s*(?:/|$)", re.MULTILINE)
    return {name: int(value, 0) for name, value in pattern.findall(header.read_text())}


@pytest.mark.parametrize(("prefix", "flags"), [("PROT", Prot), ("MAP", MapFlag), ("MADV", Advice), ("MFD", MemfdFlag)])
def test_every_constant_of_the_installed_headers_is_known(prefix: str, flags: type[int]) -> None:
    include = Path("/usr/include")
    headers = [
        path
        for name in ("mman-common.h", "mman.h", "memfd.h")
        for folder in ("asm-generic", "linux")
        if (path := include / folder / name).exists()
    ]
    if not headers:
        pytest.skip("the kernel's headers are not installed")
    members = flags.__members__  # type: ignore[attr-defined]
    defined = {name: value for header in headers for name, value in _defined(header, prefix).items()}
    assert defined
    for name, value in defined.items():
        if name != "TYPE":
            assert members[name] == value


def test_huge_page_flags_hold_the_logarithm_of_the_size() -> None:
    units = {"KB": 10, "MB": 20, "GB": 30}
    for flags in (MapFlag, MemfdFlag):
        huge = [name for name in flags.__members__ if name.startswith("HUGE_")]
        assert huge
        for name in huge:
            count, unit = re.fullmatch(r"HUGE_(\d+)(\w\w)", name).groups()  # type: ignore[union-attr]
            exponent = flags[name] >> HUGE_SHIFT & HUGE_MASK
            assert 1 << exponent == int(count) << units[unit]
