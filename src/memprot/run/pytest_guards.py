"""What is guarded in a pytest session: by its options, and in one test by the test's markers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from memprot import guard
from memprot.guard.numpy import EXTENSIONS
from memprot.guard.settings import Settings as Checked
from memprot.run.on_import import when_imported
from memprot.run.options import GUARDS
from memprot.size import parse_part_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Guards", "Settings", "parse_guards", "parse_settings"]

Settings = dict[str, Any]
"""Keyword arguments of :func:`memprot.guard.enable`; what is not named is as the allocator has it."""


def parse_guards(text: str) -> tuple[str, ...]:
    """The names in a list of what to guard.

    Args:
        text: names with commas between them, ``all`` or ``none``.

    Raises:
        ValueError: a name that is none of them.

    >>> parse_guards("numpy,raw")
    ('numpy', 'raw')
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in (*GUARDS, "all", "none"):
            raise ValueError(
                f"nothing called {name!r} can be guarded; choose from {', '.join(GUARDS)}, several with commas, "
                "or all, or none"
            )
    return GUARDS if "all" in names else tuple(dict.fromkeys(name for name in names if name != "none"))


def parse_settings(given: Mapping[str, Any]) -> Settings:
    """How to guard, from options or from the arguments of a marker.

    Args:
        given: ``side``, ``sample``, ``align``, ``quarantine``, as text or as numbers; empty text and None say nothing.

    Raises:
        ValueError: a value that cannot be meant.

    >>> parse_settings({"side": "left", "sample": "10", "align": ""})
    {'sample': 10, 'side': 'left'}
    """
    said = {name: value for name, value in given.items() if value is not None and value != ""}
    settings: Settings = {name: _whole_number(name, said[name]) for name in ("sample", "align") if name in said}
    if "side" in said:
        settings["side"] = said["side"]
    if "quarantine" in said:
        settings["after_free"] = parse_part_of_memory(said["quarantine"])
    Checked.of("numpy", settings.get("side", "right"), settings.get("align"), settings.get("sample", 1))
    return settings


def _whole_number(name: str, value: object) -> int:
    if isinstance(value, bool) or not str(value).isdecimal():
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return int(str(value))


class Guards:
    """What is guarded now. NumPy's arrays are from when the tests import NumPy, and never make them do so.

    Args:
        wanted: how the session guards, by what.
        kept: what is guarded already by whoever started pytest, and how; it stays so at the end.

    Attributes:
        trouble: a sentence for each thing that could not be guarded.

    >>> guards = Guards({"numpy": {}}, {})
    >>> guards.start(); guards.stop()
    """

    def __init__(self, wanted: Mapping[str, Settings], kept: Mapping[str, Settings]) -> None:
        self.session = {**kept, **{target: {**kept.get(target, {}), **wanted[target]} for target in wanted}}
        self.trouble: list[str] = []
        self._kept = dict(kept)
        self._now = dict(kept)
        self._on = dict(kept)

    def start(self) -> None:
        """Guard what the session asks for.

        Raises:
            ValueError: something cannot be guarded, or not in this way.
            RuntimeError: something cannot be guarded in this process.
        """
        self.use(self.session)
        if "numpy" in self.session and not _numpy_is_loaded():
            when_imported(EXTENSIONS, self._numpy_has_come)

    def stop(self) -> None:
        """Leave everything as it was before the session."""
        self.use(self._kept)

    def use(self, wanted: Mapping[str, Settings]) -> None:
        """Guard exactly this from now on; live blocks stay as they are.

        Args:
            wanted: how, by what.

        Raises:
            ValueError: something cannot be guarded, or not in this way.
            RuntimeError: something cannot be guarded in this process.
        """
        self._now = dict(wanted)
        for target in [target for target in self._on if target not in wanted]:
            guard.disable(target)  # type: ignore[arg-type]
            del self._on[target]
        for target, settings in wanted.items():
            if self._on.get(target) != settings and (target != "numpy" or _numpy_is_loaded()):
                guard.enable(target, **settings)  # type: ignore[arg-type]
                self._on[target] = settings

    def counts(self) -> dict[str, int]:
        """How many blocks were guarded so far, by what they are.

        >>> Guards({}, {}).counts()
        {}
        """
        report = guard.report()
        return {target: _blocks(report[target]) for target in self.session if target in report}

    def _numpy_has_come(self) -> None:
        try:
            self.use(self._now)
        except Exception as error:  # noqa: BLE001 (an import in a test must not fail because of us)
            self.trouble.append(f"NumPy's arrays could not be guarded ({type(error).__name__}: {error})")


def _numpy_is_loaded() -> bool:
    return any(name in sys.modules for name in EXTENSIONS)


def _blocks(counts: Mapping[str, int]) -> int:
    names: Iterable[str] = ("arrays", "blocks")
    return next((counts[name] for name in names if name in counts), 0)
