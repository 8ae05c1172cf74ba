"""The kernel's rules of memory protection as plain Python, to read, to try out, and to check a kernel against.

>>> from memprot import Prot
>>> from memprot.flags import MapFlag
>>> from memprot.model import AddressSpace
>>> space = AddressSpace()
>>> start = space.mmap(0, 3 * 4096, Prot("rw-"), MapFlag.PRIVATE | MapFlag.ANONYMOUS)
>>> space.mprotect(start + 4096, 4096, Prot("r--"))
>>> [mapping.permissions for mapping in space.mappings]
['rw-p', 'r--p', 'rw-p']
>>> space.access(start + 4096, "write").code
'SEGV_ACCERR'
"""

from memprot.model.access import Access
from memprot.model.address_space import AddressSpace
from memprot.model.file import File
from memprot.model.keys import Thread
from memprot.model.mapping import Mapping
from memprot.model.page_tables import Entry, Walk

__all__ = ["Access", "AddressSpace", "Entry", "File", "Mapping", "Thread", "Walk"]
