"""The ``memprot`` command: one file for each of its commands, with no mechanism in them."""
