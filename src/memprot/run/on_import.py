"""Doing something as soon as a module has been imported, and nothing when it never is."""

from __future__ import annotations

import sys

# What typing.TYPE_CHECKING stands for, without the modules that typing would bring into the program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["when_imported"]


def when_imported(names: Sequence[str], callback: Callable[[], object]) -> None:
    """Call back once, right after the first of some modules was executed; at once when one already was.

    The module's loader and spec are what they would have been, and after the call nothing is left in
    ``sys.meta_path``.

    Args:
        names: of the modules, any of which will do.
        callback: what it raises reaches whoever imports the module.

    Source: https://docs.python.org/3/reference/import.html, "The meta path".

    >>> when_imported(["sys"], lambda: print("it is there"))
    it is there
    """
    if any(name in sys.modules for name in names):
        callback()
    else:
        sys.meta_path.insert(0, _Finder(names, callback))


class _Finder:
    def __init__(self, names: Sequence[str], callback: Callable[[], object]) -> None:
        self.names = frozenset(names)
        self.callback = callback
        self.fired = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.names:
            return None
        # Those before have been asked; one of them may be another listener, who is asking.
        at = sys.meta_path.index(self) if self in sys.meta_path else -1
        for finder in sys.meta_path[at + 1 :]:
            find_spec = getattr(finder, "find_spec", None)
            if find_spec is None:
                continue
            spec: ModuleSpec | None = find_spec(name, path, target)
            if spec is not None:
                self._listen(spec)
                return spec
        return None

    def _listen(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        of_another_listener = vars(loader).get("exec_module")

        def exec_module(module: ModuleType) -> None:
            if of_another_listener is None:
                del loader.exec_module  # type: ignore[union-attr]
            else:
                loader.exec_module = of_another_listener  # type: ignore[union-attr, method-assign]
            loader.exec_module(module)  # type: ignore[union-attr]
            self._fire()

        loader.exec_module = exec_module  # type: ignore[union-attr, method-assign]

    def _fire(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if not self.fired:
            self.fired = True
            self.callback()
