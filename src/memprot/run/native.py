"""Becoming a program that is not Python, with malloc guarded where that is possible."""

import errno
import os
import signal
import sys
from collections.abc import Mapping
from typing import NoReturn

from memprot.run import executable, journal, preload, stderr
from memprot.run.launch import FOLLOW
from memprot.run.options import Options
from memprot.run.reporter import command
from memprot.run.suppressions import SuppressionsError, read

__all__ = ["CannotStartError", "launch"]

_ACTIVATION = "MEMPROT_PROGRAM"
_SUPPRESSIONS = "MEMPROT_PROGRAM_SUPPRESSIONS"
_SEPARATOR = "\x1f"
_NOT_FOUND, _NOT_RUN = 127, 126  # as shells have them
_SHELL = "/bin/sh"


class CannotStartError(Exception):
    """The program cannot be started; the message is one sentence.

    Attributes:
        status: what to exit with: 127 where there is no such program, 126 where it cannot be run.

    >>> CannotStartError("There is no program 'x'.", 127).status
    127
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def launch(options: Options, path: str, program: list[str]) -> NoReturn:
    """Replace this process by the program, its malloc guarded, or as it is where that cannot be done.

    Args:
        options: checked already.
        path: of the executable.
        program: its name as it was typed, and its arguments.

    Raises:
        CannotStartError: the kernel refuses to start it, or the document cannot be written.

    Source: execve(2), ld.so(8) under LD_PRELOAD.

    >>> import subprocess, sys
    >>> code = "from memprot.run import native, options; "
    >>> code += "native.launch(options.Options(quiet=True), '/bin/echo', ['echo', '6'])"
    >>> subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout
    b'6\\n'
    """
    environment = _environment_as_given()
    typed = program
    path, program = executable.behind_env(path, program)
    why = executable.why_unguarded(path)
    if why is not None:
        stderr.say(f"memprot: {typed[0]} runs as it is, without guards: {why}.\n")
    if options.json is not None:
        _begin_document(options.json, typed)
    if why is None and options.guard:
        environment = _guarded(options, environment)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    # Python ignores these for itself, and what is ignored stays so in the next program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    _become(path, program, environment)


def _become(path: str, program: list[str], environment: Mapping[str, str]) -> NoReturn:
    try:
        try:
            os.execve(path, program, environment)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            os.execve(_SHELL, [_SHELL, path, *program[1:]], environment)  # as execvp does
    except OSError as error:
        status = _NOT_FOUND if error.errno == errno.ENOENT else _NOT_RUN
        raise CannotStartError(f"{program[0]!r} cannot be started: {error.strerror}.", status) from error


def _environment_as_given() -> dict[str, str]:
    """Without the LC_CTYPE that Python gives itself where the locale is plain C (PEP 538)."""
    environment = dict(os.environ)
    if "LC_CTYPE" in environment:
        try:
            with open("/proc/self/environ", "rb") as file:
                given = file.read().split(b"\0")
        except OSError:  # /proc is not mounted: then it stays
            return environment
        if not any(entry.startswith(b"LC_CTYPE=") for entry in given):
            del environment["LC_CTYPE"]
    return environment


def _guarded(options: Options, environment: dict[str, str]) -> dict[str, str]:
    try:
        result = preload.environment(environment)
    except preload.CannotPreloadError as error:
        raise CannotStartError(str(error), _NOT_RUN) from error
    result |= {preload.WORDS: preload.as_words(options), _ACTIVATION: _activation(options)}
    if options.suppressions:
        result[_SUPPRESSIONS] = _suppressions(options)
    if options.follow:
        result[FOLLOW] = str(os.getpid())
    return result


def _activation(options: Options) -> str:
    """What libmemprot/program.h reads."""
    # The files of suppressions are for the names in the document; the library gets what they say.
    reporter = [
        *command(options.on_fault, options.json, os.getpid()),
        *map(os.fsencode, (options.gen_suppressions or "", *options.suppressions)),
    ]
    words = [str(os.getpid()), options.on_fault, str(options.error_exitcode), str(int(options.quiet))]
    return _SEPARATOR.join([*words, options.json or "", *map(os.fsdecode, reporter)])


def _suppressions(options: Options) -> str:
    """What libmemprot/suppression_words.h reads; nothing is suppressed by files that cannot be read."""
    try:
        known = read(options.suppressions)
    except SuppressionsError as error:
        stderr.say(f"memprot: nothing is suppressed: {error}\n")
        known = []
    words = [str(len(known))]
    for one in known:
        words += [str(one.kinds), str(one.accesses), str(len(one.frames))]
        for frame in one.frames:
            words += ["*"] if frame is None else ["-", *("" if part is None else f"={part}" for part in frame)]
    return _SEPARATOR.join(words)


def _begin_document(path: str, program: list[str]) -> None:
    try:
        journal.Journal(path, program).begin()
    except OSError as error:
        raise CannotStartError(f"--json: {path!r} cannot be written: {error.strerror}.", _NOT_RUN) from error
