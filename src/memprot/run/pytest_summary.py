"""What a pytest session comes to: faults, the tests they were in, and what was guarded, in all its processes."""

from __future__ import annotations

from typing import Any

from memprot.faults.headline import count_of

__all__ = ["Summary"]

_BLOCKS = {"numpy": "array", "raw": "raw block", "mem": "memory block", "obj": "object", "malloc": "malloc block"}


class Summary:
    """Counts what the reports of a session say, be they of this process or of workers.

    Attributes:
        guarded: how many blocks, by what they are.
        trouble: sentences about what could not be guarded, and about what happened outside of the tests.
        strays: texts of faults that came while nothing was running.

    >>> summary = Summary()
    >>> summary.add_process({"guarded": {"numpy": 1204}, "trouble": [], "strays": []})
    >>> summary.line()
    'memprot: no faults; 1,204 arrays guarded'
    """

    def __init__(self) -> None:
        self.guarded: dict[str, int] = {}
        self.trouble: list[str] = []
        self.strays: list[str] = []
        self._faults = 0
        self._tests: dict[str, None] = {}
        self._passed: list[str] = []

    def add_report(self, report: Any) -> None:
        """Count the faults of a report.

        Args:
            report: pytest's, as the plugin has left it.
        """
        faults = getattr(report, "memprot_faults", 0)
        if faults:
            self._faults += faults
            self._tests[report.nodeid] = None
        self._passed += [f"{report.nodeid}: {words}" for words in getattr(report, "memprot_passed", ())]

    def add_process(self, data: dict[str, Any]) -> None:
        """Add what one process has guarded.

        Args:
            data: ``guarded``, ``trouble`` and ``strays``, each as the attribute.
        """
        for target, count in data["guarded"].items():
            self.guarded[target] = self.guarded.get(target, 0) + count
        self.trouble += [sentence for sentence in data["trouble"] if sentence not in self.trouble]
        self.strays += data["strays"]

    @property
    def found(self) -> bool:
        """Whether there was any fault that counts."""
        return bool(self._faults or self.strays)

    def line(self) -> str:
        """The whole in one line."""
        faults = count_of(self._faults, "fault") if self._faults else "no faults"
        where = f" in {count_of(len(self._tests), 'test')}" if self._faults else ""
        blocks = [count_of(count, _BLOCKS[target]) for target, count in self.guarded.items() if count]
        return f"memprot: {faults}{where}; {', '.join(blocks) or 'nothing'} guarded"

    def details(self) -> list[str]:
        """Lines about what the one line does not say; none as a rule."""
        lines = [f"memprot: {sentence}" for sentence in self.trouble]
        if self.strays:
            lines.append("memprot: outside of every test:")
            lines += [line for text in self.strays for line in text.splitlines()]
        if self._passed:
            faults = count_of(len(self._passed), "fault")
            lines.append(
                f"memprot: {faults} failed no test (caught by it, expected to fail it, or let pass by a policy):"
            )
            lines += [f"  {line}" for line in self._passed]
        return lines
