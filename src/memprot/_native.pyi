"""The manual of memprot's C extension: what crosses between C and Python, with no policy in it."""

def try_features() -> tuple[tuple[str, bool, int, str | None, int, int], ...]:
    """Try each kernel and CPU feature once, in a child process made for it.

    Returns:
        One ``(name, available, errno, step, signal, value)`` for each feature: ``errno`` of the ``step``
        that failed (0 when it was accepted and yet changed nothing), the ``signal`` that killed the child
        during the trial (or 0), and the ``value`` the trial counted where a feature is a number.

    Raises:
        OSError: the page shared with the child could not be mapped.

    Source: libmemprot/feature.h.

    >>> from memprot import _native
    >>> name, available, *_ = _native.try_features()[0]
    >>> name, available
    ('mprotect', True)
    """
