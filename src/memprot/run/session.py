"""One run: what was seen so far, and what is left behind when the process ends."""

from __future__ import annotations

import os
from _thread import RLock

import memprot._native as _native
from memprot.run import stderr
from memprot.run.journal import Journal
from memprot.run.options import GUARDS
from memprot.run.summary import summary

# What typing.TYPE_CHECKING stands for, without the modules that typing would bring into the program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memprot.faults.ink import Ink
    from memprot.faults.record import FaultRecord
    from memprot.run.folding import Folding
    from memprot.run.options import Options
    from memprot.run.suppressions import Suppression

__all__ = ["Session"]

_FOUND_WITHOUT_SIGNAL = 0

# That of this process, where `memprot run` has started the program.
current: Session | None = None


class Session:
    """Hears of faults, tells them, and keeps what the process leaves behind up to date.

    Args:
        options: of the run.
        argv: the program and its arguments as the user typed them.

    Attributes:
        whose: what stands before a report: nothing, or a line that names a process which another one under
            memprot has started. Such a process sums up nothing when there is nothing to tell.
        running: whether the engine runs, so that there is something to sum up.
        drain: makes the engine tell what it has not told yet.
        suppressed: the suppressions, each with how many faults it kept from being told.
        guarded: what was guarded so far, by target.
        tells: whether reports go to standard error; pytest's plugin tells them itself.

    >>> from memprot.run.options import Options
    >>> session = Session(Options(quiet=True), ["app.py"])
    >>> session.total
    0
    """

    def __init__(self, options: Options, argv: list[str]) -> None:
        self.options = options
        self.pid = os.getpid()
        self.journal = None if options.json is None else Journal(options.json, argv)
        self.whose = ""
        self.running = False
        self.tells = True
        self.drain: Callable[[], object] = _nothing
        self.suppressed: Callable[[], Sequence[tuple[Suppression, int]]] = tuple
        self.guarded: Callable[[], Mapping[str, Mapping[str, int]]] = dict
        self.faults: Folding | None = None
        self._lock = RLock()
        self._cannot_write = False
        self._untold: list[FaultRecord] = []
        self._blocks: set[str] = set()
        self._why_untold: Exception | None = None
        # A child made while another thread tells a fault would wait for ever for locks of that thread:
        # this one and Python's locks of imports.
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )

    @property
    def total(self) -> int:
        """How many faults were heard of."""
        return len(self._untold) + (0 if self.faults is None else self.faults.total)

    def hear(self, record: FaultRecord) -> None:
        """Tell a fault that is the first of its likeness and count the others; the document follows.

        What there is no memory or no descriptor for is told later: the program gets its FaultError all the same.
        """
        with self._lock:
            self._untold.append(record)
            self._tell()

    def _tell(self) -> None:
        # A report reads whole libraries: guarding each object of that would take longer than all the rest.
        _native.allocators_pause()
        try:
            while self._untold:
                self._tell_oldest()
        except (ImportError, MemoryError, OSError) as error:
            self._why_untold = error
        finally:
            _native.allocators_resume()

    def _tell_oldest(self) -> None:
        # A run without a fault never needs them; a fork must not come in the middle of an import.
        from memprot.faults.report import render
        from memprot.run.folding import Folding

        if self.faults is None:
            self.faults = Folding()
        record = self._untold.pop(0)
        is_new = self.faults.add(record)
        if is_new and self.tells:
            stderr.say(self.whose + render(record, self.options.on_fault, _ink()))
        if is_new:
            self._generate(record)
        total = self.faults.total
        # Those that are only counted are written now and then: a killed program leaves nearly all.
        if os.getpid() == self.pid and (is_new or total & (total - 1) == 0):
            self._write(record)

    def _generate(self, record: FaultRecord) -> None:
        """Write what would suppress a fault; what the program dies of nothing can."""
        path = self.options.gen_suppressions
        if path is None or not (record.recovered or record.signal == _FOUND_WITHOUT_SIGNAL):
            return
        from memprot.run.suppression_block import hand_out, suppression_block

        block = suppression_block(record)
        if block in self._blocks:
            return
        self._blocks.add(block)
        hand_out(block, path)

    def _tell_rest(self) -> None:
        self._tell()
        if self._untold:
            count = len(self._untold)
            what = "1 fault" if count == 1 else f"{count} faults"
            stderr.say(f"memprot: {what} could not be told ({self._why_untold}).\n")

    def prepare(self, words: str = "") -> None:
        """Tell C what to leave behind at exit(3).

        Args:
            words: for standard error.
        """
        journal = self.journal
        if journal is not None:
            journal.set(self.guarded(), () if self.faults is None else self.faults, self.suppressed())
        _native.set_exit(
            pid=self.pid,
            path=None if journal is None else journal.path,
            head=b"" if journal is None else journal.head,
            body=b"" if journal is None else journal.body,
            words=stderr.encoded(words) if stderr.is_open() else b"",
            listed=journal is not None and journal.listed,
            replacement=self.options.error_exitcode if self.total else 0,
        )

    def finish(self) -> None:
        """Prepare the end of this process: everything is known but its exit status."""
        with self._lock:
            self._tell_rest()
            self.prepare(self._summary())

    def end_by_signal(self, number: int) -> None:
        """Leave everything behind now: Python is about to kill itself, and exit(3) has no part in that.

        Args:
            number: the signal.
        """
        with self._lock:
            self._tell_rest()
            self.prepare()
            stderr.say(self._summary())
            self._die(number)

    def _summary(self) -> str:
        if self.options.quiet or not self.running or (self.whose and not self.total):
            return ""
        distinct = 0 if self.faults is None else len(self.faults)
        counts = self.guarded()
        asked = (target for target in GUARDS if target in self.options.guard)
        guarded: dict[str, Mapping[str, int]] = {target: counts.get(target, {}) for target in asked}
        refusals: dict[str, int] = {target: _native.guard_refusal(number) for number, target in enumerate(GUARDS)}
        words = self.whose + summary(self.total, distinct, guarded, refusals) + self._last_words_of_suppressions()
        return words + self._table()

    def _table(self) -> str:
        if self.faults is None or len(self.faults) < 2:
            return ""
        from memprot.run.fault_table import fault_table

        return fault_table(self.faults, _ink())

    def _last_words_of_suppressions(self) -> str:
        if not self.options.suppressions:
            return ""
        from memprot.run.suppressed import last_words

        return last_words(self.suppressed())

    def _write(self, record: FaultRecord) -> None:
        self.prepare()
        if self.journal is None:
            return
        if not record.recovered and record.signal != _FOUND_WITHOUT_SIGNAL:
            self._die(record.signal)
            return
        try:
            self.journal.write()
        except OSError as error:
            self._complain(error)

    def _die(self, number: int) -> None:
        try:
            _native.die(number)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._cannot_write:
            self._cannot_write = True
            stderr.say(f"memprot: the document {self.options.json!r} cannot be written: {error.strerror}.\n")


def _ink() -> Ink:
    from memprot.faults.ink import Ink
    from memprot.faults.report import wants_color

    color = wants_color(stderr.is_terminal(), os.environ)
    return Ink(color=color, unicode=stderr.can_show("│╰─├┤█…·"))


def _nothing() -> None:
    """What the engine has to tell before it runs."""
