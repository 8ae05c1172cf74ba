"""Linux memory protection in Python: the public face."""

from memprot.calls import mprotect
from memprot.errors import ProtectionError
from memprot.prot import PAGE_SIZE, Prot
from memprot.space.mapping import Mapping
from memprot.space.maps import AddressSpace

__all__ = ["PAGE_SIZE", "AddressSpace", "Mapping", "Prot", "ProtectionError", "mprotect"]
