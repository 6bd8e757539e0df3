"""`seqmem tune`: a search on tuning seeds, its table, and the line to run next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seqmem.cli.app import app, disabled_plugins, exit_code, warn_left_out
from seqmem.cli.options import Given, Json, takes
from seqmem.cli.terminal import print_json, print_table, resume_command, say, warn
from seqmem.core.digits import significant
from seqmem.planning.request import Execution, TuneRequest

if TYPE_CHECKING:
    from seqmem.planning.request import Request
    from seqmem.verbs.tune import TuneResult, Tuning

OPTIONS = (
    *("scenario", "strategy", "model", "preset", "seeds", "space", "budget", "measure", "controls", "set"),
    *(
        "text",
        "optimizer",
        "lr",
        "revision",
        "precision",
        "attention",
        "trust_remote_code",
        "device",
        "threads",
    ),
    *("micro_tokens", "activation_checkpointing"),
    *("out", "workers", "resume", "force", "accept_versions", "accept_audit", "display"),
)

ONLY_HERE = ("seeds", "reference", "controls")
"""Fields that a search and the bench after it have different values of."""


@app.command()
@takes(TuneRequest, Execution, names=OPTIONS)
def tune(ctx: typer.Context, given: Given, as_json: Json = False) -> int:
    """Search learning rate and options on seeds that no row is scored on, with a stated budget of runs.

    The search is written to OUT/tunings/; `--tuned` of `seqmem bench` applies what it chose.
    """
    from seqmem.verbs.tune import tune as run_tune

    result = run_tune(**given, disabled=disabled_plugins(ctx))
    if as_json:
        print_json(_as_json(result))
    else:
        _show(result, given["out"])
    warn_left_out(result.unreadable)
    if result.interrupted:
        warn(f"Stopped. Continue with: {resume_command()}")
    nothing_chosen = any(tuning.chosen is None for tuning in result.tunings)
    return exit_code(result.interrupted, nothing_chosen, bool(result.unreadable))


def _show(result: TuneResult, out: Path) -> None:
    for tuning in result.tunings:
        _show_tuning(tuning)
    files = [str(tuning.path) for tuning in result.tunings if tuning.path is not None]
    if files:
        say("Next, on scoring seeds:")
        say(f"  {bench_command(result.request, out, files)}")


def _show_tuning(tuning: Tuning) -> None:
    """Print every trial, the chosen one first, then the best, and the notes."""
    measure = tuning.measure
    seeds = list(tuning.trials[0].values)
    sign = -1 if measure.direction == "higher" else 1
    order = sorted(
        range(len(tuning.trials)),
        key=lambda i: (
            i != tuning.chosen,
            tuning.trials[i].mean is None,
            sign * (tuning.trials[i].mean or 0.0),
        ),
    )
    rows = []
    for index in order:
        trial = tuning.trials[index]
        values = [trial.values[seed] for seed in seeds]
        outcome = "chosen" if index == tuning.chosen else "; ".join(dict.fromkeys(trial.reasons.values()))
        rows.append(
            [
                *(_typed(trial.options[option]) for option in tuning.space),
                *map(_number, values),
                _number(trial.mean),
                outcome,
            ]
        )
    runs = sum(len(trial.runs) for trial in tuning.trials)
    say(
        f"{tuning.strategy}: {measure.name} ({measure.unit}, {measure.direction} is better), "
        f"{len(tuning.trials)} trials, {runs} runs"
    )
    print_table([*tuning.space, *(f"seed {seed}" for seed in seeds), "mean", ""], rows)
    for note in tuning.notes:
        say(f"Note: {note}.")
    if tuning.path is None:
        warn(f"seqmem: no trial of {tuning.strategy} has a value for every seed; nothing was chosen")
    else:
        say(f"Search: {tuning.path}")
    say()


def _number(value: float | None) -> str:
    return "-" if value is None else significant(value, 4)


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def bench_command(request: Request, out: Path, files: list[str]) -> str:
    """Return the bench that scores what was chosen, with all else as it was asked for."""
    from seqmem.reporting.command import command_line

    asked = {name: value for name, value in request.asked().items() if name not in ONLY_HERE}
    folder = {} if out == Path("runs") else {"out": str(out)}
    return command_line({**asked, "tuned": files, **folder})


def _as_json(result: TuneResult) -> dict[str, Any]:
    return {
        "searches": [
            {
                "file": None if tuning.path is None else str(tuning.path),
                "strategy": tuning.strategy,
                "measure": tuning.measure.name,
                "trials": [trial.model_dump(mode="json") for trial in tuning.trials],
                "chosen": None if tuning.chosen is None else tuning.trials[tuning.chosen].options,
                "notes": list(tuning.notes),
            }
            for tuning in result.tunings
        ],
        "left_out": list(result.unreadable),
        "interrupted": result.interrupted,
    }
