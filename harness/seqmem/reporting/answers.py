"""The answers of the model: the questions about a few facts, and every answer of a few seeds over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqmem.core.digits import rounded
from seqmem.core.sanitize import clean
from seqmem.record.reader import RunRecord
from seqmem.reporting.curves import Pool

_MAX_LENGTH = 300
"""Characters of a prompt or document that are shown."""


class Pools:
    """Keeps ids of facts, questions, lists of steps and texts once for the whole page."""

    def __init__(self) -> None:
        self.facts, self.questions, self.steps, self.texts = Pool(), Pool(), Pool(), Pool()

    def values(self) -> dict[str, list[Any]]:
        """Return what is kept, by name."""
        return {name: pool.values for name, pool in vars(self).items()}


def answers(run: RunRecord, facts: Sequence[str], *, all_forms: bool, pools: Pools) -> list[list[Any]]:
    """Return the answers about `facts` and their twins in one run.

    Args:
        run: a finished run.
        facts: ids of trained facts.
        all_forms: every probe form and cue, not only the primary question.
        pools: what numbers in the answers point into.

    Returns:
        Per probe [question, steps, right as a string of 0 and 1, log-probability in hundredths of a nat, what
        it said instead], the last left out where the record does not keep it.
    """
    own_facts = run.probes["fact"].isin(facts) & run.probes["twin_of"].isna()
    rows = run.probes[own_facts | run.probes["twin_of"].isin(facts)]
    primary = (rows["relation"] == run.info["primary_relation"]) & (rows["cue"] == "none")
    primary &= (rows["context"] == 0) & ~rows["task_known"].astype(bool)
    rows = rows[primary if not all_forms else primary | rows["twin_of"].isna()]
    rows = rows.drop_duplicates(["step", "probe"]).sort_values("step", kind="stable")
    by_probe: dict[str, list[Any]] = {}
    for row in rows.itertuples(index=False):
        by_probe.setdefault(str(row.probe), []).append(row)
    place = {fact: number for number, fact in enumerate(facts)}
    found = []
    for own in by_probe.values():
        asked, twin = own[0], not pd.isna(own[0].twin_of)
        fact, form = asked.twin_of if twin else asked.fact, pools.texts.number(_form(asked))
        question = [
            pools.facts.number(clean(fact)),
            int(twin),
            form,
            pools.texts.number(_short(asked.prompt)),
            pools.texts.number(_short(asked.answer)),
            None if pd.isna(asked.chance) else rounded(asked.chance, 3),
        ]
        entry: list[Any] = [
            pools.questions.number(question),
            pools.steps.number([int(row.step) for row in own]),
            "".join("1" if row.right else "0" for row in own),
            [round(row.logprob * 100) if np.isfinite(row.logprob) else None for row in own],
        ]
        texts = [_wrong_text(row) for row in own]
        if any(texts):
            entry.append([pools.texts.number(text) if text else -1 for text in texts])
        found.append(((place[fact], twin, form), entry))
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def _form(asked: Any) -> str:
    parts = [str(asked.relation).replace("_", " ")]
    if asked.cue != "none":
        parts.append(f"after text of {'its own loop' if asked.cue == 'own' else 'another loop'}")
    if asked.context:
        parts.append(f"{int(asked.context)} in context")
    if asked.task_known:
        parts.append("task label given")
    return ", ".join(parts)


def _wrong_text(row: Any) -> str:
    """Return what the model chose or said instead of the answer, as far as the record knows."""
    if not row.right and row.choice == row.choice and row.choice is not None:
        if 0 <= int(row.choice) < len(row.choices):
            return _short(row.choices[int(row.choice)])
    if not row.correct and isinstance(row.said, str):
        return f"{_short(row.said)}…"
    return ""


def _short(text: Any) -> str:
    line = clean(str(text)).strip()
    return line if len(line) <= _MAX_LENGTH else f"{line[:_MAX_LENGTH]}…"
