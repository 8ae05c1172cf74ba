"""When a rule of memory is broken: the record of it, and how it is told."""
