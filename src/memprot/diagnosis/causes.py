"""Which function finds the cause of which call's failure."""

from typing import TYPE_CHECKING, Any

from memprot.diagnosis.keys import key_cause, pkey_alloc_cause
from memprot.diagnosis.protection import mprotect_cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from memprot.diagnosis.refusal import Refusal

__all__ = ["CAUSES"]

CAUSES: "dict[str, Callable[..., Refusal | None]]" = {
    "mprotect": mprotect_cause,
    "pkey_mprotect": mprotect_cause,
    "pkey_alloc": pkey_alloc_cause,
    "pkey_free": key_cause,
    "pkey_get": key_cause,
    "pkey_set": key_cause,
}
"""By the call's name; each takes the errno and the call's arguments."""
