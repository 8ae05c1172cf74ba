"""The start and the end of a program under memprot, inside its own interpreter."""

import atexit
import os
import posix
import sys

import memprot._native as _native
from memprot.run import session as sessions
from memprot.run import stderr
from memprot.run.neighbours import keep_in_front
from memprot.run.on_import import when_imported
from memprot.run.options import Guard, Options
from memprot.run.session import Session

__all__ = ["start"]

# The extension module that allocates NumPy's arrays: since NumPy 2, and before.
_NUMPY = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
_BLOCKS: dict[Guard, str] = {
    "numpy": "NumPy's arrays",
    "raw": "blocks of Python's raw memory",
    "mem": "blocks of Python's memory",
    "obj": "Python's objects",
    "malloc": "blocks of malloc",
}
_SIGINT = 2


def start(activation: str) -> None:
    """Start memprot in this interpreter; called before the program, and before anything it imports.

    Where the fault engine cannot start, one sentence on standard error says why, and the program runs
    unguarded: its exit status is left in the document all the same.

    Args:
        activation: what the launcher left in the environment.

    Raises:
        OSError: the end of the process cannot be prepared.

    >>> import subprocess, sys
    >>> command = [sys.executable, "-m", "memprot", "run", "--quiet", "-c", "print(6)"]
    >>> subprocess.run(command, stdout=subprocess.PIPE).stdout
    b'6\\n'
    """
    options, argv = Options.from_text(activation)
    is_child = options.follow and os.environ.get("MEMPROT_FOLLOW") != str(os.getpid())
    if is_child:
        argv = sys.orig_argv[1:]
        options.error_exitcode = 0
        options.json = None if options.json is None else f"{options.json}.{os.getpid()}"
    session = sessions.current = Session(options, argv)
    if is_child:
        session.whose = f"memprot: in process {os.getpid()}, {' '.join(argv[:2]):.60}:\n"
    session.prepare()
    _watch_end(session)
    try:
        _start_engine(session)
    except Exception as error:  # noqa: BLE001 (the program runs whatever happens to us)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        stderr.say(f"memprot: the fault engine could not start, so the program runs unguarded ({reason}).\n")


def _start_engine(session: Session) -> None:
    from memprot.faults import engine
    from memprot.run.reporter import command

    environment = [b"%s=%s" % item for item in os.environb.items()]
    _native.set_crash_reporter(command(session.options.on_fault, session.options.json), environment)
    on_fault = session.options.on_fault
    # The program is to go on as if nothing had happened: what was forbidden does not happen, and is told.
    engine.set_policy("discard" if on_fault == "log" else on_fault)
    _native.use_alternate_stacks()  # behind whatever looks at mappings, whose descriptor it closes
    engine.add_listener(session.hear)
    _suppress(session)
    keep_in_front(engine.reinstall)
    for target in session.options.guard:
        if target == "numpy":
            when_imported(_NUMPY, lambda: _guard(session, "numpy"))
        else:
            _guard(session, target)
    session.drain = engine.drain
    session.running = True


def _suppress(session: Session) -> None:
    if not session.options.suppressions:
        return
    from memprot.run.suppressed import suppress
    from memprot.run.suppressions import SuppressionsError

    try:
        session.suppressed = suppress(session.options.suppressions)
    except SuppressionsError as error:  # it could be read a moment ago
        session.options.suppressions = ()
        stderr.say(f"memprot: nothing is suppressed: {error}\n")


def _guard(session: Session, target: Guard) -> None:
    options = session.options
    try:
        from memprot import guard

        guard.enable(
            target,
            sample=options.sample,
            side=options.side,
            align=options.align or None,
            after_free=options.quarantine,
        )
        session.guarded = guard.report
    except Exception as error:  # noqa: BLE001 (neither the program nor its import of NumPy must fail because of us)
        options.guard = tuple(other for other in options.guard if other != target)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        stderr.say(f"memprot: {_BLOCKS[target]} could not be guarded, so they are not ({reason}).\n")


def _watch_end(session: Session) -> None:
    """Be there when the process ends, by exit(3) or by ``os._exit``."""
    leave_at_once = os._exit

    def at_exit() -> None:
        session.drain()
        if os.getpid() != session.pid:
            return
        # Python ends by SIGINT itself then, so that shells see it; its exit(3) is never reached.
        if getattr(sys, "last_type", None) is KeyboardInterrupt:
            session.end_by_signal(_SIGINT)
        else:
            session.finish()

    def before_exit(*args: object, **kwargs: object) -> None:
        status = _int_argument(args, kwargs)
        if status is None or os.getpid() != session.pid:
            return
        session.drain()
        session.finish()
        wanted = _native.leave(status)
        if wanted != status & 0xFF:
            leave_at_once(wanted)

    # Before the program registers its own callbacks: the first registered runs last.
    atexit.register(at_exit)
    os._exit = posix._exit = _native.interpose(leave_at_once, before=before_exit)


def _int_argument(args: tuple[object, ...], kwargs: dict[str, object]) -> int | None:
    """The status ``os._exit`` was given; None when it is about to refuse what it was given."""
    given = (*args, *kwargs.values())
    if len(given) != 1 or not kwargs.keys() <= {"status"} or not isinstance(given[0], int):
        return None
    return given[0] if -(2**31) <= given[0] < 2**31 else None
