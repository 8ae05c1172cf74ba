"""Reading an address space: ours or another process's."""
