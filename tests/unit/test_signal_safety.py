"""What is marked to run in a signal handler or in a forked child calls only what may be called there.

The C core marks such functions in the comment above them. Each of their calls must be to a function with such
a mark or to one that POSIX, Linux or the compiler lets a handler call. Calls through pointers are not seen.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

CORE = Path(__file__).parent.parent.parent / "libmemprot"

MARKS = ("May run in a signal handler", "Runs in a forked child")
# signal-safety(7), where they are system calls and no more, or touch only their arguments.
SAFE = frozenset(
    re.findall(
        r"\w+",
        "_exit abort alarm clock_gettime close dup2 execve fchmod fcntl fstat ftruncate getpid getrlimit "
        "getsockopt gettid ioctl kill lseek madvise memfd_create mincore mmap mprotect mremap msync munmap "
        "nanosleep open poll pread prctl process_vm_readv process_vm_writev pthread_self pthread_sigmask pwrite "
        "read readlink rename sched_yield setitimer setrlimit sigaction sigaddset sigaltstack sigdelset "
        "sigemptyset sigfillset sigprocmask sigismember sysconf stat syscall tgkill unlink vfork waitpid write "
        "writev Dynamic Linker Introspection _dl_find_object "
        # In assembly or an instruction; and the unwinder, of which backtrace.h says why it is sound.
        "memprot_access_copy memprot_access_load memprot_access_store memprot_true_sigaction "
        "_Unwind_Backtrace _Unwind_FindEnclosingFunction "
        "_Unwind_GetCFA _Unwind_GetGR _Unwind_GetIP siglongjmp sigsetjmp "
        "memchr memcmp memcpy memmove memset strchr strcmp strlen strncmp strnlen "
        "__get_cpuid_count",
    )
)
NO_CALLS = frozenset(
    ("_Atomic", "if", "while", "for", "switch", "return", "sizeof", "defined", "typeof", "asm", "__asm__", "volatile")
)
BUILT_IN = re.compile(r"^(__atomic_|__sync_|__builtin_|atomic_)\w+$")
MACRO = re.compile(r"^[A-Z][A-Z0-9_]*$")
DEFINITION = re.compile(
    r"(?P<comment>(?:^//.*\n)*)^(?P<head>(?!//|#|\s|\})[^\n;={}]*?\b(?P<name>\w+)\([^;{}]*\)[^;{}()]*)\{",
    re.MULTILINE,
)
CALL = re.compile(r"(?<![\w.>])(\w+)\s*\(")


class Function(NamedTuple):
    name: str
    place: str
    marked: bool
    calls: frozenset[str]


def without_comments_and_strings(text: str) -> str:
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', " ", text, flags=re.DOTALL)


def body_from(text: str, start: int) -> str:
    depth = 0
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start : position + 1]
    raise AssertionError(f"unbalanced braces after {text[start : start + 60]!r}")


def functions(path: Path) -> list[Function]:
    text = path.read_text()
    found = []
    for match in DEFINITION.finditer(text):
        body = without_comments_and_strings(body_from(text, match.end() - 1))
        calls = {name for name in CALL.findall(body) if name not in NO_CALLS and not MACRO.match(name)}
        comment = re.sub(r"\s*\n//\s*", " ", match["comment"])  # the marks may be wrapped
        marked = any(mark in comment for mark in MARKS)
        line = text.count("\n", 0, match.start("head")) + 1
        found.append(Function(match["name"], f"{path.name}:{line}", marked, frozenset(calls)))
    return found


FILES = [*CORE.glob("*.c"), *CORE.glob("*.h")]
ALL = [function for path in sorted(FILES) for function in functions(path)]
MARKED = [function for function in ALL if function.marked]
MARKED_NAMES = {function.name for function in MARKED}


def test_the_marks_are_found() -> None:
    assert {"memprot_mprotect", "memprot_try_mseal"} <= MARKED_NAMES


@pytest.mark.parametrize("function", MARKED, ids=lambda function: function.name)
def test_a_marked_function_calls_only_what_a_signal_handler_may_call(function: Function) -> None:
    unsafe = {
        name for name in function.calls if name not in MARKED_NAMES and name not in SAFE and not BUILT_IN.match(name)
    }
    assert not unsafe, f"{function.place}: {function.name} is marked and calls {sorted(unsafe)}"
