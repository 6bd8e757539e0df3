"""Every error a user can meet. One small tree: catch SeqmemError to catch them all.

SeqmemError
├── UsageError       a wrong name, option, value or file: exit 2, nothing written
│   └── Refused      a model on which the primary measure would be false
├── PluginError      a plugin that cannot be loaded or breaks the interface: names the distribution
├── CheckpointError  a checkpoint that cannot be read
├── RunFailed        a run that started and could not finish: recorded, the other runs go on
│   └── DiskFull     no room for what it writes: it goes on from its last checkpoint
└── NotApplicable    raised by a metric where a scenario has nothing for it to measure
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SeqmemError(Exception):
    """Base of all errors of this package; its text is written for the user."""


class UsageError(SeqmemError):
    """The request cannot be carried out as written."""


class Refused(UsageError):
    """The audit before the first step failed; nothing was trained."""


class PluginError(SeqmemError):
    """A plugin is missing, broken, duplicated or written for another API version."""


class CheckpointError(SeqmemError):
    """A checkpoint is missing or damaged."""


class RunFailed(SeqmemError):
    """Training started and cannot go on (NaN loss, out of memory)."""


class DiskFull(RunFailed):
    """There is no room for what a run writes; what it wrote before is whole."""


class NotApplicable(SeqmemError):
    """A metric's own answer to a record of a scenario that has nothing for it; it is left out of the table."""


def unknown(kind: str, name: str, allowed: Iterable[str]) -> str:
    """Return one line naming what was asked for, the nearest match and everything allowed."""
    names = sorted(allowed)
    folded = {one.casefold(): one for one in names}
    near = [folded[one] for one in difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Allowed: {', '.join(names) or 'none'}."
