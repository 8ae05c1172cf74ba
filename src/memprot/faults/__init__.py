"""When a rule of memory is broken (floor 3)."""
