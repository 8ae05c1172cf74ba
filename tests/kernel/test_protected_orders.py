"""Scopes in any order over any pages: each page has the protection of the newest open scope, or its own."""

import random
from typing import Any

import pytest
from pages import PAGES, address_of, private_pages, protections, shared_pages

from memprot import PAGE_SIZE, FaultError, calls, catch_faults, protected
from memprot.prot import as_prot

KINDS = ("---", "r--", "rw-", "r-x", "--x", "rwx")


def expected(base: list[str], scopes: list[tuple[range, str]]) -> list[str]:
    pages = list(base)
    for covered, prot in scopes:
        for page in covered:
            pages[page] = prot
    return pages


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_order_each_page_is_as_the_scopes_that_are_open_say(seed: int) -> None:
    choice = random.Random(seed)
    memory = (private_pages, shared_pages)[seed % 2]()
    start = address_of(memory)
    base = [choice.choice(KINDS) for _ in range(PAGES)]
    for page, prot in enumerate(base):
        calls.mprotect(start + page * PAGE_SIZE, PAGE_SIZE, int(as_prot(prot)))
    opened: list[Any] = []
    scopes: list[tuple[range, str]] = []
    with catch_faults():
        for step in range(40):
            if scopes and (step > 30 or choice.random() < 0.4):
                index = choice.randrange(len(scopes))
                opened.pop(index).__exit__()
                scopes.pop(index)
            else:
                low = choice.randrange(PAGES)
                covered = range(low, choice.randint(low + 1, PAGES))
                prot = choice.choice(KINDS)
                view = memoryview(memory)[low * PAGE_SIZE : covered.stop * PAGE_SIZE]
                opened.append(protected(view, prot))
                opened[-1].__enter__()
                scopes.append((covered, prot))
            assert protections(memory) == expected(base, scopes)
        for scope in opened:
            scope.__exit__()
    assert protections(memory) == base


@pytest.mark.parametrize("seed", range(20))
def test_faults_in_between_change_neither_the_bytes_nor_the_protections(seed: int) -> None:
    choice = random.Random(seed)
    memory = (private_pages, shared_pages)[seed % 2]()
    memory[:] = bytes(choice.randrange(256) for _ in range(PAGE_SIZE)) * PAGES
    before = memory[:]
    whole = protected(memory, "r--")
    opened = [whole]
    whole.__enter__()
    for _ in range(15):
        low = choice.randrange(PAGES)
        view = memoryview(memory)[low * PAGE_SIZE : choice.randint(low + 1, PAGES) * PAGE_SIZE]
        opened.append(protected(view, choice.choice(("---", "r--", "r-x"))))
        opened[-1].__enter__()
        with pytest.raises(FaultError), catch_faults():
            memory[choice.randrange(len(memory))] ^= 255
        if choice.random() < 0.5 and len(opened) > 1:
            opened.pop(choice.randrange(1, len(opened))).__exit__()
    for scope in reversed(opened):
        scope.__exit__()
    assert protections(memory) == ["rw-"] * PAGES
    assert memory[:] == before
