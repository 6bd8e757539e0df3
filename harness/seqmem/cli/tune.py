"""`seqmem tune`: a search on tuning seeds, its table, and the line to run next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmem.cli.app import FAILED, INTERRUPTED, OK, PARTIAL, app, disabled_plugins
from seqmem.cli.bench import (
    AcceptVersions,
    Attention,
    Device,
    Dtype,
    Json,
    Optimizer,
    Out,
    Preset,
    Rate,
    Revision,
    Set,
    Strategy,
    TextSource,
    Threads,
    TrustRemoteCode,
    one_of,
)
from seqmem.cli.terminal import print_json, print_table, resume_command, say, warn
from seqmem.core.digits import significant

if TYPE_CHECKING:
    from seqmem.planning.request import Request
    from seqmem.verbs.tune import TuneResult, Tuning


ONLY_HERE = ("seeds", "reference", "controls")
"""What a search asks for otherwise than the bench that follows it."""


@app.command()
def tune(
    ctx: typer.Context,
    scenario: Annotated[str, typer.Option("--scenario", help="Scenario to tune on.")],
    strategy: Strategy,
    model: Annotated[
        str | None, typer.Option("--model", help="Model to tune; by default the one the scenario proposes.")
    ] = None,
    preset: Preset = "default",
    seeds: Annotated[
        str, typer.Option(help="Tuning seeds: 100 and up, those below are for scoring.")
    ] = "100-101",
    space: Annotated[
        list[str],
        typer.Option(
            "--space",
            help="Values to try of an option of strategy or optimizer: strategy.lam=10,100,1000. May be repeated for "
            "all combinations; by default the learning rate at a third of the preset's, at it, and at three times.",
        ),
    ] = [],  # noqa: B006
    budget: Annotated[
        int,
        typer.Option(
            help="Runs each strategy may take. A grid of more is sampled at random, always the same way.",
            min=1,
        ),
    ] = 12,
    measure: Annotated[
        str | None, typer.Option(help="What is best; by default the measure the scenario ranks by.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls", help="Run the scenario's controls as well, for a measure that needs them."
        ),
    ] = False,
    settings: Set = [],  # noqa: B006
    text: TextSource = "world",
    optimizer: Optimizer = None,
    lr: Rate = None,
    revision: Revision = None,
    dtype: Dtype = "float32",
    attention: Attention = "sdpa",
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    threads: Threads = 1,
    out: Out = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(help="Runs at a time; by default one per core, on a GPU one.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue unfinished runs from their checkpoints.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run finished runs again, start unfinished ones over.")
    ] = False,
    accept_versions: AcceptVersions = False,
    display: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
    as_json: Json = False,
) -> int:
    """Search learning rate and options on seeds that no row is scored on, with a stated budget of runs.

    The search is written to OUT/tunings/; `--tuned` of `seqmem bench` applies what it chose.
    """
    from seqmem.verbs.tune import tune as run_tune

    result = run_tune(
        scenario,
        strategy,
        space=space,
        seeds=seeds,
        budget=budget,
        measure=measure,
        controls=controls,
        model=() if model is None else model,
        set=settings,
        out=out,
        workers=workers,
        resume=resume,
        force=force,
        accept_versions=accept_versions,
        display=one_of("display", display, ("auto", "rich", "plain", "none")),
        disabled=disabled_plugins(ctx),
        preset=preset,
        text=text,
        optimizer=optimizer,
        lr=lr,
        revision=revision,
        dtype=one_of("dtype", dtype, ("float32", "bfloat16", "float16")),
        attention=one_of("attention", attention, ("eager", "sdpa", "flash_attention_2")),
        trust_remote_code=trust_remote_code,
        device=device,
        threads=threads,
    )
    if as_json:
        print_json(_as_json(result))
    else:
        _show(result, out)
    for line in result.unreadable:
        warn(f"seqmem: left out: {line}")
    if result.interrupted:
        warn(f"Stopped. Continue with: {resume_command()}")
        return INTERRUPTED
    if any(tuning.chosen is None for tuning in result.tunings):
        return FAILED
    return PARTIAL if result.unreadable else OK


def _show(result: TuneResult, out: Path) -> None:
    for tuning in result.tunings:
        _show_tuning(tuning)
    files = [str(tuning.path) for tuning in result.tunings if tuning.path is not None]
    if files:
        say("Next, on scoring seeds:")
        say(f"  {bench_command(result.request, out, files)}")


def _show_tuning(tuning: Tuning) -> None:
    """Every trial, best first, and what was chosen."""
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
        said = "chosen" if index == tuning.chosen else "; ".join(dict.fromkeys(trial.reasons.values()))
        rows.append(
            [
                *(_typed(trial.options[option]) for option in tuning.space),
                *map(_number, values),
                _number(trial.mean),
                said,
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
    import json

    return value if isinstance(value, str) else json.dumps(value)


def bench_command(request: Request, out: Path, files: list[str]) -> str:
    """The bench that scores what was chosen, with all else as it was asked for."""
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
