"""Prot: its numbers, and how they are read and written."""

import os
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memprot import Prot
from memprot.prot import as_prot, effects_on

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


def test_flags_of_other_architectures_are_numbers_when_written_and_names_when_read() -> None:
    here = effects_on(os.uname().machine)
    for name, number in (("sao", 0x10), ("bti", 0x10), ("mte", 0x20)):
        assert Prot(f"r--+{name}") == Prot.READ | number
        written = str(Prot.READ | number).removeprefix("r--+")
        assert written in here or written.upper() in here or written == hex(number)
    if os.uname().machine == "x86_64":
        assert str(Prot.READ | Prot.BTI | Prot.MTE) == "r--+0x30"


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64", "ppc64le", "riscv64"])
def test_every_bit_has_one_effect_on_every_architecture(architecture: str) -> None:
    effects = effects_on(architecture)
    assert sorted(Prot[name] for name in effects) == [1 << n for n in (0, 1, 2, 3, 4, 5, 24, 25)]
    assert all(effect.endswith(".") for effect in effects.values())


def test_the_effect_of_several_flags_is_that_of_each() -> None:
    both = (Prot.READ | Prot.SEM).effect
    assert Prot.READ.effect in both
    assert Prot.SEM.effect in both
    assert Prot.NONE.effect == "NONE: every access faults."
    assert Prot(1 << 40).effect.startswith("0x10000000000: ")


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
