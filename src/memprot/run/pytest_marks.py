"""``@pytest.mark.memprot(...)`` and ``@pytest.mark.no_memprot``: what one test wants otherwise than its session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import memprot._native as _native
from memprot.run.pytest_guards import parse_guards, parse_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from memprot.run.pytest_guards import Settings

__all__ = ["Wish", "wish_of"]

_ARGUMENTS = ("guard", "side", "sample", "align", "policy")


class Wish(NamedTuple):
    """How one test is to be run.

    Attributes:
        guards: how what is to be guarded.
        policy: what becomes of the test's faults, as :class:`memprot.catch_faults` takes it; None where no fault is to
            be a failure.

    >>> Wish({}, None).policy is None
    True
    """

    guards: Mapping[str, Settings]
    policy: Any


def wish_of(item: pytest.Item, session: Mapping[str, Settings]) -> Wish:
    """What the markers of a test, its class and its module ask for; the nearer one counts.

    Args:
        item: the test.
        session: how the session guards, by what.

    Raises:
        ValueError: a marker cannot be meant; one sentence that names the test.

    >>> from types import SimpleNamespace
    >>> wish_of(SimpleNamespace(iter_markers=lambda: []), {"numpy": {}})
    Wish(guards={'numpy': {}}, policy='raise')
    """
    arguments: dict[str, Any] = {}
    off = False
    for marker in reversed([marker for marker in item.iter_markers() if marker.name in ("memprot", "no_memprot")]):
        off = marker.name == "no_memprot"
        try:
            arguments.update(_arguments(marker))
        except ValueError as error:
            raise ValueError(f"{item.nodeid}: the marker {marker.name!r}: {error}") from error
    if off:
        return Wish({}, None)
    guards, policy = arguments.pop("guard", None), arguments.pop("policy", "raise")
    settings = parse_settings(arguments)
    targets = session if guards is None else guards
    return Wish({target: {**session.get(target, {}), **settings} for target in targets}, policy)


def _arguments(marker: pytest.Mark) -> dict[str, Any]:
    known = _ARGUMENTS if marker.name == "memprot" else ()
    unknown = sorted(set(marker.kwargs) - set(known))
    if marker.args or unknown:
        what = repr(marker.args[0]) if marker.args else f"{unknown[0]}="
        takes = f"only {', '.join(f'{name}=' for name in known)}" if known else "no arguments"
        raise ValueError(f"it takes {takes}, and was given {what}")
    arguments = dict(marker.kwargs)
    guards = arguments.get("guard")
    if guards is not None:
        arguments["guard"] = parse_guards(guards if isinstance(guards, str) else ",".join(guards))
    policy = arguments.get("policy", "raise")
    if not callable(policy):
        _native.policy_number(policy)
    parse_settings({name: value for name, value in arguments.items() if name not in ("guard", "policy")})
    return arguments
