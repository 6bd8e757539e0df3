"""Measure all cases, or those named, and print the table: `make calibrate`.

Figures are kept in `results.json` beside this file, case by case, so that one metric's cases can be measured
anew; `--write` makes the page from all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.calibration.benches import (
    SEEDS,
    Rate,
    Result,
    as_json,
    from_json,
    result,
    runs,
    verdicts,
    versions,
)
from benchmarks.calibration.cases import CASES
from benchmarks.calibration.page import page

RESULTS = Path(__file__).with_name("results.json")
_CHUNK = 40


def load() -> dict[str, dict[str, object]]:
    """Return the stored results by case."""
    stored: dict[str, dict[str, object]] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    return {name: stored[name] for name in CASES if name in stored}


def results_of(stored: Mapping[str, Mapping[str, object]]) -> Mapping[str, Sequence[Result]]:
    """The results of every case measured so far."""
    found = {}
    for name, case in stored.items():
        listed = case["results"]
        assert isinstance(listed, list)
        found[name] = [from_json(one) for one in listed]
    return found


def measure(names: Sequence[str], benches: int, workers: int) -> Iterator[tuple[str, list[Result], float]]:
    """Run the cases one after the other; (case, its results, seconds) as they are done."""
    with ProcessPoolExecutor(workers) as pool:
        for name in names:
            start, count = time.perf_counter(), benches * min(SEEDS)
            firsts = range(0, count, _CHUNK)
            parts = [pool.submit(runs, name, first, min(_CHUNK, count - first)) for first in firsts]
            found = [one for part in parts for one in part.result()]
            claims = [result(claim, found) for claim in CASES[name].claims()]
            yield name, claims, time.perf_counter() - start


def _share(rate: Rate) -> str:
    return "-" if rate.share is None else f"{100 * rate.share:.1f}±{100 * rate.error:.1f}"


def printed(name: str, found: Sequence[Result]) -> Table:
    """One case as a table for the terminal."""
    columns = [f"{what} {seeds}" for what in ("covered", "fires") for seeds in SEEDS]
    table = Table(
        "measure",
        "must",
        "truth",
        "mean",
        "SD",
        "without",
        *columns,
        "verdict",
        title=name,
        title_justify="left",
    )
    for one in found:
        seen = [one.by_seeds[seeds] for seeds in SEEDS if seeds in one.by_seeds]
        shares = [*(_share(each.covered) for each in seen), *(_share(each.fired) for each in seen)]
        verdicts_text = ", ".join(f"{seeds}: {verdict}" for seeds, verdict in verdicts(one).items())
        table.add_row(
            one.measure,
            one.kind,
            f"{one.truth:.3f}",
            "-" if one.mean is None else f"{one.mean:.3f}±{one.error:.3f}",
            f"{one.sd:.3f}",
            f"{100 * one.missing:.0f} %",
            *shares,
            verdicts_text,
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the page where one is named; 1 where a bar is missed.

    Raises:
        SystemExit: no such case, or too few benches.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--benches", type=int, default=1000, help="a case has three runs per bench (1000)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="CASE", help="a case, or how its name begins"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page, and keep the figures")
    chosen = parser.parse_args(arguments)
    names = [name for name in CASES if not chosen.only or name.startswith(tuple(chosen.only))]
    if not names:
        parser.error(f"no case begins with {' or '.join(chosen.only)}; there are: {', '.join(CASES)}")
    if chosen.benches < 30:
        parser.error(f"--benches {chosen.benches}: at least 30, a bench of 8 seeds in every block")
    console, missed = Console(width=None if sys.stdout.isatty() else 200), 0
    for name, found, seconds in measure(names, chosen.benches, chosen.workers):
        console.print(printed(name, found), f"{seconds:.0f} s\n")
        missed += sum(verdict == "missed" for one in found for verdict in verdicts(one).values())
        if chosen.write:
            stored = load()
            stored[name] = {
                "runs": chosen.benches * min(SEEDS),
                "versions": dict(versions(name)),
                "results": [as_json(one) for one in found],
            }
            ordered = {each: stored[each] for each in CASES if each in stored}
            RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
            chosen.write.write_text(page(ordered, results_of(load())), encoding="utf-8")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
