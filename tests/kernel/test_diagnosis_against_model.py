"""What errors say of a failure (`.reason .start .stop .applied`) is what the model says of the same failure."""

import os
import pickle
import platform
from collections import Counter
from multiprocessing import Pipe

import pytest

from tests.kernel.compare_diagnosis import Comparison, compare

SEQUENCES, SEQUENCES_OF_FUZZING = 150, 8000
# What every run meets often; that it was compared at all has to be certain.
MET = {"hole", "occupied", "misaligned", "unknown_flags", "bad_argument", "deny_write_execute"}


def in_a_child(seed: int) -> Comparison:
    ours, theirs = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        ours.close()
        try:
            theirs.send_bytes(pickle.dumps(compare(seed)))
        except BaseException as error:
            theirs.send_bytes(pickle.dumps(Comparison(differences=[f"seed {seed}: {error!r}"])))
        os._exit(0)
    theirs.close()
    try:
        result = pickle.loads(ours.recv_bytes())
    except EOFError:
        result = Comparison(differences=[f"seed {seed}: the child died"])
    ours.close()
    os.waitpid(child, 0)
    assert isinstance(result, Comparison)
    return result


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the model is held against the kernel on x86-64 only")
def test_an_error_says_what_the_error_of_the_model_says(fuzzing: bool, fuzz_seed: int) -> None:
    failures: Counter[str] = Counter()
    differences: list[str] = []
    seeds = range(fuzz_seed, fuzz_seed + SEQUENCES_OF_FUZZING) if fuzzing else range(SEQUENCES)
    for seed in seeds:
        result = in_a_child(seed)
        failures += result.failures
        differences += result.differences
    print(f"{failures.total()} failures compared: {dict(failures)}")
    assert not differences, f"{len(differences)} differences\n" + "\n".join(differences[:5])
    assert set(failures) >= MET
    assert failures.total() > 5 * len(seeds)
