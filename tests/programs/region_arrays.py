"""A plugin of pytest: arrays that NumPy's tests make are of the type that the arrays of Regions have."""

import sys
from collections.abc import Callable
from typing import Any

import numpy

from memprot import Region

KIND = type(Region(8).array("u1"))
MAKERS = ("array", "arange", "zeros", "ones", "empty", "full")


def as_if_of_a_region(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **keywords: Any) -> Any:
        array = make(*args, **keywords)
        return array.view(KIND) if type(array) is numpy.ndarray and not array.dtype.hasobject else array

    return made


def pytest_collection_finish() -> None:
    for name in MAKERS:
        make = as_if_of_a_region(getattr(numpy, name))
        for module in [numpy, *sys.modules.values()]:
            if module is numpy or (module.__name__.startswith("numpy._core.tests") and hasattr(module, name)):
                setattr(module, name, make)
