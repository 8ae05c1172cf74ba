"""The model does what the running kernel does, whatever is asked of both.

``long_run.py`` (``make fuzz``) does the same for as long as one likes.
"""

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.kernel.differential.comparison import Comparison, smallest
from tests.kernel.differential.kernel_side import KernelSide, worlds_here
from tests.kernel.differential.operations import Dice, World

SEQUENCES, STEPS = 50, 50

dice = st.randoms(note_method_calls=False, use_true_random=True)
quickly_made = [world for world in worlds_here() if world.room is None]


def test_the_model_and_the_kernel_agree_on_random_operations(kernel: KernelSide) -> None:
    class Operations(RuleBasedStateMachine):
        comparison: Comparison
        world: World

        @initialize(world=st.sampled_from(quickly_made), random=dice)
        def begin(self, world: World, random: Random) -> None:
            self.world = world
            self.comparison = Comparison(kernel, world)
            self.comparison.perform(Dice(random, world).sequence(1))

        @rule(random=dice)
        def operation(self, random: Random) -> None:
            self.comparison.perform([Dice(random, self.world).operation()])

        def teardown(self) -> None:
            kernel.end()

    run_state_machine_as_test(
        Operations,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("world", worlds_here(), ids=lambda world: world.name)
def test_the_model_and_the_kernel_agree_in_every_world(kernel: KernelSide, world: World) -> None:
    for seed in range(4):
        disagreement = smallest(kernel, world, Dice(Random(seed), world).sequence(100))
        if disagreement is not None:
            raise disagreement
