"""Which function finds the cause of which call's failure."""

from typing import TYPE_CHECKING

from memprot.diagnosis.advising import (
    madvise_cause,
    mapped_range_cause,
    msync_cause,
    process_madvise_cause,
    set_name_cause,
)
from memprot.diagnosis.files import memfd_create_cause, memfd_secret_cause, shared_memory_cause
from memprot.diagnosis.keys import key_cause, pkey_alloc_cause, rights_cause
from memprot.diagnosis.locking import mlock_cause, mlockall_cause, mseal_cause
from memprot.diagnosis.moving import mremap_cause
from memprot.diagnosis.placing import brk_cause, mmap_cause, munmap_cause, sbrk_cause
from memprot.diagnosis.protection import mprotect_cause
from memprot.diagnosis.settings import (
    get_mempolicy_cause,
    mbind_cause,
    move_pages_cause,
    policy_cause,
    set_mdwe_cause,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from memprot.diagnosis.refusal import Refusal

__all__ = ["CAUSES"]

CAUSES: "dict[str, Callable[..., Refusal | None]]" = {
    "brk": brk_cause,
    "get_mempolicy": get_mempolicy_cause,
    "madvise": madvise_cause,
    "mbind": mbind_cause,
    "memfd_create": memfd_create_cause,
    "memfd_secret": memfd_secret_cause,
    "mincore": mapped_range_cause,
    "mlock": mlock_cause,
    "mlock2": mlock_cause,
    "mlockall": mlockall_cause,
    "mmap": mmap_cause,
    "move_pages": move_pages_cause,
    "mprotect": mprotect_cause,
    "mremap": mremap_cause,
    "mseal": mseal_cause,
    "msync": msync_cause,
    "munlock": mlock_cause,
    "munmap": munmap_cause,
    "pkey_alloc": pkey_alloc_cause,
    "pkey_free": key_cause,
    "pkey_get": rights_cause,
    "pkey_mprotect": mprotect_cause,
    "pkey_set": rights_cause,
    "process_madvise": process_madvise_cause,
    "sbrk": sbrk_cause,
    "set_mdwe": set_mdwe_cause,
    "set_mempolicy": policy_cause,
    "set_name": set_name_cause,
    "shm_open": shared_memory_cause,
    "shm_unlink": shared_memory_cause,
}
"""By the call's name; each takes the errno and the call's arguments."""
