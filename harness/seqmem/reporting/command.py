"""From a stored request back to the command line that makes the same runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from seqmem.planning.request import PYTHON_ONLY

_SWITCHED_OFF = ("reference", "controls")
"""Fields that are on unless ``--no-...`` says otherwise."""


def command_line(asked: Mapping[str, Any]) -> str:
    """Return the command that asks for the same runs, quoted for a POSIX shell.

    Args:
        asked: what differs from the defaults, as `Request.asked` gives it and records keep it; of a mapping,
            such as the searches by file, the names were typed.

    Returns:
        ``seqmem bench ...``, or a call of `seqmem.bench` where the command line cannot say it.
    """
    if any(name in asked for name in PYTHON_ONLY):
        given = ", ".join(f"{name}={asked[name]!r}" for name in sorted(asked))
        return f"import seqmem; seqmem.bench({given})"
    first = [name for name in ("scenario", "strategy", "model", "preset", "seeds") if name in asked]
    rest = sorted(asked.keys() - set(first))
    words = [word for name in (*first, *rest) for word in _words(name, asked[name])]
    return shlex.join(["seqmem", "bench", *words])


def _words(name: str, value: Any) -> Iterator[str]:
    flag = f"--{name.replace('_', '-')}"
    if name in _SWITCHED_OFF:
        if not value:
            yield f"--no-{name}"
    elif isinstance(value, bool):
        if value:
            yield flag
    else:
        for one in value if isinstance(value, list | tuple | Mapping) else [value]:
            # a value that begins with a dash would be read as a flag of its own
            yield from [f"{flag}={one}"] if str(one).startswith("-") else [flag, str(one)]
