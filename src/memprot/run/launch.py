"""Becoming the interpreter that runs the program: the process is the same, its memory is new."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import NoReturn

from memprot.run import journal, preload
from memprot.run.options import Options

__all__ = ["ACTIVATION", "FOLLOW", "FORMER_PATH", "CannotRunError", "launch"]

ACTIVATION = "MEMPROT_RUN"
FORMER_PATH = "MEMPROT_RUN_PYTHONPATH"
FOLLOW = "MEMPROT_FOLLOW"

_STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "startup")


class CannotRunError(Exception):
    """The program cannot be run under memprot; the message is one sentence that says what to do.

    >>> str(CannotRunError("There is no memory; free some."))
    'There is no memory; free some.'
    """


def launch(options: Options, program: list[str]) -> NoReturn:
    """Replace this process by a Python that runs the program under memprot.

    Everything that Python does with a program (its arguments, ``sys.path``, tracebacks, exit status) it does
    itself: memprot only starts the fault engine before the program begins.

    Args:
        options: checked already.
        program: a script, ``-m`` and a module, ``-c`` and code, or ``-``; then the program's arguments.

    Raises:
        CannotRunError: this interpreter was started with a flag that memprot cannot live with, the document
            cannot be written, or the kernel refuses to start the interpreter.

    Source: execve(2).

    >>> import subprocess, sys
    >>> code = "from memprot.run import launch, options; "
    >>> code += "launch.launch(options.Options(quiet=True), ['-c', 'print(6)'])"
    >>> subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout
    b'6\\n'
    """
    _refuse_flags()
    if options.json is not None:
        _begin_document(options.json, program)
    flags = _interpreter_flags()
    arguments = [sys.executable, *flags, *program]
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    try:
        os.execve(sys.executable, arguments, _environment(options, len(flags), os.environ))
    except preload.CannotPreloadError as error:
        raise CannotRunError(str(error)) from error
    except OSError as error:
        raise CannotRunError(f"{sys.executable!r} cannot be started: {error.strerror}.") from error


def _refuse_flags() -> None:
    for flag, present, why in (
        ("-I", sys.flags.isolated, "it makes Python ignore PYTHONPATH"),
        ("-E", sys.flags.ignore_environment, "it makes Python ignore PYTHONPATH"),
        ("-S", sys.flags.no_site, "it keeps Python from running sitecustomize"),
    ):
        if present:
            raise CannotRunError(f"memprot cannot start under python {flag}: {why}; leave the flag out.")
    if not sys.executable:
        raise CannotRunError("memprot cannot start: this Python does not know its own path (sys.executable is empty).")
    if os.pathsep in _STARTUP:
        raise CannotRunError(
            f"memprot cannot start from {_STARTUP!r}: PYTHONPATH cannot hold a path with {os.pathsep!r}; "
            "install it elsewhere."
        )


def _interpreter_flags() -> list[str]:
    """The flags this interpreter was started with, so that the program finds them too."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    given = {flags[i + 1] for i, flag in enumerate(flags[:-1]) if flag == "-X"}
    for name, value in sys._xoptions.items():
        option = name if value is True else f"{name}={value}"
        if option not in given and name not in given:
            flags += ["-X", option]
    if getattr(sys.stdout, "write_through", False) and not os.environ.get("PYTHONUNBUFFERED"):
        flags.append("-u")
    return flags


def _environment(options: Options, flags: int, environment: Mapping[str, str]) -> dict[str, str]:
    result = dict(environment)
    former = result.get("PYTHONPATH")
    # An empty entry would be the working directory: an empty PYTHONPATH is none.
    result["PYTHONPATH"] = os.pathsep.join(filter(None, (_STARTUP, former)))
    result[ACTIVATION] = options.as_text(flags)
    if options.follow:
        result[FOLLOW] = str(os.getpid())
    if former is not None:
        result[FORMER_PATH] = former
    return preload.environment(result) if "malloc" in options.guard else result


def _begin_document(path: str, program: list[str]) -> None:
    """A run that dies before it can write leaves a true document too, and a bad path shows now."""
    try:
        journal.Journal(path, program).begin()
    except OSError as error:
        raise CannotRunError(f"--json: {path!r} cannot be written: {error.strerror}.") from error
