"""`seqmem plan`: the runs a bench would take and what they cost; trains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from seqmem.cli.app import app, registry, warn_left_out
from seqmem.cli.options import Given, Json, takes
from seqmem.cli.terminal import print_json, print_table, say, warn
from seqmem.core.digits import duration
from seqmem.core.errors import RunFailed
from seqmem.planning.request import Request, read

if TYPE_CHECKING:
    from seqmem.planning.grid import Plan
    from seqmem.planning.pace import Pace


@app.command("plan")
@takes(Request)
def plan_verb(ctx: typer.Context, given: Given, as_json: Json = False) -> int:
    """Show the runs a bench would take, with steps, tokens, memory and time; trains nothing."""
    from seqmem.planning.counting import count_tokens
    from seqmem.planning.plan import plan

    request, _ = read(Request, given, "plan")
    plugins = registry(ctx)
    return show_plan(count_tokens(plan(request, plugins), plugins), as_json)


def show_plan(planned: Plan, as_json: bool) -> int:
    """Print the runs, what they cost and what is left out; returns the exit code."""
    from seqmem.verbs.display import say_notes

    records = plan_records(planned, _pace(planned))
    if as_json:
        print_json(records)
    else:
        _print_plan(planned, records)
    say_notes(planned.notes, "plain")
    return warn_left_out(planned.left_out)


def _pace(planned: Plan) -> Pace | None:
    """Return the pace of this machine; without one the plan says all but times, and why."""
    from seqmem.verbs.pace import pace_of

    first = next(iter(planned.runs.values())).recipe
    try:
        return pace_of(first.device, first.model.dtype, planned.threads, warn)
    except RunFailed as error:
        warn(f"no times: {error}")
        return None


def plan_records(planned: Plan, pace: Pace | None) -> list[dict[str, Any]]:
    """Return what each run takes, as JSON values; its seconds are null without a pace."""
    return [
        {
            "run": run.name,
            "id": run.recipe.id,
            "steps": run.outline.steps,
            "train_tokens": run.outline.train_tokens,
            "probe_rows": run.outline.probe_rows,
            "probe_tokens": run.outline.probe_tokens,
            "exact_tokens": run.outline.exact,
            "parameter_bytes": run.parameter_bytes,
            "memory_bytes": run.peak_bytes,
            "activation_bytes": run.activation_bytes,
            "checkpoint_bytes": run.checkpoint_bytes,
            "micro_tokens": run.recipe.micro_tokens,
            "extra_state_bytes": run.extra_bytes,
            "operations": run.operations,
            "seconds": None if pace is None else run.seconds(pace),
            "device": run.recipe.device,
        }
        for run in planned.runs.values()
    ]


def _print_plan(planned: Plan, records: list[dict[str, Any]]) -> None:
    from seqmem.verbs.bench import default_workers

    rows = [
        [
            r["run"],
            r["id"],
            f"{r['steps']:,}",
            _tokens(r["train_tokens"], r["exact_tokens"]),
            _tokens(r["probe_tokens"], r["exact_tokens"]),
            _bytes(r["memory_bytes"]),
            _bytes(r["activation_bytes"]),
            _bytes(r["extra_state_bytes"]),
            _bytes(r["checkpoint_bytes"]),
            "?" if r["seconds"] is None else duration(r["seconds"]),
        ]
        for r in records
    ]
    headers = ["run", "id", "steps", "train tokens", "probe tokens", "memory", "of it activations"]
    headers += ["of it strategy", "checkpoint", "about"]
    print_table(headers, rows)
    say()
    say(
        f"{len(records)} runs, {sum(r['steps'] for r in records):,} steps on {records[0]['device']}; "
        f"{_whole([r['seconds'] for r in records], default_workers(planned))}"
    )
    say(
        "Memory is weights, gradients, moments, a snapshot of them where the stream has branches, what the strategy"
    )
    say(
        "keeps, the rows of an experience, and about the activations of the largest forward, which --micro-tokens"
    )
    say(
        "bounds. A process takes some 0.7 GiB besides. A checkpoint is on disk, and a run keeps the last ones until"
    )
    say(
        "it has finished. Times come from operation counts and the pace that this machine was measured to have, for"
    )
    say("one run alone; loading takes seconds more.")


def _whole(seconds: list[float | None], workers: int) -> str:
    known = [one for one in seconds if one is not None]
    if not known:
        return f"{workers} at a time."
    return f"about {duration(sum(known) / min(workers, len(known)))} with {workers} at a time."


def _tokens(count: int, exact: bool) -> str:
    return f"{count:,}" if exact else f"at most {count:,}"


def _bytes(count: float) -> str:
    if count < 0:
        return f"-{_bytes(-count)}"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")
