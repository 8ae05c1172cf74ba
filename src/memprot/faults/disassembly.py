"""Machine code as text."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import capstone

__all__ = ["disassemble"]


def disassemble(code: bytes, address: int) -> str:
    """The first instruction of some machine code: disassembled where capstone is installed, else in hexadecimal.

    Without capstone nobody knows where the instruction ends, so all bytes are given.

    Args:
        code: of this machine, from the first byte of an instruction on.
        address: where it lies; what is relative to it is told as an address.

    >>> disassemble(b"", 0)
    ''
    """
    disassembler = _disassembler()
    if disassembler is not None:
        for _, _, mnemonic, operands in disassembler.disasm_lite(code, address, 1):
            return f"{mnemonic} {operands}".rstrip()
    return code.hex(" ")


_kept: capstone.Cs | None = None


def _disassembler() -> capstone.Cs | None:
    global _kept
    if _kept is None:
        try:
            # Here, because it is loaded only when somebody looks at an instruction, and need not be installed.
            import capstone
        except (ImportError, OSError):  # it is not installed, or no descriptor is left to load it by
            return None
        if platform.machine() == "x86_64":
            _kept = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        else:
            arm = getattr(capstone, "CS_ARCH_AARCH64", None)  # as version 6 calls it
            _kept = capstone.Cs(capstone.CS_ARCH_ARM64 if arm is None else arm, capstone.CS_MODE_ARM)
    return _kept
