"""pytest's door to memprot: ``pytest --memprot``. Without that option this file is all that is loaded of memprot.

It lies outside of the package because importing anything from the package starts the fault engine.
PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

_MARKERS = (
    "memprot(guard=..., side=..., sample=..., align=..., policy=...): how to guard this test, other than by --memprot",
    "no_memprot: a test in which --memprot guards nothing new, and no fault is a failure",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("memprot", "memory faults found by memprot")
    guards = "numpy (alone: the same), raw, mem, obj, malloc, several with commas, all, or none"
    group.addoption(
        "--memprot",
        nargs="?",
        const="numpy",
        metavar="GUARDS",
        help=f"guard memory, and fail each test that breaks it with a report of how: {guards}",
    )
    parser.addini("memprot", f"what --memprot guards when it is not given: {guards}", default="none")
    for name, what in (
        ("side", "which end of a guarded block lies at a guard: right, left, random or turns"),
        ("sample", "guard one block of so many"),
        ("align", "the address of each guarded block is a multiple of it"),
        ("quarantine", "how many bytes of freed blocks stay inaccessible, such as 64MiB"),
    ):
        group.addoption(f"--memprot-{name}", metavar=name.upper(), help=what)
        parser.addini(f"memprot_{name}", f"{what} (--memprot-{name})", default="")
    files = "a file that says which faults nobody is to hear of; may be given several times"
    group.addoption("--memprot-suppressions", metavar="FILE", action="append", help=files)
    parser.addini("memprot_suppressions", "files that say which faults nobody is to hear of", type="paths", default=[])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    # First of all: before conftest files make arrays, and before standard error is captured.
    _keep_what_follows(early_config, parser, args)
    given = early_config.known_args_namespace
    guards = early_config.getini("memprot") if given.memprot is None else given.memprot
    if guards != "none" and not given.help:
        from memprot.run import pytest_plugin

        pytest_plugin.start(early_config, guards)
    return (yield)


def _keep_what_follows(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Have ``--memprot tests`` run the folder, where argparse would take it for what is to be guarded."""
    end = args.index("--") if "--" in args else len(args)
    alone = [at for at, argument in enumerate(args[:end]) if argument == "--memprot"]
    for at in alone:
        args[at] = "--memprot=numpy"
    if alone:
        early_config.known_args_namespace = parser.parse_known_args(args, namespace=copy(early_config.option))


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
