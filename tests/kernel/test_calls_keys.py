"""Protection keys against the running kernel, and against a CPU without them."""

from collections.abc import Callable

import pytest

from memprot import PAGE_SIZE, Prot, calls, features
from memprot.calls import KeyRights

Answer = Callable[..., str]
KEYS = features.available("protection_keys")


def test_a_key_is_allocated_used_and_given_back(pages: int, answer: Answer) -> None:
    if not KEYS:
        # Which of the two depends on whether the process has tried before.
        assert answer(calls.pkey_alloc) in ("EINVAL", "ENOSPC")
        assert answer(calls.pkey_alloc) in ("EINVAL", "ENOSPC")
        assert answer(calls.pkey_free, 1) == "EINVAL"
        return
    key = calls.pkey_alloc(0, KeyRights.DISABLE_WRITE)
    assert calls.pkey_get(key) is KeyRights.DISABLE_WRITE
    calls.pkey_mprotect(pages, PAGE_SIZE, Prot("rw-"), key)
    calls.pkey_set(key, KeyRights.UNRESTRICTED)
    assert calls.pkey_get(key) is KeyRights.UNRESTRICTED
    calls.pkey_mprotect(pages, PAGE_SIZE, Prot("rw-"), 0)
    calls.pkey_free(key)
    assert answer(calls.pkey_free, key) == "EINVAL"
    assert answer(calls.pkey_mprotect, pages, PAGE_SIZE, 1, key) == "EINVAL"


def test_keys_run_out(answer: Answer) -> None:
    keys: list[int] = []

    def pkey_alloc() -> None:
        keys.append(calls.pkey_alloc())

    while (refusal := answer(pkey_alloc)) == "success":
        pass
    assert refusal == "ENOSPC" or not KEYS
    assert len(set(keys)) == len(keys)
    assert 0 not in keys
    for key in keys:
        calls.pkey_free(key)


@pytest.mark.parametrize(("flags", "rights"), [(1, 0), (1 << 40, 0), (0, 4 << 20), (0, 1 << 40)])
def test_each_refusal_of_pkey_alloc(answer: Answer, flags: int, rights: int) -> None:
    assert answer(calls.pkey_alloc, flags, rights) == "EINVAL"


@pytest.mark.parametrize("key", [-1, 16, 1 << 32, (1 << 64) - 1, -(1 << 63)])
def test_keys_that_no_processor_has_are_refused(answer: Answer, key: int) -> None:
    assert answer(calls.pkey_get, key) == "EINVAL"
    assert answer(calls.pkey_set, key, 0) == "EINVAL"


@pytest.mark.parametrize("rights", [4 << 20, -1, 1 << 32])
def test_rights_that_no_processor_has_are_refused(answer: Answer, rights: int) -> None:
    assert answer(calls.pkey_set, 1, rights) == "EINVAL"


@pytest.mark.parametrize("key", [0, 1, 15])
def test_rights_can_be_read_and_set_only_where_there_are_keys(answer: Answer, key: int) -> None:
    assert answer(calls.pkey_get, key) == ("success" if KEYS else "ENOSYS")
    if not KEYS:
        assert answer(calls.pkey_set, key, 0) == "ENOSYS"
        return
    before = calls.pkey_get(key)
    calls.pkey_set(key, before)
    assert calls.pkey_get(key) == before
