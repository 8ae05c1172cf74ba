"""Why a memory system call fails, and whether one would: what the kernel does not say, found out afterwards."""
