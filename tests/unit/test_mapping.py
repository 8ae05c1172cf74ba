"""Mapping as a value, and Layout: parsing, looking up, comparing."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memprot import Mapping, Prot
from memprot._native import parse_maps
from memprot.space.layout import Layout
from memprot.space.mapping import MappingKind

LINE = b"7f00-8000 rw-s 00001000 fe:1a 1234                      /some/file\n"


def mapping(start: int, stop: int, prot: str = "rw-", **more: object) -> Mapping:
    return Mapping(start * 0x1000, stop * 0x1000, prot, **more)  # type: ignore[arg-type]


def test_a_line_becomes_typed_attributes() -> None:
    (found,) = parse_maps(LINE)
    assert (found.start, found.stop, found.size, found.offset) == (0x7F00, 0x8000, 0x100, 0x1000)
    assert found.prot is Prot.READ | Prot.WRITE
    assert found.shared is True
    assert (found.device, found.inode, found.path) == ((0xFE, 0x1A), 1234, "/some/file")
    assert found.deleted is False
    assert found.kind is MappingKind.FILE


@pytest.mark.parametrize(
    ("name", "mode", "path", "deleted", "kind"),
    [
        (b"", b"p", None, False, "anonymous"),
        (b"[heap]", b"p", "[heap]", False, "heap"),
        (b"[stack]", b"p", "[stack]", False, "stack"),
        (b"[vdso]", b"p", "[vdso]", False, "vdso"),
        (b"[vvar]", b"p", "[vvar]", False, "vvar"),
        (b"[vvar_vclock]", b"p", "[vvar_vclock]", False, "vvar"),
        (b"[vsyscall]", b"p", "[vsyscall]", False, "vsyscall"),
        (b"[uprobes]", b"p", "[uprobes]", False, "kernel"),
        (b"[anon:my arena]", b"p", "[anon:my arena]", False, "anonymous"),
        (b"[anon_shmem:shared]", b"s", "[anon_shmem:shared]", False, "shared_memory"),
        (b"anon_inode:[perf_event]", b"s", "anon_inode:[perf_event]", False, "kernel"),
        (b"/memfd:a b (deleted)", b"s", "/memfd:a b", True, "memfd"),
        (b"/secretmem (deleted)", b"s", "/secretmem", True, "secret"),
        (b"/dev/zero (deleted)", b"s", "/dev/zero", True, "shared_memory"),
        (b"/SYSV00000000 (deleted)", b"s", "/SYSV00000000", True, "shared_memory"),
        (b"/dev/shm/x", b"s", "/dev/shm/x", False, "shared_memory"),
        (b"/dev/dri/card0", b"s", "/dev/dri/card0", False, "device"),
        (b"/gone (deleted)", b"p", "/gone", True, "file"),
        (b"/with  two spaces ", b"p", "/with  two spaces ", False, "file"),
        (b"/new\\012line", b"p", "/new\nline", False, "file"),
        (b"/literal\\040\\\\012", b"p", "/literal\\040\\\n", False, "file"),
        (b"/not utf-8 \xff\xfe", b"p", "/not utf-8 \udcff\udcfe", False, "file"),
        (b"/\x1b[31mred", b"p", "/\x1b[31mred", False, "file"),
        (b"[heap] (deleted)", b"p", "[heap] (deleted)", False, "kernel"),
    ],
)
def test_names_are_read_as_the_kernel_means_them(
    name: bytes, mode: bytes, path: str | None, deleted: bool, kind: str
) -> None:
    (found,) = parse_maps(b"1000-2000 r--" + mode + b" 00000000 00:05 9 " + name + b"\n")
    assert (found.path, found.deleted, found.kind) == (path, deleted, kind)
    if path is not None and not deleted and path[0] != "[":
        built = Mapping(0x1000, 0x2000, "r--", mode == b"s", device=(0, 5), inode=9, path=path)
        assert built.kind == kind


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"1000-2000\n",
        b"1000-2000 rwx\n",
        b"1000-2000 rwzp 00000000 00:00 0\n",
        b"2000-1000 rwxp 00000000 00:00 0\n",
        b"1000-2000 rwxp 00000000 00-00 0\n",
        b"1000-2000 rwxp 00000000 00:00 0x\n",
        b"1000-2000 rwxp 00000000 00:00 0",
        b"-2000 \x00\n",
    ],
)
def test_a_line_of_another_form_is_refused_with_its_number(line: bytes) -> None:
    with pytest.raises(ValueError, match="line 2 "):
        parse_maps(LINE + line)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_read_but_never_worse(text: bytes) -> None:
    try:
        found = parse_maps(text)
    except ValueError:
        return
    assert len(found) <= text.count(b"\n")


def test_overlapping_lines_are_clipped() -> None:
    text = (
        b"1000-4000 r--p 00000000 00:05 9 /file\n"
        b"2000-3000 rw-p 00001000 00:05 9 /file\n"
        b"3000-6000 r--p 00002000 00:05 9 /file\n"
        b"6000-7000 r--p 00000000 00:00 0 \n"
    )
    assert [(m.start, m.stop, m.offset) for m in parse_maps(text)] == [
        (0x1000, 0x4000, 0),
        (0x4000, 0x6000, 0x3000),
        (0x6000, 0x7000, 0),
    ]


def test_a_name_longer_than_any_buffer_is_read_whole() -> None:
    name = b"/" + b"x" * 200_000
    assert parse_maps(b"1000-2000 r--p 00000000 00:05 9 " + name + b"\n")[0].path == name.decode()


def test_following_mappings_of_one_file_share_its_name() -> None:
    one, other = parse_maps(LINE + LINE.replace(b"7f00-8000", b"8000-9000"))
    assert one.path is other.path


def test_mappings_are_values() -> None:
    (one,), (other,) = parse_maps(LINE), parse_maps(LINE)
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1
    assert one != object()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(one, protocol)) == one
    assert copy.deepcopy(one) == one


@pytest.mark.parametrize(
    "difference",
    [
        {"start": 0x7E00},
        {"stop": 0x9000},
        {"prot": "r--"},
        {"shared": False},
        {"offset": 0},
        {"device": (0xFE, 0x1B)},
        {"inode": 1},
        {"path": "/other"},
        {"path": None},
        {"deleted": True},
        {"kind": "device"},
    ],
)
def test_every_attribute_counts_for_equality(difference: dict[str, object]) -> None:
    (one,) = parse_maps(LINE)
    attributes = {name: getattr(one, name) for name in ("start", "stop", "prot", "shared", "offset", "device")}
    attributes |= {name: getattr(one, name) for name in ("inode", "path", "deleted", "kind")}
    assert Mapping(**attributes) == one
    assert Mapping(**(attributes | difference)) != one


def test_mappings_are_ordered_by_address() -> None:
    low, high = mapping(1, 2), mapping(2, 3)
    assert low < high
    assert sorted([high, low]) == [low, high]
    assert max(low, high) is high


def test_length_and_containment_are_those_of_the_range() -> None:
    one = mapping(1, 3)
    assert len(one) == one.size == 0x2000
    assert 0x1000 in one
    assert 0x2FFF in one
    assert 0x3000 not in one
    assert -1 not in one
    with pytest.raises(TypeError):
        _ = 4096.0 in one  # type: ignore[operator]
    with pytest.raises(TypeError):
        iter(one)  # type: ignore[call-overload]


def test_the_representation_is_short_and_hides_nothing() -> None:
    shown = repr(mapping(1, 2, "r-x", shared=True, path="/a\x1b[31m", deleted=True))
    assert shown == "<Mapping 0x1000-0x2000 r-xs file '/a\\x1b[31m' (deleted)>"


@pytest.mark.parametrize(
    ("arguments", "exception", "word"),
    [
        ((True, 2, 1), TypeError, "start"),
        ((1, 2.0, 1), TypeError, "stop"),
        ((1, 2, None), TypeError, "NoneType"),
        ((1, 2, "rw"), ValueError, "rw"),
        ((1, 2, 8), ValueError, "prot"),
        ((-1, 2, 1), ValueError, "start"),
        ((1, 2**64, 1), OverflowError, "stop"),
        ((2, 2, 1), ValueError, "stop"),
        ((1, 2, 1, False, 0, (1,)), TypeError, "device"),
        ((1, 2, 1, False, 0, (1, -1)), ValueError, "device"),
        ((1, 2, 1, False, 0, (0, 0), 0, b"/x"), TypeError, "path"),
        ((1, 2, 1, False, 0, (0, 0), 0, None, False, "nonsense"), ValueError, "kind"),
    ],
)
def test_wrong_arguments_are_refused_by_name(
    arguments: tuple[object, ...], exception: type[Exception], word: str
) -> None:
    with pytest.raises(exception, match=word):
        Mapping(*arguments)  # type: ignore[arg-type]


def test_attributes_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        mapping(1, 2).start = 0  # type: ignore[misc]


def test_a_layout_finds_by_address_and_knows_its_gaps() -> None:
    layout = Layout([mapping(1, 3), mapping(3, 4), mapping(6, 7)])
    assert layout.gaps() == [(0x4000, 0x6000)]
    assert [layout.find(address * 0x1000) for address in (0, 1, 3, 4, 6, 7)] == [
        None,
        layout[0],
        layout[1],
        None,
        layout[2],
        None,
    ]
    assert layout.find(-1) is None
    assert len(layout) == 3
    assert layout[1] in layout
    assert pickle.loads(pickle.dumps(layout)) == layout


def test_equal_layouts_have_no_difference() -> None:
    layout = Layout([mapping(1, 3), mapping(5, 6, "r--")])
    assert layout.diff(layout) == ([], [], [], [], [])


def test_a_new_mapping_has_appeared_and_a_lost_one_is_gone() -> None:
    one, other = mapping(1, 3), mapping(5, 6, "r--")
    assert Layout([one, other]).diff(Layout([one])) == ([other], [], [], [], [])
    assert Layout([one]).diff(Layout([one, other])) == ([], [other], [], [], [])


def test_a_new_protection_in_the_middle_is_the_only_change() -> None:
    before = mapping(1, 8)
    parts = [mapping(1, 3), mapping(3, 4, "r--"), mapping(4, 8)]
    assert Layout(parts).diff(Layout([before])) == ([], [], [(before, parts[1])], [], [])
    assert Layout([before]).diff(Layout(parts)) == ([], [], [(parts[1], before)], [], [])


def test_a_heap_grows_upwards_and_a_stack_downwards() -> None:
    heaps = mapping(1, 3, path="[heap]"), mapping(1, 5, path="[heap]")
    stacks = mapping(20, 22, path="[stack]"), mapping(18, 22, path="[stack]")
    after, before = Layout([heaps[1], stacks[1]]), Layout([heaps[0], stacks[0]])
    assert after.diff(before) == ([], [], [], [heaps, stacks], [])


def test_a_hole_is_a_change_of_what_it_was_cut_from() -> None:
    before, parts = mapping(1, 8), [mapping(1, 3), mapping(4, 8)]
    assert Layout(parts).diff(Layout([before])) == ([], [], [(before, parts[0])], [], [])


def test_the_one_that_went_and_the_one_that_came_have_moved() -> None:
    before, after = mapping(1, 3, "r--"), mapping(11, 13, "r--")
    assert Layout([after]).diff(Layout([before])) == ([], [], [], [], [(before, after)])


def test_several_alike_are_not_guessed_to_have_moved() -> None:
    before, after = [mapping(1, 3), mapping(4, 6)], [mapping(11, 13), mapping(14, 16)]
    assert Layout(after).diff(Layout(before)) == (after, before, [], [], [])


def test_another_file_in_the_same_place_is_another_mapping() -> None:
    before = mapping(1, 3, path="/a", inode=1)
    after = mapping(1, 3, path="/b", inode=2)
    assert Layout([after]).diff(Layout([before])) == ([after], [before], [], [], [])
