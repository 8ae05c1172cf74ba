"""``python -m memprot`` is the command ``memprot``."""

from memprot.cli.main import main

if __name__ == "__main__":
    main("python -m memprot")
