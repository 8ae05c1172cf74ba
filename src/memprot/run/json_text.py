"""JSON without the modules that json would bring into a program that did not ask for them."""

from __future__ import annotations

# The function json.dumps writes its strings with.
from _json import encode_basestring_ascii

# What typing.TYPE_CHECKING stands for, without the modules that typing would bring into the program.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from memprot.faults.document import Json

__all__ = ["json_text"]


def json_text(value: Json) -> str:
    """The JSON text of a value, in ASCII, as ``json.dumps`` would write it.

    Args:
        value: of None, bool, int, str, and of lists and dicts with str keys of these.

    Raises:
        TypeError: for anything else.

    >>> json_text({"size": None, "stack": [1, "a\\n"]})
    '{"size": null, "stack": [1, "a\\\\n"]}'
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, list):
        return f"[{', '.join(map(json_text, value))}]"
    if isinstance(value, dict):
        members = [f"{encode_basestring_ascii(key)}: {json_text(one)}" for key, one in value.items()]
        return f"{{{', '.join(members)}}}"
    raise TypeError(f"{type(value).__name__} has no form in JSON")
