"""Valid files made wrong: what a damaged disk, another program or a stranger may leave in the place of one."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**30,
    2**63,
    float("nan"),
    float("inf"),
    1e308,
    0.5,
    "",
    "x" * 5000,
    "../../etc/passwd",
    "\u202e\x1b[31m\n",
    "\ud800",
    "9" * 5000,
    [],
    {},
    [[[]]],
    {"": {"": None}},
)
"""Values in the place of others."""

DEEP = "@deep@"
"""Stands for brackets nested too deep for any parser."""


def places(value: Any, front: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in members:
        yield (*front, key)
        yield from places(inner, (*front, key))


@st.composite
def wrong_json(draw: st.DrawFn, value: Any) -> bytes:
    """The bytes of a JSON file in which one or two values were replaced, taken away, or put in twice."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 2))):
        known = list(places(changed))
        if not known:
            break
        *path, key = draw(st.sampled_from(known))
        holder = changed
        for step in path:
            holder = holder[step]
        what = draw(st.sampled_from(("replace", "replace", "remove", "wrap", "deep")))
        if what == "remove":
            del holder[key]
        elif what == "deep":
            holder[key] = DEEP
        else:
            odd = copy.deepcopy(draw(st.sampled_from(ODD)))  # a second change may be inside it
            holder[key] = odd if what == "replace" else [holder[key]]
    text = json.dumps(changed, ensure_ascii=draw(st.booleans())).replace(f'"{DEEP}"', "[" * 3000 + "]" * 3000)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def wrong_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The file with some bits flipped, a part cut out, or a part of it twice."""
    damaged = bytearray(content)
    at = draw(st.integers(0, max(len(damaged) - 1, 0)))
    match draw(st.sampled_from(("flip", "cut", "insert", "double", "empty"))):
        case "flip":
            for _ in range(draw(st.integers(1, 3))):
                damaged[draw(st.integers(0, len(damaged) - 1))] ^= 1 << draw(st.integers(0, 7))
        case "cut":
            del damaged[at : at + draw(st.integers(1, len(damaged)))]
        case "insert":
            damaged[at:at] = draw(
                st.sampled_from((b"\xff\xfe", b"\x00", b"\xc3\x28", b"\n", b'"', b"[" * 3000))
            )
        case "double":
            damaged[at:at] = damaged[at : at + 40]
        case _:
            damaged.clear()
    return bytes(damaged)


def wrong_file(content: bytes) -> st.SearchStrategy[bytes]:
    """What may stand in the place of a JSON file."""
    return st.one_of(wrong_json(json.loads(content)), wrong_bytes(content))
