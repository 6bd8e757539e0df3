"""Measures every bar and prints one table: `make perf`. Exit code 1 where one is not kept to."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import strategies


def main(only: list[str]) -> int:
    """Measure the bars of all strategies and of the metrics, or of those named.

    Raises:
        SystemExit: a name that has no bars.
    """
    torch.set_num_threads(1)
    names = [found.name for found in pkgutil.iter_modules(strategies.__path__) if found.name != "bar"]
    modules = {name: f"benchmarks.strategies.{name}" for name in names} | {"metrics": "benchmarks.metrics"}
    strange = sorted(set(only) - set(modules))
    if strange:
        raise SystemExit(f"no bars of {', '.join(strange)}; there are: {', '.join(modules)}")
    table = Table("bar", "figure", "limit", "kept", "note")
    missed = 0
    for name in only or modules:
        print(f"measuring {name}", file=sys.stderr)
        for bar in importlib.import_module(modules[name]).bars():
            missed += not bar.reached
            table.add_row(
                bar.name,
                f"{bar.figure:.4g}",
                f"{bar.kind} {bar.limit:.4g}",
                "yes" if bar.reached else "NO",
                bar.note,
            )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
