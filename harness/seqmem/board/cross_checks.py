"""Check the runs of a board against each other: seeds, controls, and whether all were given the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from seqmem.board.judge import Judge
from seqmem.board.layout import RECORDS
from seqmem.board.mismatch import Mismatch
from seqmem.board.placing import Answered, Placed
from seqmem.record.reader import RunRecord


def check_runs(
    placed: Sequence[Placed],
    answers: Mapping[Path, Answered],
    judge: Judge,
    where: Callable[[RunRecord], str],
) -> Iterator[Mismatch]:
    """Yield what is wrong between the runs of a board; `answers` are by the folder of the record."""
    rules = judge.rules
    first: dict[tuple[str, str | None, int], Placed] = {}
    seeds: defaultdict[tuple[str, str | None], set[int]] = defaultdict(set)
    for one in placed:
        label, control, seed = one.label, one.control, one.recipe.seed
        other = first.setdefault((label, control, seed), one)
        if other is not one:
            what = f"run of control {control}" if control else "run"
            yield Mismatch(
                where(one.record), what, f"only {other.record.folder.name}", "another", label, seed
            )
        seeds[label, control].add(seed)
    for label in sorted({one.label for one in placed}):
        own = seeds[label, None]
        lacking = [("run", seed) for seed in rules.scoring if seed not in own and len(own) < rules.least]
        for name in rules.controls:
            of_control = seeds[label, name]
            lacking += [(f"run of control {name}", seed) for seed in sorted(own - of_control)]
            lacking += [(f"run beside its control {name}", seed) for seed in sorted(of_control - own)]
        for what, seed in lacking:
            yield Mismatch(RECORDS, what, "a record", "none", label, seed)
    for model in sorted({one.recipe.model.name for one in placed}):
        labels = {one.label for one in placed if one.recipe.model.name == model}
        if not labels & {rules.reference, f"{rules.reference} @ {model}"}:
            yield Mismatch(RECORDS, "reference row", rules.reference, ", ".join(sorted(labels)))
    yield from _same_for_all(placed, answers, judge, where)


def _same_for_all(
    placed: Sequence[Placed],
    answers: Mapping[Path, Answered],
    judge: Judge,
    where: Callable[[RunRecord], str],
) -> Iterator[Mismatch]:
    """Yield runs that were asked something else than the others of their seed, or trained on another stream."""
    groups: dict[tuple[str, str | None, int], list[Placed]] = {}
    for one in placed:
        groups.setdefault((one.recipe.model.name, one.control, one.recipe.seed), []).append(one)
    for (_, control, seed), members in groups.items():
        members.sort(key=lambda one: (one.recipe.strategy.name != judge.rules.reference, one.label))
        first, expected = members[0], answers[members[0].record.folder]
        for other in members:
            own = answers[other.record.folder]
            for what, wanted, found in (
                ("steps, as run.json has them", other.record.info.get("steps"), own.steps),
                (
                    "probe form that measures read, as the scenario has it",
                    judge.relations[control],
                    own.relation,
                ),
                (f"items, as of row {first.label}", expected.items, own.items),
                (f"answers, as of row {first.label}", expected.asked, own.asked),
            ):
                if found != wanted:
                    yield Mismatch(where(other.record), what, str(wanted), str(found), other.label, seed)
        plain = [one for one in members if not judge.transforms_stream(one.recipe.strategy.name)]
        for other in plain[1:]:
            wanted, found = (str(one.record.info.get("content")) for one in (plain[0], other))
            if found != wanted:
                what = f"content of the trained stream, as of row {plain[0].label}"
                yield Mismatch(where(other.record), what, wanted, found, other.label, seed)
