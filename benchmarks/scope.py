"""Opening and closing a scope that catches nothing, against the emptiest object a ``with`` statement takes."""

from measure import Row, interleaved

from memprot import catch_faults

SCOPES = 20_000
RUNS = 41


class Nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def ours() -> None:
    for _ in range(SCOPES):
        with catch_faults():
            pass


def theirs() -> None:
    for _ in range(SCOPES):
        with Nothing():
            pass


def rows() -> list[Row]:
    # Handlers are installed when the first of several scopes opens, and stay while one of them is open.
    with catch_faults():
        inner, empty, _ = interleaved(ours, theirs, RUNS)
    outer, empty_again, _ = interleaved(ours, theirs, RUNS)
    return [
        Row("catch_faults() with nothing to catch, in an open scope", inner / SCOPES, empty / SCOPES, None),
        Row("the outermost catch_faults() with nothing to catch", outer / SCOPES, empty_again / SCOPES, None),
    ]


if __name__ == "__main__":
    from measure import show

    show(rows())
