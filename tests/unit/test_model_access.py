"""What the model's processor does with an access: pages, signals, stacks, keys, and the walk it makes."""

from signal import Signals

import pytest

from memprot import PAGE_SIZE, Prot, ProtectionError, Reason
from memprot.flags import Advice, MapFlag
from memprot.model import Access, AddressSpace, File, Thread

START = 0x100000
PRIVATE = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.FIXED
SHARED = MapFlag.SHARED | MapFlag.ANONYMOUS | MapFlag.FIXED
DISABLE_ACCESS, DISABLE_WRITE = 1, 2
KINDS = ("read", "write", "execute")


def space_of(pages: int, prot: int = 3, flags: int = PRIVATE) -> AddressSpace:
    space = AddressSpace()
    space.mmap(START, pages * PAGE_SIZE, prot, flags)
    return space


def codes(space: AddressSpace, address: int) -> list[str | None]:
    return [space.access(address, kind).code for kind in KINDS]


@pytest.mark.parametrize("flags", [PRIVATE, SHARED])
@pytest.mark.parametrize(
    ("prot", "refused"),
    [
        (Prot.NONE, ["read", "write", "execute"]),
        (Prot.READ, ["write", "execute"]),
        # On x86 what may be written may be read.
        (Prot.WRITE, ["execute"]),
        (Prot.READ | Prot.WRITE, ["execute"]),
        (Prot.READ | Prot.EXEC, ["write"]),
        (Prot.READ | Prot.WRITE | Prot.EXEC, []),
    ],
)
def test_a_protection_refuses_what_it_does_not_name(prot: Prot, refused: list[str], flags: int) -> None:
    for order in (KINDS, KINDS[::-1]):
        space = space_of(1, prot, flags)
        for kind in order:
            expected = Access(False, Signals.SIGSEGV, "SEGV_ACCERR") if kind in refused else Access(True)
            assert space.access(START, kind) == expected


def test_nothing_is_there_where_nothing_is_mapped() -> None:
    space = space_of(1)
    assert codes(space, START - 1) == codes(space, START + PAGE_SIZE) == ["SEGV_MAPERR"] * 3
    assert codes(space, 2**64 - 1) == ["SEGV_MAPERR"] * 3


def test_what_is_no_address_is_another_fault() -> None:
    assert codes(AddressSpace(), 1 << 47) == codes(AddressSpace(), 1 << 62) == ["SI_KERNEL"] * 3
    assert codes(AddressSpace(levels=5), 1 << 47) == ["SEGV_MAPERR"] * 3


def test_another_kind_of_access_is_refused() -> None:
    with pytest.raises(ValueError, match="one of read, write, execute, not 'jump'"):
        AddressSpace().access(0, "jump")


def test_a_guard_page_kills_every_access_and_is_no_mapping() -> None:
    space = space_of(3)
    lines = space.maps()
    space.madvise(START + PAGE_SIZE, PAGE_SIZE, Advice.GUARD_INSTALL)
    assert codes(space, START + PAGE_SIZE) == ["SEGV_MAPERR"] * 3
    assert space.access(START, "write").ok
    space.madvise(START, 3 * PAGE_SIZE, Advice.DONTNEED)
    assert codes(space, START + PAGE_SIZE) == ["SEGV_MAPERR"] * 3
    space.mprotect(START, 3 * PAGE_SIZE, 0)
    assert codes(space, START + PAGE_SIZE) == ["SEGV_ACCERR"] * 3
    space.mprotect(START, 3 * PAGE_SIZE, 3)
    space.madvise(START, 3 * PAGE_SIZE, Advice.GUARD_REMOVE)
    assert space.access(START + PAGE_SIZE, "write").ok
    assert space.maps() == lines


def test_beyond_the_end_of_a_file_is_a_bus_error() -> None:
    space = AddressSpace()
    file = File("f", PAGE_SIZE + 1)
    space.mmap(START, 3 * PAGE_SIZE, 3, MapFlag.PRIVATE | MapFlag.FIXED, file)
    beyond = Access(False, Signals.SIGBUS, "BUS_ADRERR")
    assert space.access(START + PAGE_SIZE, "write").ok
    assert space.access(START + 2 * PAGE_SIZE, "read") == beyond
    file.truncate(PAGE_SIZE)
    assert space.access(START + PAGE_SIZE, "read") == beyond
    file.truncate(3 * PAGE_SIZE)
    assert space.access(START + 2 * PAGE_SIZE, "read").ok


def test_a_stack_grows_but_not_into_the_gap_below_it() -> None:
    space = AddressSpace()
    space.mmap(0x10000000, PAGE_SIZE, 3, PRIVATE)
    top = 0x10000000 + 300 * PAGE_SIZE
    space.mmap(top, PAGE_SIZE, 3, PRIVATE | MapFlag.GROWSDOWN)
    lowest = 0x10000000 + 257 * PAGE_SIZE
    assert space.access(lowest, "write").ok
    assert space.mappings[1].start == lowest
    assert space.access(lowest - 1, "write").code == "SEGV_MAPERR"
    space.mprotect(0x10000000, PAGE_SIZE, 0)
    assert space.access(0x10000000 + PAGE_SIZE, "read").ok


def test_a_stack_grows_as_far_as_its_limit() -> None:
    space = AddressSpace(stack=8 * PAGE_SIZE)
    space.mmap(START + 100 * PAGE_SIZE, PAGE_SIZE, 3, PRIVATE | MapFlag.GROWSDOWN)
    assert not space.access(START + 92 * PAGE_SIZE, "write").ok
    assert space.access(START + 93 * PAGE_SIZE, "write").ok


def test_a_key_forbids_data_but_not_instructions() -> None:
    space = space_of(1, 7)
    key = space.pkey_alloc(0, DISABLE_ACCESS)
    space.pkey_mprotect(START, PAGE_SIZE, 7, key)
    assert space.access(START, "read") == Access(False, Signals.SIGSEGV, "SEGV_PKUERR", key)
    assert codes(space, START) == ["SEGV_PKUERR", "SEGV_PKUERR", None]
    space.thread.rights[key] = DISABLE_WRITE
    assert codes(space, START) == [None, "SEGV_PKUERR", None]
    space.thread.rights[key] = 0
    assert codes(space, START) == [None, None, None]


def test_the_key_is_told_before_the_protection() -> None:
    space = space_of(1, 1)
    key = space.pkey_alloc(0, DISABLE_WRITE)
    space.pkey_mprotect(START, PAGE_SIZE, 1, key)
    assert space.access(START, "write").code == "SEGV_PKUERR"
    assert space.access(START, "execute").code == "SEGV_ACCERR"


def test_rights_are_a_threads_own_and_inherited_when_it_starts() -> None:
    space = space_of(1)
    before = space.new_thread()
    key = space.pkey_alloc(0, 0)
    space.pkey_mprotect(START, PAGE_SIZE, 3, key)
    after = space.new_thread()
    assert space.access(START, "read").ok
    assert space.access(START, "read", after).ok
    assert space.access(START, "read", before).code == "SEGV_PKUERR"
    after.rights[key] = DISABLE_ACCESS
    assert space.access(START, "read").ok
    assert Thread(after).rights == after.rights


def test_fifteen_keys_can_be_allocated_and_one_freed_comes_again() -> None:
    space = AddressSpace()
    assert [space.pkey_alloc() for _ in range(15)] == list(range(1, 16))
    with pytest.raises(ProtectionError) as caught:
        space.pkey_alloc()
    assert caught.value.reason is Reason.NO_KEY_LEFT
    space.pkey_free(7)
    assert space.pkey_alloc() == 7
    with pytest.raises(ProtectionError) as caught:
        space.pkey_free(16)
    assert caught.value.reason is Reason.KEY_NOT_ALLOCATED


def test_a_freed_key_stays_on_its_pages() -> None:
    space = space_of(1)
    key = space.pkey_alloc(0, DISABLE_ACCESS)
    space.pkey_mprotect(START, PAGE_SIZE, 3, key)
    space.pkey_free(key)
    assert space.access(START, "read").key == key
    space.mprotect(START, PAGE_SIZE, 1)
    assert space.mappings[0].key == key
    with pytest.raises(ProtectionError):
        space.pkey_mprotect(START, PAGE_SIZE, 3, key)


def test_memory_for_execution_alone_gets_a_key_that_nobody_may_use() -> None:
    space = space_of(2)
    space.access(START, "write")
    space.mprotect(START, PAGE_SIZE, Prot.EXEC)
    assert space.mappings[0].key == 1
    assert codes(space, START) == ["SEGV_PKUERR", "SEGV_PKUERR", None]
    with pytest.raises(ProtectionError) as caught:
        space.pkey_mprotect(START, PAGE_SIZE, 3, 1)
    assert caught.value.reason is Reason.KEY_NOT_ALLOCATED
    space.mprotect(START, PAGE_SIZE, Prot.READ | Prot.EXEC)
    assert space.mappings[0].key == 0
    assert space.pkey_alloc() == 2


def test_without_keys_execution_alone_can_be_read() -> None:
    space = AddressSpace(keys=0)
    space.mmap(START, PAGE_SIZE, Prot.EXEC, PRIVATE)
    assert codes(space, START) == [None, "SEGV_ACCERR", None]
    with pytest.raises(ProtectionError) as caught:
        space.pkey_alloc()
    assert caught.value.reason is Reason.NO_KEYS
    with pytest.raises(ProtectionError) as caught:
        space.pkey_mprotect(START, PAGE_SIZE, 1, 0)
    assert caught.value.reason is Reason.NO_KEYS
    space.pkey_mprotect(START, PAGE_SIZE, 1, -1)


def test_a_walk_names_the_index_at_each_level() -> None:
    address = (1 << 39) + (2 << 30) + (3 << 21) + (4 << 12) + 5
    space = AddressSpace()
    space.mmap(address - 5, PAGE_SIZE, 3, PRIVATE)
    assert [str(entry) for entry in space.walk(address)] == ["PGD[1] not present"]
    space.access(address, "read")
    walk = space.walk(address)
    assert [(entry.level, entry.index) for entry in walk] == [("PGD", 1), ("PUD", 2), ("PMD", 3), ("PTE", 4)]
    assert walk.present
    leaf = walk.entries[-1]
    # What was only read is the page of zeros, which nobody may write.
    assert (leaf.writable, leaf.user, leaf.accessed, leaf.dirty, leaf.no_execute) == (False, True, True, False, True)
    space.access(address, "write")
    leaf = space.walk(address).entries[-1]
    assert (leaf.writable, leaf.dirty) == (True, True)


def test_a_walk_with_five_levels_has_one_more() -> None:
    space = AddressSpace(levels=5)
    address = (6 << 48) + (1 << 39)
    assert space.mmap(address, PAGE_SIZE, 3, PRIVATE) == address
    space.access(address, "write")
    levels = [(entry.level, entry.index) for entry in space.walk(address)]
    assert levels == [("PGD", 6), ("P4D", 1), ("PUD", 0), ("PMD", 0), ("PTE", 0)]


def test_without_access_a_page_is_kept_but_not_present() -> None:
    space = space_of(1)
    space.access(START, "write")
    space.mprotect(START, PAGE_SIZE, 0)
    assert not space.walk(START).present
    space.mprotect(START, PAGE_SIZE, 1)
    leaf = space.walk(START).entries[-1]
    assert (leaf.present, leaf.writable, leaf.dirty) == (True, False, True)


def test_a_walk_shows_the_key() -> None:
    space = space_of(1)
    space.pkey_mprotect(START, PAGE_SIZE, 3, space.pkey_alloc())
    space.access(START, "write")
    assert space.walk(START).entries[-1].key == 1
    assert str(space.walk(START)).endswith("PTE[256] present writable user accessed dirty no-execute key 1")
