"""Holds the model against the running kernel for as many random operations as asked; prints every disagreement.

    python -m tests.kernel.differential.long_run --operations 200000 --seed 1

A disagreement is printed with the shortest sequence that shows it, to be repeated by ``compare``.
"""

import argparse
import random
import sys
import time
from collections import Counter

from tests.kernel.differential.comparison import DisagreementError, compare, smallest
from tests.kernel.differential.kernel_side import kernel_side, worlds_here
from tests.kernel.differential.operations import Dice, World

SEQUENCE = 60
SEQUENCE_WHEN_FILLED = 400  # a process full of mappings takes long to make


def main() -> int:
    """Run, print, and return 1 when there was any disagreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=200_000, help="how many to compare (default %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="to repeat a run")
    parser.add_argument("--world", help="only this one")
    parser.add_argument("--most", type=int, default=5, help="stop after this many disagreements (default %(default)s)")
    options = parser.parse_args()

    worlds = list(worlds_here())
    if options.world:
        worlds = [world for world in worlds if world.name == options.world]
    print(f"seed {options.seed}; to repeat: --seed {options.seed} --operations {options.operations}", flush=True)
    compared: Counter[str] = Counter()
    disagreements = 0
    began = time.monotonic()
    with kernel_side() as kernel:
        sequence = 0
        while compared.total() < options.operations and disagreements < options.most:
            generator = random.Random(f"{options.seed} {sequence}")
            sequence += 1
            world = choose(generator, worlds)
            operations = Dice(generator, world).sequence(SEQUENCE if world.room is None else SEQUENCE_WHEN_FILLED)
            try:
                compare(kernel, world, operations)
            except DisagreementError as disagreement:
                disagreements += 1
                print(
                    f"disagreement {disagreements}: {smallest(kernel, world, operations) or disagreement}", flush=True
                )
            compared.update(operation.name for operation in operations)
    each = ", ".join(f"{name} {count}" for name, count in compared.most_common())
    print(f"{compared.total()} operations in {sequence} sequences compared in {time.monotonic() - began:.0f} s: {each}")
    print(f"{disagreements} disagreements")
    return 1 if disagreements else 0


def choose(generator: random.Random, worlds: list[World]) -> World:
    """One of them, the one that takes long to make seldom."""
    world = generator.choice(worlds)
    return world if world.room is None or generator.random() < 0.25 else generator.choice(worlds)


if __name__ == "__main__":
    sys.exit(main())
