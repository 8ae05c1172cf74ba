"""Programs that provoke every failure of the memory calls that docs/errors.md lists, each in a process of its own."""

from tests.kernel.provocations import locking, placing, protection
from tests.kernel.provocations.case import Case, Outcome

CASES: list[Case] = [*protection.CASES, *placing.CASES, *locking.CASES]

__all__ = ["CASES", "Case", "Outcome"]
