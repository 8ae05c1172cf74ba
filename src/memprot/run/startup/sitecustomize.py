"""What Python runs before the program, because ``memprot run`` put this folder first on PYTHONPATH.

It hides its traces, starts memprot, and lets the sitecustomize that Python would have run take its place.
"""

import os
import sys


def _hide(here: str) -> str | None:
    """Make ``os.environ`` and ``sys.path`` what they would be; what the launcher left for us."""
    if here in sys.path:
        sys.path.remove(here)
    sys.path_importer_cache.pop(here, None)
    if "MEMPROT_FOLLOW" in os.environ:  # what this process starts is to find them as well
        return os.environ.get("MEMPROT_RUN")
    activation = os.environ.pop("MEMPROT_RUN", None)
    former = os.environ.pop("MEMPROT_RUN_PYTHONPATH", None)
    if activation is not None:
        if former is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = former
        _hide_library()
    return activation


def _hide_library() -> None:
    first, _, rest = os.environ.get("LD_PRELOAD", "").partition(":")
    if os.path.basename(first) == "libmemprot_malloc.so":
        if rest:
            os.environ["LD_PRELOAD"] = rest
        else:
            del os.environ["LD_PRELOAD"]


def _load_memprot(package: str) -> None:
    """Load the package this file is a part of, wherever it lies, without a trace in ``sys.path``."""
    if "memprot" in sys.modules:
        return
    # Frozen into every Python and always loaded; importlib.util would bring modules along.
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import PathFinder

    spec = PathFinder.find_spec("memprot", [os.path.dirname(package)])
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no memprot in {os.path.dirname(package)}")
    module = module_from_spec(spec)
    sys.modules["memprot"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["memprot"]
        raise


def _start(activation: str, package: str) -> None:
    try:
        _load_memprot(package)
        from memprot.run import program

        program.start(activation)
    except Exception as error:  # noqa: BLE001 (the program runs whatever happens to us)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if sys.stderr is not None:
            print(f"memprot: could not start, so the program runs unguarded ({reason}).", file=sys.stderr)


_folder = os.path.dirname(os.path.abspath(__file__))
_activation = _hide(_folder)
# Gone before the next import looks for it: where there is another, it is that one the program sees.
sys.modules.pop("sitecustomize", None)
if _activation is not None:
    _start(_activation, os.path.dirname(os.path.dirname(_folder)))

# Where there is none, the ImportError is what Python expects of a sitecustomize that is not there.
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
