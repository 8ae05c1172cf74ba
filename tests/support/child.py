"""What child programs say of refusals, and how it is read."""

from subprocess import CompletedProcess

REFUSED = """
def refused(do):
    try:
        do()
    except ProtectionError as error:
        return error.errno, error.reason and error.reason.value
    return None

"""
"""A function for a child program that has imported ProtectionError."""


def lines(done: CompletedProcess[str]) -> list[str]:
    """What a child program printed, one that ended well."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()
