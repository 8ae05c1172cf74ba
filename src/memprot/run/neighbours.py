"""Living with others who take the signals of faults: after each, the engine goes to the front again."""

from __future__ import annotations

import memprot._native as _native

# What typing.TYPE_CHECKING stands for, without the modules that typing would bring into the program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["keep_in_front"]


def keep_in_front(reinstall: Callable[[], object]) -> None:
    """Call ``reinstall`` whenever the program has given SIGSEGV or SIGBUS a handler by Python's own means.

    ``signal.signal``, ``faulthandler.enable`` and ``faulthandler.disable`` go on doing what they do, to the
    letter. Libraries that call sigaction(2) themselves are not seen here.

    Args:
        reinstall: puts the engine's handler in front of what is there now.

    >>> code = '''
    ... from memprot.run.neighbours import keep_in_front
    ... keep_in_front(lambda: print("in front"))
    ... import faulthandler, signal
    ... faulthandler.enable()
    ... signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ... '''
    >>> import subprocess, sys
    >>> subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout
    b'in front\\n'
    """
    # Both are built into Python: importing them runs no Python code and reads no file.
    import _signal  # type: ignore[import-not-found]
    import faulthandler

    watched = (_signal.SIGSEGV, _signal.SIGBUS)

    def after_signal(number: int, handler: object) -> None:
        if number in watched:
            reinstall()

    def after_faulthandler(*args: object, **kwargs: object) -> None:
        reinstall()

    # signal.signal is a Python function that calls this one by its name.
    _signal.signal = _native.interpose(_signal.signal, after=after_signal)
    faulthandler.enable = _native.interpose(faulthandler.enable, after=after_faulthandler)
    faulthandler.disable = _native.interpose(faulthandler.disable, after=after_faulthandler)
