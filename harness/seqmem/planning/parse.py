"""First step of planning: the texts of a request, taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmem.core.errors import UsageError
from seqmem.core.options import Scope, Sweep, parse_assignments, parse_seeds, parse_sweep
from seqmem.planning.request import Request
from seqmem.planning.search import Search, read_search


@dataclass(frozen=True)
class Parsed:
    """A request, taken apart.

    Attributes:
        options: option values by scope and name; `--optimizer` and `--lr` are among those of the optimizer.
        sweeps: options swept by the user.
        searches: what `Request.tuned` names, by path as typed.
    """

    request: Request
    seeds: tuple[int, ...]
    options: Mapping[Scope, Mapping[str, Any]]
    sweeps: tuple[Sweep, ...]
    searches: Mapping[str, Search]


def parse(request: Request) -> Parsed:
    """Take a request apart.

    Raises:
        UsageError: a text is not of its form, an option or name is given twice, or a search cannot be read.
    """
    distinct(request.scenario, "--scenario")
    distinct(request.strategy, "--strategy")
    seeds = parse_seeds(request.seeds)
    options = parse_assignments(request.set)
    flags = {"name": request.optimizer, "lr": request.lr}
    given = {name: value for name, value in flags.items() if value is not None}
    options["optimizer"] = given | options["optimizer"]
    sweeps = tuple(map(parse_sweep, request.sweep))
    for sweep in sweeps:
        if sweep.scope == "text":
            raise UsageError("--sweep takes options of scenario, strategy or optimizer, not of text")
    distinct([f"{sweep.scope}.{sweep.name}" for sweep in sweeps], "--sweep", needed=False)
    searches = {path: read_search(Path(path)) for path in request.tuned}
    return Parsed(request, seeds, options, sweeps, searches)


def distinct(names: Sequence[str], option: str, needed: bool = True) -> None:
    """Refuse a name that is given twice, and none at all.

    Raises:
        UsageError: a name is given twice, or none is where one is needed.
    """
    if needed and not names:
        raise UsageError(f"{option} is needed at least once")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{option} {name} is given twice")
