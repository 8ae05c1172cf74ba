"""The flags of memprot.flags: every constant of the kernel's headers, with the header's number."""

import re
import subprocess
from enum import IntEnum, IntFlag
from functools import cache

import pytest

from memprot import Prot, calls, flags
from memprot.flags import HUGE_MASK, HUGE_SHIFT, MAP_TYPE, MapFlag, MemfdFlag

HEADERS = (
    "linux/mman.h",
    "linux/memfd.h",
    "linux/fcntl.h",
    "linux/mempolicy.h",
    "linux/personality.h",
    "linux/prctl.h",
)
INCLUDES = "".join(f"#include <{header}>\n" for header in HEADERS)
PREFIXES: dict[type[IntFlag | IntEnum], str] = {
    Prot: "PROT_",
    flags.Advice: "MADV_",
    flags.DenyWriteExecute: "PR_MDWE_",
    flags.ExecutionDomain: "PER_",
    flags.KeyRights: "PKEY_",
    flags.LockAllFlag: "MCL_",
    flags.LockFlag: "MLOCK_",
    flags.MapFlag: "MAP_",
    flags.MemfdFlag: "MFD_",
    flags.NumaFlag: "MPOL_MF_",
    flags.NumaMode: "MPOL_(?!MF_|F_)",
    flags.NumaModeFlag: "MPOL_F_",
    flags.Personality: "",
    flags.RemapFlag: "MREMAP_",
    flags.Seal: "F_SEAL_",
    flags.SyncFlag: "MS_",
}
PERSONALITY = (
    "UNAME26|ADDR_\\w+|FDPIC_FUNCPTRS|MMAP_PAGE_ZERO|READ_IMPLIES_EXEC|SHORT_INODE|WHOLE_SECONDS|STICKY_TIMEOUTS"
)
# Masks, counts, and what the kernel keeps to itself; the last three are of get_mempolicy(2), which sets them.
NO_FLAGS = re.compile(
    r"MAP_TYPE|\w+_HUGE_(SHIFT|MASK)|PKEY_ACCESS_MASK|PER_CLEAR_ON_SETID|MPOL_(MAX|MODE_FLAGS|MF_VALID|MF_INTERNAL)|"
    r"MPOL_F_(SHARED|MOF|MORON|NODE|ADDR|MEMS_ALLOWED)"
)


def compiler(*arguments: str, source: str) -> str:
    command = ["cc", "-x", "c", "-", *arguments]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


@cache
def of_the_headers(directory: str) -> dict[str, int]:
    """Every constant that may be a flag, with its number."""
    macros = re.findall(r"#define ([A-Z]\w+) ", compiler("-E", "-dM", source=INCLUDES))
    enumerators = re.findall(r"^\s*([A-Z]\w+)\s*[=,]", compiler("-E", source=INCLUDES), re.MULTILINE)
    wanted = re.compile("|".join([f"(?:{prefix})\\w+" for prefix in PREFIXES.values() if prefix] + [PERSONALITY]))
    names = sorted({name for name in macros + enumerators if wanted.fullmatch(name) and not NO_FLAGS.fullmatch(name)})
    lines = "".join(f'printf("{name} %llu\\n", (unsigned long long)({name}));' for name in names)
    program = f"{directory}/constants"
    compiler("-o", program, source=f"#include <stdio.h>\n{INCLUDES}int main(void) {{ {lines} return 0; }}")
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in (line.split() for line in printed.splitlines())}


@pytest.mark.parametrize("kind", PREFIXES, ids=lambda kind: kind.__name__)
def test_every_constant_of_the_installed_headers_is_there_with_its_number(
    kind: type[IntFlag], tmp_path_factory: pytest.TempPathFactory
) -> None:
    constants = of_the_headers(str(tmp_path_factory.getbasetemp()))
    pattern = re.compile(f"{PREFIXES[kind]}(\\w+)" if PREFIXES[kind] else f"({PERSONALITY})")
    found = {match[1]: number for name, number in constants.items() if (match := pattern.fullmatch(name))}
    if "32BIT" in found:  # no name in Python
        found["MAP_32BIT"] = found.pop("32BIT")
    assert found or kind is flags.DenyWriteExecute, "the headers have none"
    assert found == {name: int(kind.__members__[name]) for name in found if name in kind.__members__}


def test_huge_page_flags_hold_the_logarithm_of_the_size() -> None:
    units = {"KB": 10, "MB": 20, "GB": 30}
    for kind in (MapFlag, MemfdFlag):
        huge = [name for name in kind.__members__ if name.startswith("HUGE_")]
        assert huge
        for name in huge:
            count, unit = re.fullmatch(r"HUGE_(\d+)(\w\w)", name).groups()  # type: ignore[union-attr]
            exponent = kind[name] >> HUGE_SHIFT & HUGE_MASK
            assert 1 << exponent == int(count) << units[unit]


def test_the_mask_of_the_mapping_types_holds_each_of_them() -> None:
    types = MapFlag.SHARED, MapFlag.PRIVATE, MapFlag.SHARED_VALIDATE, MapFlag.DROPPABLE
    assert all(kind & MAP_TYPE == kind for kind in types)
    assert not (MapFlag.FIXED | MapFlag.ANONYMOUS) & MAP_TYPE


def test_the_flags_are_also_where_the_calls_are() -> None:
    for name in flags.__all__:
        if isinstance(getattr(flags, name), type):
            assert getattr(calls, name) is getattr(flags, name)
