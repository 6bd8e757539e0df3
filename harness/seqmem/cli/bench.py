"""`seqmem bench` and `seqmem plan`: the same request, carried out or only counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmem.cli.app import FAILED, INTERRUPTED, OK, PARTIAL, app, disabled_plugins
from seqmem.cli.terminal import is_terminal, print_json, print_table, resume_command, say, say_lines, warn

if TYPE_CHECKING:
    from seqmem.planning.grid import Plan
    from seqmem.verbs.bench import BenchResult

Scenario = Annotated[list[str], typer.Option("--scenario", help="Scenario to run; may be repeated.")]
Strategy = Annotated[list[str], typer.Option("--strategy", help="Strategy to compare; may be repeated.")]
Model = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="A model that is listed, a local folder or a Hugging Face id; may be repeated. By default the one "
        "the scenario proposes, which is tiny for most.",
    ),
]
Preset = Annotated[str, typer.Option(help="Size of the scenario: smoke, default, paper, or one of its own.")]
Seeds = Annotated[str, typer.Option(help="Seeds, e.g. 0-4 or 0,3,7.")]
Set = Annotated[
    list[str],
    typer.Option("--set", help="Option of scenario, strategy, optimizer or text, e.g. scenario.loops=4."),
]
Sweep = Annotated[
    list[str],
    typer.Option(
        "--sweep",
        help="A row per value of an option and a figure against it: strategy.init=average,zero. May be repeated "
        "for all combinations; by default what the preset sweeps.",
    ),
]
Tuned = Annotated[
    list[str],
    typer.Option(
        "--tuned",
        help="A search file of `seqmem tune`: what it chose is applied to its strategy. May be repeated.",
    ),
]
TextSource = Annotated[
    str, typer.Option("--text", help="Background text: world, a text file, or a dataset id.")
]
Optimizer = Annotated[str | None, typer.Option(help="adam, adamw or sgd; the preset proposes one.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate; the preset proposes one.")]
Revision = Annotated[str | None, typer.Option(help="Revision of a Hugging Face id, e.g. step3000.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]
Attention = Annotated[str, typer.Option(help="eager, sdpa or flash_attention_2.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model; recorded.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option(help="Threads per run.")]
NoReference = Annotated[bool, typer.Option("--no-reference", help="Leave out the reference strategy.")]
NoControls = Annotated[bool, typer.Option("--no-controls", help="Leave out the scenario's controls.")]
AcceptVersions = Annotated[
    bool,
    typer.Option(
        "--accept-versions",
        help="Keep runs that other versions of torch, transformers or seqmem made; the table says so.",
    ),
]
Out = Annotated[Path, typer.Option(help="Output folder; finished runs in it are reused.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def bench(
    ctx: typer.Context,
    scenario: Scenario,
    strategy: Strategy,
    model: Model = [],  # noqa: B006
    preset: Preset = "default",
    seeds: Seeds = "0-2",
    settings: Set = [],  # noqa: B006
    sweep: Sweep = [],  # noqa: B006
    tuned: Tuned = [],  # noqa: B006
    text: TextSource = "world",
    optimizer: Optimizer = None,
    lr: Rate = None,
    revision: Revision = None,
    dtype: Dtype = "float32",
    attention: Attention = "sdpa",
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    threads: Threads = 1,
    no_reference: NoReference = False,
    no_controls: NoControls = False,
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
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 50,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Keep the last checkpoints of finished runs.")
    ] = False,
    save_models: Annotated[
        bool,
        typer.Option(
            "--save-models", help="Leave each trained model in its record, as transformers loads it."
        ),
    ] = False,
    measure_cost: Annotated[
        bool,
        typer.Option(
            "--measure-cost",
            help="Time every row's steps beside the reference's, about 20 s a row; on finished runs nothing else.",
        ),
    ] = False,
    display: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
    as_json: Json = False,
) -> int:
    """Run scenarios x strategies x models x seeds, with reference and controls, and make the table."""
    from seqmem.verbs.bench import bench as run_bench

    result = run_bench(
        scenario,
        strategy,
        model=model,
        set=settings,
        out=out,
        workers=workers,
        resume=resume,
        force=force,
        accept_versions=accept_versions,
        checkpoint_every=checkpoint_every,
        keep_checkpoints=keep_checkpoints,
        save_models=save_models,
        measure_cost=measure_cost,
        display=one_of("display", display, ("auto", "rich", "plain", "none")),
        disabled=disabled_plugins(ctx),
        **_request(
            preset=preset,
            seeds=seeds,
            sweep=tuple(sweep),
            tuned=tuple(tuned),
            text=text,
            optimizer=optimizer,
            lr=lr,
            revision=revision,
            dtype=dtype,
            attention=attention,
            trust_remote_code=trust_remote_code,
            device=device,
            threads=threads,
            no_reference=no_reference,
            no_controls=no_controls,
        ),
    )
    if as_json:
        print_json(_as_json(result))
    else:
        show_boards(result)
    return _exit_code(result)


@app.command("plan")
def plan_verb(
    ctx: typer.Context,
    scenario: Scenario,
    strategy: Strategy,
    model: Model = [],  # noqa: B006
    preset: Preset = "default",
    seeds: Seeds = "0-2",
    settings: Set = [],  # noqa: B006
    sweep: Sweep = [],  # noqa: B006
    tuned: Tuned = [],  # noqa: B006
    text: TextSource = "world",
    optimizer: Optimizer = None,
    lr: Rate = None,
    revision: Revision = None,
    dtype: Dtype = "float32",
    attention: Attention = "sdpa",
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    threads: Threads = 1,
    no_reference: NoReference = False,
    no_controls: NoControls = False,
    as_json: Json = False,
) -> None:
    """Show the runs a bench would take, with steps, tokens, memory and a rough time; trains nothing."""
    from seqmem.planning.counting import count_tokens
    from seqmem.planning.plan import plan
    from seqmem.planning.request import Request
    from seqmem.plugin.registry import Registry

    request = Request(
        scenario=tuple(scenario),
        strategy=tuple(strategy),
        model=tuple(model),
        set=tuple(settings),
        **_request(
            preset=preset,
            seeds=seeds,
            sweep=tuple(sweep),
            tuned=tuple(tuned),
            text=text,
            optimizer=optimizer,
            lr=lr,
            revision=revision,
            dtype=dtype,
            attention=attention,
            trust_remote_code=trust_remote_code,
            device=device,
            threads=threads,
            no_reference=no_reference,
            no_controls=no_controls,
        ),
    )
    registry = Registry.from_environment(disabled_plugins(ctx))
    planned = count_tokens(plan(request, registry), registry)
    if as_json:
        print_json(plan_records(planned))
        return
    show_plan(planned)


def _request(
    *, no_reference: bool, no_controls: bool, dtype: str, attention: str, **given: Any
) -> dict[str, Any]:
    """The flags as fields of a Request."""
    return {
        **given,
        "dtype": one_of("dtype", dtype, ("float32", "bfloat16", "float16")),
        "attention": one_of("attention", attention, ("eager", "sdpa", "flash_attention_2")),
        "reference": not no_reference,
        "controls": not no_controls,
    }


def one_of(option: str, given: str, allowed: tuple[str, ...]) -> Any:
    """The value given for an option, when it is one of those allowed."""
    from seqmem.core.errors import UsageError, unknown

    if given not in allowed:
        raise UsageError(unknown(f"--{option}", given, allowed))
    return given


def plan_records(planned: Plan) -> list[dict[str, Any]]:
    """What each run takes, as JSON values."""
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
            "memory_bytes": run.memory_bytes,
            "extra_state_bytes": run.extra_bytes,
            "operations": run.operations,
            "seconds": run.seconds,
            "device": run.recipe.device,
        }
        for run in planned.runs.values()
    ]


def show_plan(planned: Plan) -> None:
    """Print the runs and what they cost."""
    from seqmem.verbs.bench import default_workers

    records = plan_records(planned)
    rows = [
        [
            r["run"],
            r["id"],
            f"{r['steps']:,}",
            _tokens(r["train_tokens"], r["exact_tokens"]),
            _tokens(r["probe_tokens"], r["exact_tokens"]),
            _bytes(r["memory_bytes"]),
            _bytes(r["extra_state_bytes"]),
            _duration(r["seconds"]),
        ]
        for r in records
    ]
    headers = ["run", "id", "steps", "train tokens", "probe tokens", "memory", "of it strategy", "about"]
    print_table(headers, rows)
    say()
    workers = default_workers(planned)
    whole = _duration(sum(r["seconds"] for r in records) / min(workers, len(records)))
    say(
        f"{len(records)} runs, {sum(r['steps'] for r in records):,} steps on {records[0]['device']}; "
        f"about {whole} with {workers} at a time."
    )
    say(
        "Memory is weights, gradients, moments, a snapshot of them where the stream has branches, and what the"
    )
    say(
        "strategy keeps; activations come on top. Times are rough, from operation counts, a typical rate of the"
    )
    say("device and a typical cost per step, for one run alone.")


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


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def show_boards(result: BenchResult) -> None:
    """Print every board's table and where its files are, then what went wrong."""
    from rich.console import Console

    from seqmem.reporting.tables import to_markdown, to_rich

    for board in result.boards:
        if is_terminal():
            Console().print(to_rich(board.leaderboard))
        else:
            say_lines(to_markdown(board.leaderboard))
        say(f"Tables and figures: {board.folder}")
    for name, reason in result.failed.items():
        warn(f"seqmem: failed: {name}: {reason}")
    for line in (*result.unreadable, *(line for board in result.boards for line in board.broken)):
        warn(f"seqmem: left out: {line}")
    if result.interrupted:
        warn(f"Stopped. Continue with: {resume_command()}")


def _as_json(result: BenchResult) -> dict[str, Any]:
    import json

    from seqmem.reporting.tables import to_json

    return {
        "boards": [
            {"name": board.name, "folder": str(board.folder), **json.loads(to_json(board.leaderboard))}
            for board in result.boards
        ],
        "failed_runs": dict(result.failed),
        "left_out": [*result.unreadable, *(line for board in result.boards for line in board.broken)],
        "interrupted": result.interrupted,
    }


def _exit_code(result: BenchResult) -> int:
    if result.interrupted:
        return INTERRUPTED
    if result.failed:
        return FAILED
    return PARTIAL if result.unreadable or any(board.broken for board in result.boards) else OK
