"""ProtectionError: exact like an OSError, plain to read, whole after pickling."""

import errno
import os
import pickle

import pytest

from memprot import Mapping, Prot, ProtectionError, Reason


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_errno_and_strerror_are_exact(number: int) -> None:
    error = ProtectionError(number, "mprotect", (0x1000, 4096, 1))
    assert error.errno == number
    assert error.strerror == os.strerror(number)
    assert errno.errorcode[number] in str(error)
    assert isinstance(error, PermissionError) == (number in (errno.EACCES, errno.EPERM))
    assert type(error).__name__ == "ProtectionError"


def test_the_sentence_names_address_length_protection_and_errno() -> None:
    error = ProtectionError(errno.ENOMEM, "mprotect", (0x7F0000, 8192, Prot.READ | Prot.EXEC))
    assert str(error) == "mprotect of 8192 bytes at 0x7f0000 to r-x failed with ENOMEM (Cannot allocate memory)"


@pytest.mark.parametrize(
    ("call", "arguments", "words"),
    [
        ("mmap", (0, 4096, 3, 0x22, -1, 0), ["4096 bytes", "rw-", "0x22", "no file"]),
        ("mmap", (0x1000, 4096, 1, 2, 7, 8192), ["0x1000", "r--", "descriptor 7", "offset 8192"]),
        ("mmap", (-4096, -1, -1, -1, -1, -1), ["0xfffffffffffff000", "18446744073709551615 bytes"]),
        ("munmap", (0x2000, 1), ["1 bytes", "0x2000"]),
        ("madvise", (0x2000, 4096, 4), ["0x2000", "advice 4 (DONTNEED)"]),
        ("memfd_create", ("name\n", 1), ["'name\\n'", "0x1"]),
        ("mseal", (1, 2, 3), ["mseal"]),
    ],
)
def test_every_call_is_described_in_one_line(call: str, arguments: tuple[object, ...], words: list[str]) -> None:
    sentence = str(ProtectionError(errno.EINVAL, call, arguments))
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_an_undiagnosed_error_claims_nothing() -> None:
    error = ProtectionError(errno.ENOMEM, "mprotect", (0x1000, 4096, 1))
    assert (error.start, error.stop, error.mapping, error.reason, error.hint) == (None,) * 5
    assert error.applied == ()
    assert error.call == "mprotect"


def test_what_is_known_of_the_cause_is_given_by_name_and_said_after_the_errno() -> None:
    error = ProtectionError(
        errno.ENOMEM,
        "mprotect",
        (0x1000, 8192, Prot.READ),
        reason=Reason.HOLE,
        start=0x2000,
        stop=0x3000,
        applied=((0x1000, 0x2000),),
        explanation="nothing is mapped at 0x2000-0x3000",
        hint="map it first",
    )
    assert (error.reason, error.start, error.stop, error.applied) == (
        Reason.HOLE,
        0x2000,
        0x3000,
        ((0x1000, 0x2000),),
    )
    assert str(error) == (
        "mprotect of 8192 bytes at 0x1000 to r-- failed with ENOMEM (Cannot allocate memory): "
        "nothing is mapped at 0x2000-0x3000; map it first"
    )
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EACCES])
def test_pickling_keeps_every_attribute(number: int) -> None:
    error = ProtectionError(number, "mprotect", (0x1000, 4096, Prot.READ))
    error.start, error.stop, error.applied = 0x1000, 0x2000, ((0, 0x1000),)
    error.mapping = Mapping(0x1000, 0x2000, "r--", path="[heap]")
    error.hint = "do something"
    error.add_note("noted")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.errno, copy.strerror, copy.args, str(copy)) == (
        error.errno,
        error.strerror,
        error.args,
        str(error),
    )
    assert vars(copy) == vars(error)


def test_a_subclass_stays_itself_when_pickled() -> None:
    copy = pickle.loads(pickle.dumps(_SpecialError(errno.EACCES, "mprotect", (1, 2, 3))))
    assert type(copy) is _SpecialError
    assert copy.errno == errno.EACCES


class _SpecialError(ProtectionError):
    pass
