"""Measures of the rest and of the price (docs/metrics: retention, rest_loss, general_ability, exact_match, cost)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .boundaries import Values, grid
from .records import Run

FORMS = ("last_token", "last_word", "verbatim", "paraphrase", "question")
"""The probe forms from near to far, at distances 0 to 4."""


def cost_measures(run: Run) -> Values:
    """docs/metrics/cost.md: counted, not timed."""
    idle = run.experiences.loc[run.experiences["trains"] == "none", "experience"]
    trained = run.steps[~run.steps["experience"].isin(idle)]
    state = run.info["extra_state_bytes"] / run.info["parameter_bytes"]
    return {
        "cost": (float(trained["tokens"].sum()), 0),
        "cost.steps": (float(len(run.steps)), 0),
        "cost.passes": (float(len(trained)), 0),
        "cost.state": (float(state), 0),
    }


def text_measures(run: Run) -> Values:
    """docs/metrics/general_ability.md and rest_loss.md: -sum log p / sum tokens over the same documents."""
    found: Values = {}
    general = losses(run, "general")
    if general is not None:
        found["general_ability"] = float(general[run.end] - general[0]), 0
        found["general_ability.loops"] = float(general[run.done] - general[0]), 0
    rest = losses(run, "rest_text")
    if rest is not None and run.rest is not None:
        found["rest_loss"] = float(rest[run.end]), 0
        found["rest_loss.fall"] = float(rest[run.rest] - rest[run.end]), 0
    return found


def losses(run: Run, schedule: str) -> pd.Series | None:
    """The loss on text by step, or None where none was asked."""
    rows = run.answers[(run.answers["relation"] == "general") & run.answers[schedule]]
    sums = rows.drop_duplicates(["step", "probe"]).groupby("step")[["logprob", "tokens"]].sum()
    return -sums["logprob"] / sums["tokens"] if len(rows) else None


def form_measures(run: Run) -> Values:
    """docs/metrics/distance_decay.md: recall in every probe form when training was done."""
    table = run.answers[run.answers["ladder"] & (run.answers["step"] == run.done)]
    table = table[(table["cue"] == "none") & ~table["task_known"]]
    found: Values = {}
    recall, twins = dict[str, float](), dict[str, float]()
    for form in FORMS:
        asked = table[table["relation"] == form]
        facts, beside = asked[asked["twin_of"].isna()], asked[asked["twin_of"].notna()]
        if len(facts):
            recall[form], twins[form] = float(facts["correct"].mean()), float(beside["correct"].mean())
            found[f"distance_decay.{form}"] = recall[form], len(facts)
    if len(recall) > 1:
        over = [recall[form] - twins[form] for form in recall]
        found["distance_decay"] = float(np.polyfit([FORMS.index(form) for form in recall], over, 1)[0]), 0
    if {"last_token", "last_word"} <= recall.keys():
        words = recall["last_token"] - recall["last_word"]
        found["distance_decay.token_minus_word"] = words, 0
        found["distance_decay.over_twins"] = words - (twins["last_token"] - twins["last_word"]), 0
    return found


def exact_measures(run: Run) -> Values:
    """docs/metrics/exact_match.md: exact answers and answers in the right form, at the end and when the loops end."""
    found: Values = {}
    table = run.bare[run.bare["boundary"] & run.bare["twin_of"].isna() & run.bare["in_form"].notna()]
    table = table[table["fact"].isin(run.exposures["fact"].unique())]
    for step, name, form in ((run.end, "", "format"), (run.done, "loops_end", "format_loops_end")):
        asked = table[table["step"] == step].drop_duplicates("fact")
        if asked.empty:
            continue
        rate = float(asked["in_form"].astype(float).mean())
        found[f"exact_match.{form}"] = rate, len(asked)
        if rate >= 0.5:
            found[f"exact_match.{name}".rstrip(".")] = float(asked["correct"].mean()), len(asked)
    return found


def kept_measures(run: Run) -> Values:
    """docs/metrics/retention.md, without the half-life: recall of trained facts over the rest."""
    if run.rest is None:
        return {}
    found: Values = {}
    trained = run.exposures["fact"].unique()
    at = run.bare[run.bare["boundary"] & (run.bare["step"] == run.end)].drop_duplicates("probe")
    facts = at[at["twin_of"].isna() & at["fact"].isin(trained)].set_index("fact")
    found["retention"] = float(facts["right"].mean()), len(facts)
    over = (at[at["twin_of"].notna()].set_index("twin_of")["loss"] - facts["loss"]).dropna()
    found["retention.graded"] = float(over.mean()), len(over)
    curve = rest_curve(run)
    if len(curve) >= 3:
        x = np.log1p(curve.index.to_numpy())
        y = curve.mean(axis=1).to_numpy()
        found["retention.auc"] = float(np.trapezoid(y, x) / (x[-1] - x[0])), curve.shape[1]
    return found


def rest_curve(run: Run) -> pd.DataFrame:
    """Answers of trained facts over the rest, by steps since the loops ended: log-spaced and at both ends."""
    table = run.bare[(run.bare["log"] | run.bare["boundary"]) & (run.bare["step"] >= run.done)]
    table = table[table["fact"].isin(run.exposures["fact"].unique())]
    answers = grid(run, "right", table=table)
    return answers.set_axis(answers.index - run.done, axis=0)
