"""Which of many frames is the program's own, and not the standard library's or an installed package's."""

import os
import site
import sys
import sysconfig
from collections.abc import Iterable

from memprot.faults.record import PythonFrame

__all__ = ["is_program_file", "path_in_library", "program_frame"]


def program_frame(frames: Iterable[PythonFrame]) -> PythonFrame | None:
    """The innermost frame outside the standard library and the installed packages.

    Args:
        frames: innermost first.

    Returns:
        That frame; None when every frame lies in a library.

    >>> import os
    >>> program_frame([PythonFrame(os.__file__, 1, "walk"), PythonFrame("/home/me/app.py", 12, "main")])
    PythonFrame(file='/home/me/app.py', line=12, function='main')
    """
    return next((frame for frame in frames if is_program_file(frame.file)), None)


def is_program_file(file: str) -> bool:
    """Whether a code object's file is the program's own; decided by its path.

    Args:
        file: as the code object has it. ``<string>`` and ``<stdin>`` are the program's; frozen modules
            are the standard library.

    >>> is_program_file("<frozen importlib._bootstrap>"), is_program_file("<string>")
    (False, True)
    """
    if file.startswith("<"):
        return not file.startswith(("<frozen ", "<__array_function__"))
    return not os.path.abspath(file).startswith(_library_folders())


def path_in_library(file: str) -> str | None:
    """The path of a file below the library's folder it was imported from; None for the program's own.

    Args:
        file: as a code object has it.

    >>> import json.decoder
    >>> path_in_library(json.decoder.__file__)
    'json/decoder.py'
    """
    if file.startswith("<"):
        return None
    path = os.path.abspath(file)
    folder = max((folder for folder in _library_folders() if path.startswith(folder)), key=len, default=None)
    return None if folder is None else path.removeprefix(folder)


_found: tuple[tuple[str, ...], tuple[str, ...]] | None = None


def _library_folders() -> tuple[str, ...]:
    global _found
    path = tuple(entry for entry in sys.path if isinstance(entry, str))
    if _found is None or _found[0] != path:
        _found = (path, tuple(sorted(_all_library_folders(path))))
    return _found[1]


def _all_library_folders(path: Iterable[str]) -> set[str]:
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    named = sysconfig.get_paths()
    folders = {
        own,
        os.path.dirname(os.path.abspath(os.__file__)),
        *(named[name] for name in ("stdlib", "platstdlib", "purelib", "platlib") if name in named),
        *site.getsitepackages(),
        *(entry for entry in path if os.path.basename(entry) in ("site-packages", "dist-packages")),
        # Where the standard library is a zip file or its extensions lie apart, only the path of import tells.
        *(entry for entry in path if os.path.basename(entry) == "lib-dynload" or entry.endswith(".zip")),
    }
    user = site.USER_SITE
    if user:
        folders.add(user)
    return {os.path.join(os.path.abspath(folder), "") for folder in folders}
