"""What a program on the command line is: Python's business, or an executable; and whether its malloc can be guarded."""

import os
import platform
import re
import stat
import struct
from typing import BinaryIO, NamedTuple

__all__ = ["MissingError", "behind_env", "find", "is_executable", "why_unguarded"]

_ELF = b"\x7fELF"
_PYTHON_ENDINGS = (".py", ".pyc", ".pyw", ".pyz")
_MACHINES = {"x86_64": 62, "aarch64": 183}  # EM_X86_64 and EM_AARCH64, elf(5)
_LOADED, _DYNAMIC, _INTERPRETER = 1, 2, 3  # PT_LOAD, PT_DYNAMIC and PT_INTERP, elf(5)
_NAMES, _SIZE_OF_NAMES = 5, 10  # DT_STRTAB and DT_STRSZ
_SANITIZERS = (b"asan", b"tsan", b"msan", b"hwasan")  # the compilers' names for them
_FIRST_LINE = 256  # BINPRM_BUF_SIZE: the kernel looks no further for an interpreter
_SCRIPTS_DEEP = 5  # the kernel follows no more interpreters of interpreters


class MissingError(Exception):
    """There is no such program; the message is one sentence that names it.

    Attributes:
        status: what to exit with, as shells have it.

    >>> str(MissingError("There is no program 'x' in PATH."))
    "There is no program 'x' in PATH."
    """

    status = 127


def find(name: str) -> str:
    """The path of a program, as execvp finds it; the name of what Python runs stays as it is.

    Args:
        name: as it was typed behind ``--``.

    Returns:
        *name* where it is that of a file that Python runs, or has a slash; else the first executable file of that
        name in PATH, and where there is none, *name* again when there is such a file here.

    Raises:
        MissingError: there is none.

    Source: exec(3).

    >>> find("sh") in {"/bin/sh", "/usr/bin/sh"}
    True
    """
    if name.startswith("-") or name.endswith(_PYTHON_ENDINGS) or _is_for_python(name):
        return name
    if "/" in name:
        if os.path.exists(name):
            return name
        raise MissingError(f"There is no program {name!r}.")
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    if os.path.exists(name):
        return name
    raise MissingError(f"There is no program {name!r}, neither here nor in PATH.")


def is_executable(path: str) -> bool:
    """Whether the kernel runs the file and Python does not: an ELF file, or a script for another interpreter.

    Args:
        path: of the file; what does not exist is none, and a flag of Python's neither.

    Source: execve(2), elf(5).

    >>> is_executable("/bin/sh"), is_executable("app.py")
    (True, False)
    """
    if path.startswith("-"):
        return False
    start = _start_of(path)
    if start is None:
        return os.path.isfile(path) and os.access(path, os.X_OK)  # may be run and not be read
    if start.startswith(_ELF):
        return True
    interpreter = _interpreter_of_script(start)
    return interpreter is not None and os.access(path, os.X_OK) and not _is_python(interpreter)


def behind_env(path: str, program: list[str]) -> tuple[str, list[str]]:
    """The interpreter of a script that names it by ``env``, which would only execute it; others as they are.

    Args:
        path: of the program.
        program: its name as it was typed, and its arguments.

    Returns:
        What to execute, and with which arguments.

    Source: env(1), execve(2).

    >>> behind_env("/bin/echo", ["echo", "6"])
    ('/bin/echo', ['echo', '6'])
    """
    interpreter = _interpreter_of_script(_start_of(path) or b"") or [""]
    if os.path.basename(interpreter[0]) != "env" or len(interpreter) != 2 or set(interpreter[1]) & set("-= \t"):
        return path, program
    try:
        return find(interpreter[1]), [interpreter[1], path, *program[1:]]
    except MissingError:
        return path, program  # env says so


def why_unguarded(path: str) -> str | None:
    """Why the malloc of an executable cannot be guarded, as a clause; None where it can.

    The guards come with a library that the dynamic loader loads before the program's own (LD_PRELOAD). So there
    must be a loader, it must be that of the C library that memprot was built for, and it must be willing.

    Args:
        path: of an ELF file, or of a script, whose interpreter decides.

    Source: ld.so(8), elf(5), getauxval(3) under AT_SECURE.

    >>> why_unguarded("/bin/sh") is None
    True
    """
    for _ in range(_SCRIPTS_DEEP):
        start = _start_of(path)
        if start is None:
            return None  # the loader may know more than we may read
        if start.startswith(_ELF):
            return _why_elf_is_unguarded(path)
        interpreter = _interpreter_of_script(start)
        if interpreter is None:
            return "it is neither an ELF file nor a script that names its interpreter"
        path = interpreter[0]
    return "its interpreter is a script of a script of a script"


def _is_for_python(name: str) -> bool:
    if os.path.isdir(name):
        return os.path.exists(os.path.join(name, "__main__.py"))
    return os.path.exists(name) and not is_executable(name)


def _start_of(path: str) -> bytes | None:
    """The first bytes of a regular file; none of one that is none; None of one that cannot be read."""
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(_FIRST_LINE)
    except OSError:
        return None


def _interpreter_of_script(start: bytes) -> list[str] | None:
    """The words of a script's first line, where it names an interpreter."""
    if not start.startswith(b"#!"):
        return None
    words = os.fsdecode(start[2:].split(b"\n", 1)[0]).strip().split(maxsplit=1)
    return words or None


def _is_python(interpreter: list[str]) -> bool:
    words = " ".join(interpreter).split()
    name = os.path.basename(words[0])
    if name == "env":
        names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        name = os.path.basename(names[0]) if names else ""
    return re.fullmatch(r"(python|pypy)[0-9.]*t?d?", name) is not None


def _why_elf_is_unguarded(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            content = file.read(1 << 16)
            foreign = _why_foreign(content)
            if foreign is not None:
                return foreign
            segments = _segments(content)
            if _INTERPRETER not in segments:
                return "it is linked statically"
            offset, size = segments[_INTERPRETER]
            file.seek(offset)
            loader = os.fsdecode(file.read(size).rstrip(b"\0"))
            names = _dynamic_names(file, content)
    except (OSError, struct.error) as error:
        return f"its headers cannot be read ({error})"
    if os.path.basename(loader).startswith("ld-musl"):
        return "its C library is musl, and memprot's guards are for the GNU C library"
    if not os.path.basename(loader).startswith(("ld-linux", "ld64")):
        return f"its loader, {loader!r}, is not that of the GNU C library"
    for sanitizer in _SANITIZERS:
        if b"__%s_init" % sanitizer in names:
            return f"it was built with a sanitizer ({sanitizer.decode()}), which has guards of its own"
    return _why_privileged(path)


def _why_foreign(content: bytes) -> str | None:
    if content[4] != 2:  # ELFCLASS64
        return "it is a 32-bit program"
    if content[5] != 1:  # ELFDATA2LSB
        return "it is for another processor"
    (machine,) = struct.unpack_from("<H", content, 18)
    if machine != _MACHINES.get(platform.machine(), machine):
        return f"it is for another processor (ELF machine {machine})"
    return None


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int  # in the file


def _table_of_segments(content: bytes) -> list[_Segment]:
    (table,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    found = []
    for at in range(table, table + size * count, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", content, at)
        found.append(_Segment(kind, offset, address, length))
    return found


def _segments(content: bytes) -> dict[int, tuple[int, int]]:
    """Where each type of segment lies in the file, and how long it is there."""
    return {segment.kind: (segment.offset, segment.size) for segment in _table_of_segments(content)}


def _dynamic_names(file: BinaryIO, content: bytes) -> bytes:
    """The names that the loader deals with, one after the other."""
    offset, size = _segments(content).get(_DYNAMIC, (0, 0))
    file.seek(offset)
    entries = file.read(size)
    values = dict(struct.unpack_from("<QQ", entries, at) for at in range(0, len(entries) - 15, 16))
    address = values.get(_NAMES, 0)
    for segment in _table_of_segments(content):
        if segment.kind == _LOADED and segment.address <= address < segment.address + segment.size:
            file.seek(segment.offset + address - segment.address)
            return file.read(values.get(_SIZE_OF_NAMES, 0))
    return b""


def _why_privileged(path: str) -> str | None:
    """The loader takes no libraries from the environment of a program that gains rights."""
    status = os.stat(path)
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return None
    if status.st_mode & stat.S_ISUID and status.st_uid != os.getuid():
        return "it is set-user-ID, and the loader ignores LD_PRELOAD for it"
    setgid = status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IXGRP
    if setgid and status.st_gid != os.getgid():
        return "it is set-group-ID, and the loader ignores LD_PRELOAD for it"
    if os.getuid() != 0 and "security.capability" in _attributes(path):
        return "it has file capabilities, and the loader ignores LD_PRELOAD for it"
    return None


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:  # a file system without them
        return []
