"""Which rules of SELinux speak about a change of protection, by their definitions."""

import os

import pytest

from memprot import Prot, Reason
from memprot.diagnosis.selinux import Change, enforcing, rules

RW, RX, RWX, R = Prot("rw-"), Prot("r-x"), Prot("rwx"), Prot("r--")


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (Change(RW, R), ()),
        (Change(RW, RX), (Reason.EXECMEM,)),
        (Change(RW, RWX), (Reason.EXECMEM,)),
        (Change(RX, RX), (Reason.EXECMEM,)),
        (Change(RW, RX, heap=True), (Reason.EXECHEAP, Reason.EXECMEM)),
        (Change(RX, RWX, heap=True), (Reason.EXECMEM,)),
        (Change(RW, RWX, stack=True), (Reason.EXECSTACK, Reason.EXECMEM)),
        (Change(RW, RX, file_backed=True), ()),
        (Change(RW, RX, file_backed=True, stack=True), ()),
        (Change(RW, RX, file_backed=True, modified=True), (Reason.EXECMOD,)),
        (Change(RX, RX, file_backed=True, modified=True), ()),
        (Change(R, RWX, file_backed=True, modified=True), (Reason.EXECMOD, Reason.EXECMEM)),
        (Change(RX, RWX, file_backed=True), (Reason.EXECMEM,)),
        (Change(RX, RWX, file_backed=True, shared=True), ()),
    ],
)
def test_the_rules_are_asked_in_the_kernels_order(change: Change, asked: tuple[Reason, ...]) -> None:
    assert rules(change) == asked


def test_it_is_claimed_only_where_it_is_enforcing() -> None:
    path = "/sys/fs/selinux/enforce"
    if not os.path.exists(path):
        assert not enforcing()
    else:
        with open(path) as file:
            assert enforcing() == (file.read().strip() == "1")
