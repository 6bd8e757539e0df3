"""Compute the figures of a published board's verdicts, gates and ranks, and of a dozen measures, from its records.

No code of the package is used: only the formats of records (docs/records.md, docs/leaderboards.md) and the formulas of
docs/metrics and docs/how-to-read-a-row.md are taken from elsewhere. Run by hand:

    python tests/recompute.py leaderboards/memory_loops-v2
"""

from __future__ import annotations

import io
import itertools
import json
import re
import sys
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

Run = dict[str, object]
Values = dict[str, tuple[float, int]]
"""Measure to its value in a run and the items behind it."""

UNITS = {
    "retention": "share",
    "task_recall": "share",
    "learning_accuracy": "share",
    "average_accuracy": "share",
    "twin_recall": "share",
    "backward_transfer": "fraction",
    "general_ability": "nats/token",
    "rest_loss": "nats/token",
    "retention.graded": "nats/token",
    "cost": "tokens",
    "cost.steps": "steps",
}
LOWER = ("twin_recall", "general_ability", "rest_loss", "cost", "cost.steps")
PRIMARY = {"memory_loops": "retention", "freeze_loops": "task_recall"}
MARGIN = 0.05


# -- records ------------------------------------------------------------------------------------------------


def read(board: Path) -> Iterator[Run]:
    """Every finished run of the board that is no control, its tables as data frames."""
    shared = zipfile.ZipFile(board / "items.zip")
    seeds: dict[tuple[str, int], Run] = {}
    for path in sorted((board / "records").glob("*.zip")):
        archive = zipfile.ZipFile(path)
        for name in archive.namelist():
            if not name.endswith("/run.json"):
                continue
            info = json.loads(archive.read(name))
            if "-shuffled-" in name:
                continue
            folder = name.removesuffix("run.json")
            tables = {
                table: parquet(archive, f"{folder}{table}.parquet")
                for table in ("probes", "experiences", "exposures", "steps")
            }
            items = parquet(shared, f"items-{info['items']}.parquet")
            strategy, seed = info["recipe"]["strategy"]["name"], info["recipe"]["seed"]
            seeds[strategy, seed] = {
                "info": info,
                "strategy": strategy,
                "seed": seed,
                "items": items,
                **tables,
            }
    yield from seeds.values()


def parquet(archive: zipfile.ZipFile, name: str) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(archive.read(name)))


# -- the values of one run ----------------------------------------------------------------------------------


def values_of(run: Run) -> Values:
    info, items = run["info"], run["items"]
    probes, experiences = run["probes"], run["experiences"]
    assert isinstance(info, dict) and isinstance(items, pd.DataFrame)
    assert isinstance(probes, pd.DataFrame) and isinstance(experiences, pd.DataFrame)
    columns = ["probe", "fact", "twin_of", "relation", "cue", "task_label", "task_known"]
    table = probes.merge(items[columns], on="probe")
    one_of_several = info.get("design", {}).get("recall") == "forced_choice"
    competes = table["probe"].map(items.set_index("probe")["choices"].map(len)) > 0
    table["right"] = table["correct"]
    if one_of_several:
        table.loc[competes, "right"] = table["logprob"] > table["best_other"]
    named = table["schedule"].map(lambda said: said.split("+") if isinstance(said, str) else list(said))
    begins = int(experiences.loc[experiences["phase"] == "rest", "first_step"].min())
    ends = int((experiences["first_step"] + experiences["steps"]).max())
    bare = (table["relation"] == info["primary_relation"]) & (table["cue"] == "none") & ~table["task_known"]
    boundary = table[bare & named.map(lambda names: "boundary" in names)].drop_duplicates(["step", "probe"])
    facts, twins = boundary[boundary["twin_of"].isna()], boundary[boundary["twin_of"].notna()]
    found: Values = {}
    exposures, steps = run["exposures"], run["steps"]
    assert isinstance(exposures, pd.DataFrame) and isinstance(steps, pd.DataFrame)

    def recall(step: int, label: object = None) -> float:
        rows = facts[(facts["step"] == step) & (facts["task_label"].notna())]
        rows = rows if label is None else rows[rows["task_label"] == label]
        return float(rows["right"].mean())

    count = int(facts["fact"].nunique())
    trained = facts[(facts["step"] == ends) & facts["fact"].isin(exposures["fact"].unique())]
    found["retention"] = float(trained["right"].mean()), int(trained["fact"].nunique())
    loss = -trained.set_index("fact")["logprob"] / trained.set_index("fact")["tokens"]
    asked = twins[twins["step"] == ends].set_index("twin_of")
    beside = -asked["logprob"] / asked["tokens"]
    over = (beside - loss).dropna()
    found["retention.graded"] = float(over.mean()), len(over)
    asked_twins = twins[twins["step"] == begins]
    found["twin_recall"] = float(asked_twins["right"].mean()), int(asked_twins["fact"].nunique())
    labels = sorted(facts["task_label"].dropna().unique())
    found["average_accuracy"] = float(np.mean([recall(ends, label) for label in labels])), count
    found["task_recall"] = float(np.mean([recall(begins, label) for label in labels])), count
    visits = experiences[experiences["phase"].isin(["loop", "task"]) & experiences["task_label"].notna()]
    last = (visits["first_step"] + visits["steps"]).groupby(visits["task_label"]).max()
    if set(labels) <= set(last.index):
        own = {label: recall(int(last[label]), label) for label in labels}
        found["learning_accuracy"] = float(np.mean(list(own.values()))), count
        before = [label for label in labels if last[label] < ends]
        lost = [recall(ends, label) - own[label] for label in before]
        found["backward_transfer"] = float(np.mean(lost)), count
    for measure, schedule, at in (
        ("general_ability", "general", (0, ends)),
        ("rest_loss", "rest_text", (ends,)),
    ):
        rows = table[(table["relation"] == "general") & named.map(lambda names, s=schedule: s in names)]
        if len(rows):
            sums = rows.drop_duplicates(["step", "probe"]).groupby("step")[["logprob", "tokens"]].sum()
            losses = [-sums["logprob"][step] / sums["tokens"][step] for step in at]
            found[measure] = (
                float(losses[-1] - (losses[0] if len(at) == 2 else 0)),
                int(rows["fact"].nunique()),
            )
    idle = set(experiences.loc[experiences["trains"] == "none", "experience"])
    counted = steps[~steps["experience"].isin(idle)]
    found["cost"] = float(counted["tokens"].sum()), len(counted)
    found["cost.steps"] = float(len(steps)), len(steps)
    return found


# -- over seeds ---------------------------------------------------------------------------------------------


def korn_graubard(shares: Sequence[float], items: Sequence[int]) -> tuple[float, float]:
    k, total, p = len(shares), sum(items), float(np.mean(shares))
    v = np.var(shares, ddof=1) / k
    n = float(total)
    if total > k:
        n = p * (1 - p) / v if v > 1e-20 else total
        n = min(n * (stats.t.ppf(0.975, total - 1) / stats.t.ppf(0.975, k - 1)) ** 2, total)
    x = n * p
    low = stats.beta.ppf(0.025, x, n - x + 1) if p > 0 else 0.0
    high = stats.beta.ppf(0.975, x + 1, n - x) if p < 1 else 1.0
    return float(min(low, p)), float(max(high, p))


def student(values: Sequence[float]) -> tuple[float, float]:
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def max_t(rows: Sequence[Sequence[float]]) -> list[float]:
    """Westfall & Young 1993, algorithm 4.1, over all sign flips common to the rows."""
    table = np.array(rows, dtype=float)
    table = table / np.where(np.linalg.norm(table, axis=1) > 0, np.linalg.norm(table, axis=1), 1)[:, None]
    signs = np.array(list(itertools.product([1, -1], repeat=table.shape[1])))
    seen, flipped = np.abs(table.sum(axis=1)).round(9), np.abs(signs @ table.T).round(9)
    order, p, running = np.argsort(-seen, kind="stable"), np.empty(len(table)), 0.0
    for place, row in enumerate(order):
        largest = flipped[:, order[place:]].max(axis=1)
        running = max(running, float((largest >= seen[row]).mean()))
        p[row] = running
    return p.tolist()


def detectable(values: Sequence[float]) -> float:
    n = len(values)
    critical = stats.t.ppf(0.975, n - 1)
    delta = brentq(lambda d: stats.nct.sf(critical, n - 1, d) - 0.8, 1, 60)
    return float(round(delta, 6) * np.std(values, ddof=1) / np.sqrt(n))


def equivalent(values: Sequence[float], margin: float) -> bool:
    half = stats.t.ppf(0.95, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return bool(abs(np.mean(values)) + half < margin)


# -- as printed ---------------------------------------------------------------------------------------------


def shown(value: float, unit: str) -> str:
    value = float(f"{value:.10g}")
    if unit in ("share", "fraction"):
        text = f"{value:.2f}"
        if float(text) == 0:
            return ".00"
        return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
    if value.is_integer() or abs(float(f"{value:.3g}")) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bracketed(mean: float, ends: tuple[float, float], unit: str) -> str:
    if f"{ends[0]:.10g}" == f"{ends[1]:.10g}":
        return shown(mean, unit)
    return f"{shown(mean, unit)} [{shown(ends[0], unit)}, {shown(ends[1], unit)}]"


def p_text(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


class Board:
    """The values of all rows by measure and seed, and what is printed of them."""

    def __init__(self, folder: Path) -> None:
        self.by_row: dict[str, dict[str, dict[int, tuple[float, int]]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for run in read(folder):
            for measure, found in values_of(run).items():
                self.by_row[str(run["strategy"])][measure][int(str(run["seed"]))] = found

    def mean(self, row: str, measure: str) -> str:
        seeds = self.by_row[row][measure]
        values, items = zip(*(seeds[seed] for seed in sorted(seeds)), strict=True)
        unit = UNITS[measure]
        ends = korn_graubard(values, items) if unit == "share" else student(values)
        return bracketed(float(np.mean(values)), ends, unit)

    def differences(self, row: str, measure: str, to: str = "naive") -> list[float]:
        own, other = self.by_row[row][measure], self.by_row[to][measure]
        return [own[seed][0] - other[seed][0] for seed in sorted(own.keys() & other.keys())]

    def difference(self, row: str, measure: str) -> str:
        found = self.differences(row, measure)
        return bracketed(float(np.mean(found)), student(found), UNITS[measure])

    def items(self, row: str, measure: str) -> str:
        return str(sum(count for _, count in self.by_row[row][measure].values()))


# -- comparison ---------------------------------------------------------------------------------------------


def tables(text: str) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, heading and lines of every table of TABLE.md, footnote marks taken off."""
    title, block = "", []
    for line in [*text.splitlines(), ""]:
        if line.startswith("### "):
            title = line.removeprefix("### ")
        if line.startswith("|"):
            cells = [re.sub(r"\\(.)", r"\1", cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            block.append(cells)
        elif block:
            yield title, block[0], [[re.sub(r" \(\d+\)$", "", cell) for cell in row] for row in block[2:]]
            block = []


def compare(folder: Path) -> tuple[int, list[str]]:
    """Return how many printed figures were computed, and a line for each that is printed otherwise."""
    board, rules = Board(folder), folder.name.rpartition("-v")[0]
    primary, text = PRIMARY[rules], (folder / "TABLE.md").read_text("utf-8")
    apart, gates = {"joint"}, tomllib.loads((folder / "board.toml").read_text("utf-8")).get("gates", {})
    judged = [row for row in board.by_row if row not in apart | {"naive"}]
    both = [primary, *(["retention.graded"] if primary == "retention" else [])]
    places = [(row, measure) for measure in both for row in judged]
    adjusted = dict(
        zip(places, max_t([board.differences(row, measure) for row, measure in places]), strict=True)
    )
    count, wrong = 0, []

    def check(where: str, printed: str, computed: str) -> None:
        nonlocal count
        count += 1
        if printed != computed:
            wrong.append(f"{folder.name}, {where}: printed {printed}, computed {computed}")

    def tested(where: str, row: str, measure: str, cells: Sequence[str]) -> None:
        found = board.differences(row, measure)
        check(f"{where}, difference", cells[0], board.difference(row, measure))
        if row not in apart:
            alone = max_t([found])[0]
            check(f"{where}, p", cells[1], f"{p_text(adjusted[row, measure])} ({p_text(alone)})")
        check(f"{where}, detectable", cells[2], shown(detectable(found), UNITS[measure]))

    ranked = []
    for title, head, lines in tables(text):
        for line in lines:
            where = f"{title}, {line[0]}"
            if title == "Primary measure":
                row = line[0]
                ranked.append((row, line[1]))
                check(f"{where}, mean", line[2], board.mean(row, primary))
                if row != "naive":
                    tested(where, row, primary, line[3:6])
                    inside = equivalent(board.differences(row, primary), MARGIN)
                    check(f"{where}, no effect", line[6], "shown" if inside else "not shown")
            elif title == "By degrees":
                check(f"{where}, mean", line[1], board.mean(line[0], both[1]))
                if line[0] != "naive":
                    tested(where, line[0], both[1], line[2:5])
            elif title == "Gates":
                for name, cell in zip(head[1:-2], line[1:-2], strict=True):
                    if line[0] != "naive" and cell != "-":
                        check(f"{where}, {name}", cell, board.difference(line[0], name.split(" ")[0]))
                if line[0] not in apart | {"naive"}:
                    check(f"{where}, all", line[-2], "passed" if passes(board, line[0], gates) else "failed")
            elif title == "Cost and evidence":
                cost = float(np.mean([value for value, _ in board.by_row[line[0]]["cost"].values()]))
                check(f"{where}, tokens", line[3], shown(cost, "tokens"))
                check(f"{where}, seeds", line[4], str(len(board.by_row[line[0]][primary])))
                check(f"{where}, items", line[5], board.items(line[0], primary))
            elif title.startswith("All measures") and line[0] in UNITS:
                printed: Callable[[str, str], str] = board.difference if "difference" in title else board.mean
                for row, cell in zip(head[2:], line[2:], strict=True):
                    if cell != "-":
                        check(f"{where}, {row}", cell, printed(row, line[0]))
    may = [row for row, _ in ranked if row not in apart and passes(board, row, gates)]
    found = ranked_by_hand(board, primary, may)
    for row, rank in ranked:
        check(f"rank of {row}", rank, str(found.get(row, "-")))
    return count, wrong


def passes(board: Board, row: str, gates: Mapping[str, float]) -> bool:
    """Whether the interval of every gate's difference to naive excludes a loss of the gate."""
    for measure, gate in gates.items():
        if not board.by_row["naive"].get(measure):
            continue  # the reference has no value: it asks for nothing
        if not board.by_row[row].get(measure):
            return False
        low, high = student(board.differences(row, measure))
        if (high if measure in LOWER else -low) >= gate:
            return False
    return True


def ranked_by_hand(board: Board, primary: str, rows: Sequence[str]) -> Mapping[str, int]:
    """1 + the rows that are better by tests of one row against all others, each row's a family of its own."""
    ranks = {}
    for row in rows:
        rivals = [other for other in rows if other != row]
        found = [board.differences(other, primary, row) for other in rivals]
        p = max_t(found)
        ranks[row] = 1 + sum(q < 0.05 and np.mean(one) > 0 for q, one in zip(p, found, strict=True))
    return ranks


if __name__ == "__main__":
    failed = False
    for path in map(Path, sys.argv[1:]):
        number, differing = compare(path)
        print(f"{path.name}: {number - len(differing)} of {number} printed figures are equal")
        print("\n".join(differing), end="\n" * bool(differing))
        failed = failed or bool(differing)
    sys.exit(failed)
