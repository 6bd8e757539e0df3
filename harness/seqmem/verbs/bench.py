"""The bench from end to end, for the command line and for notebooks alike."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from seqmem.core.data import Stream
from seqmem.core.errors import UsageError
from seqmem.core.sanitize import clean
from seqmem.launch.local import Workers
from seqmem.planning.grid import Plan, PlannedBoard
from seqmem.planning.job import CHECKPOINT_EVERY, Job, job_of
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.planning.store import Store, Todo
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.reporting.board_files import Board, write_board
from seqmem.scoring.tables import load_metrics
from seqmem.verbs.cost import measure_board
from seqmem.verbs.display import DisplayName, choose

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class BenchResult:
    """What a bench leaves.

    Attributes:
        failed: run name to reason, for runs that did not finish.
        unreadable: strategies and metrics that could not be loaded, each with its reason.
        interrupted: Ctrl-C stopped it; the boards hold what had finished.
    """

    boards: Sequence[Board]
    failed: Mapping[str, str]
    unreadable: Sequence[str]
    interrupted: bool

    @property
    def board(self) -> Board:
        """The board of a bench of one scenario."""
        return self.boards[0]

    @property
    def table(self) -> pd.DataFrame:
        """The first board's table."""
        return self.board.table

    @property
    def values(self) -> pd.DataFrame:
        """The first board's per-seed values."""
        return self.board.values

    def plot(self, row: str) -> Figure:
        """Curves of a row of the first board; see `Board.plot`."""
        return self.board.plot(row)

    def _repr_html_(self) -> str:
        return "".join(board._repr_html_() for board in self.boards)


def bench(
    scenario: str | Sequence[str],
    strategy: str | Sequence[str],
    *,
    model: str | Sequence[str] = (),
    set: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path = "runs",
    workers: int | None = None,
    resume: bool = False,
    force: bool = False,
    accept_versions: bool = False,
    checkpoint_every: int = CHECKPOINT_EVERY,
    keep_checkpoints: bool = False,
    save_models: bool = False,
    measure_cost: bool = False,
    display: DisplayName = "auto",
    disabled: frozenset[str] = frozenset(),
    **request: Any,
) -> BenchResult:
    """Run scenarios x strategies x models x seeds with their reference and controls, and make the tables.

    Args:
        scenario: scenario names, one or several.
        strategy: strategy names, one or several.
        model: model names, one or several; the scenario proposes one.
        set: options as ``{"scenario.loops": 4}`` or ``["scenario.loops=4"]``.
        out: output folder; finished runs in it are reused.
        workers: processes, one run each at a time; by default one per core, on a GPU one.
        resume: continue unfinished runs from their last checkpoints.
        force: run again what is finished, start over what is not.
        accept_versions: keep runs that other versions of torch, transformers or seqmem made; the table says so.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: keep the last checkpoints of finished runs.
        save_models: leave every trained model in its record, as transformers loads it.
        measure_cost: time every row's steps beside the reference's, see `seqmem.verbs.cost`.
        display: what to show meanwhile.
        disabled: plugins to leave out.
        **request: any further field of `seqmem.planning.request.Request`: preset, seeds, sweep, tuned, text, optimizer,
            lr, revision, dtype, attention, device, threads, probing, reference, controls.

    Raises:
        UsageError: the request cannot be carried out; nothing was written.
    """
    registry = Registry.from_environment(disabled)
    planned = plan(request_of(scenario, strategy, model, set, **request), registry)
    store = Store(Path(out))
    with store.locked():
        outcome, interrupted = carry_out(
            planned,
            store,
            planned.asked(),
            workers=workers,
            resume=resume,
            force=force,
            accept_versions=accept_versions,
            checkpoint_every=checkpoint_every,
            keep_checkpoints=keep_checkpoints,
            save_models=save_models,
            display=display,
            disabled=disabled,
        )
        unmeasured: list[str] = []
        if measure_cost and not interrupted:
            try:
                unmeasured = _measure_cost(planned, store, display, disabled)
            except KeyboardInterrupt:  # the runs have finished: their tables are made
                interrupted = True
        metrics, unreadable = load_metrics(registry)
        unreadable = [*planned.left_out, *unreadable, *unmeasured]
        boards = [_board(store, planned, board, metrics, outcome) for board in planned.boards]
    return BenchResult(boards, failed_runs(planned, outcome), unreadable, interrupted)


def request_of(
    scenario: str | Sequence[str],
    strategy: str | Sequence[str],
    model: str | Sequence[str],
    set: Mapping[str, Any] | Sequence[str],
    **request: Any,
) -> Request:
    """A request as notebooks write it: one name or several, seeds as numbers, options as a mapping."""
    if "seeds" in request and not isinstance(request["seeds"], str):
        request["seeds"] = ",".join(str(seed) for seed in request["seeds"])
    for name in ("sweep", "tuned"):
        if name in request:
            given = request[name]
            request[name] = tuple(map(str, (given,) if isinstance(given, str | Path) else given))
    return Request(
        scenario=_names(scenario),
        strategy=_names(strategy),
        model=_names(model),
        set=_assignments(set),
        **request,
    )


def carry_out(
    planned: Plan,
    store: Store,
    asked: Mapping[str, Any],
    *,
    workers: int | None,
    resume: bool,
    force: bool,
    accept_versions: bool,
    checkpoint_every: int,
    display: DisplayName,
    disabled: frozenset[str],
    keep_checkpoints: bool = False,
    save_models: bool = False,
) -> tuple[Mapping[str, dict[str, Any]], bool]:
    """Make the runs of a plan that are not finished in the store; `asked` goes on their record.

    Returns:
        The last event of each run that was started, by its id, and whether Ctrl-C left some undone.

    Raises:
        UsageError: what `Store.todo` refuses, or the workers refuse every run; nothing was written.
    """
    if checkpoint_every < 1 or (workers is not None and workers < 1):
        raise UsageError("--checkpoint-every and --workers must be at least 1")
    todo = store.todo(
        planned, resume=resume, force=force, models=save_models, accept_versions=accept_versions
    )
    jobs = [
        job_of(
            run,
            store,
            asked,
            checkpoint_every=checkpoint_every,
            keep_checkpoints=keep_checkpoints,
            save_models=save_models,
            resume=run.recipe.id in todo.resume,
            disabled=disabled,
        )
        for run in todo.start
    ]
    return _work(planned, todo, jobs, workers, display)


def failed_runs(planned: Plan, outcome: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Run name to the reason why it failed."""
    return {
        planned.runs[run_id].name: str(event.get("reason", ""))
        for run_id, event in outcome.items()
        if event["event"] == "failed"
    }


def stream(
    scenario: str,
    *,
    preset: str = "default",
    seed: int = 0,
    model: str | None = None,
    set: Mapping[str, Any] | Sequence[str] = (),
    text: str = "world",
) -> Stream:
    """The stream that a scenario makes for a seed, as the model's tokenizer reads it; trains nothing.

    Args:
        scenario: name of a scenario.
        preset: name of one of its presets.
        seed: varies data and order.
        model: whose tokenizer; the scenario proposes one.
        set: options as ``{"scenario.loops": 4}`` or ``["scenario.loops=4"]``.
        text: background text.

    Raises:
        UsageError: a name, option or value is wrong, or the preset sweeps an option and `set` does not fix it.
    """
    from seqmem.planning.stream import build_stream, tokenizer_of

    registry = Registry.from_environment()
    request = Request(
        scenario=(scenario,),
        strategy=(registry.load("scenario", scenario).reference,),
        model=() if model is None else (model,),
        preset=preset,
        seeds=str(seed),
        set=_assignments(set),
        text=text,
        device="cpu",
        controls=False,
    )
    runs = list(plan(request, registry).runs.values())
    if len(runs) > 1:
        swept = ", ".join(registry.load("scenario", scenario).sweep[preset])
        raise UsageError(f"preset {preset} of {scenario} sweeps {swept}; set it to one value")
    job = job_of(runs[0], Store(Path()), request.asked())
    return build_stream(job, registry, tokenizer_of(job))[0]


def _board(
    store: Store,
    planned: Plan,
    board: PlannedBoard,
    metrics: Sequence[MetricSpec],
    outcome: Mapping[str, Any],
) -> Board:
    rows = store.rows(planned, board, outcome)
    folder = store.write_bench(planned, board)
    return write_board(folder, board.name, board.scenario, board.primary, rows, metrics)


def _measure_cost(planned: Plan, store: Store, display: DisplayName, disabled: frozenset[str]) -> list[str]:
    """Write what a step of each row costs beside every board; return a line for each row without a figure."""

    def say(text: str) -> None:
        if display != "none":
            print(clean(text), file=sys.stderr, flush=True)

    unmeasured = []
    for board in planned.boards:
        cost = measure_board(planned, board, store, say, disabled)
        store.write_cost(board, cost)
        unmeasured += [
            f"step time of {label}: {row['reason']}" for label, row in cost["rows"].items() if "reason" in row
        ]
    return unmeasured


def _work(
    planned: Plan, todo: Todo, jobs: Sequence[Job], workers: int | None, display: DisplayName
) -> tuple[Mapping[str, dict[str, Any]], bool]:
    if not jobs:
        return {}, False
    shown = choose(display)
    names = {run.recipe.id: run.name for run in todo.start}
    steps = {run.recipe.id: run.outline.steps for run in todo.start}
    with _interruptible() as interrupted:
        shown.begin(names, steps, len(todo.reused))
        try:
            with Workers(
                min(workers or default_workers(planned), len(jobs)), planned.request.threads
            ) as pool:
                outcome = pool.run(jobs, shown.event, interrupted.is_set)
        finally:
            shown.end()
        left = [
            job for job in jobs if outcome.get(job.recipe.id, {}).get("event") not in ("finished", "failed")
        ]
        return outcome, interrupted.is_set() and bool(left)


def default_workers(planned: Plan) -> int:
    """Runs at a time unless the user says otherwise: one per core, on a GPU one."""
    if any(run.recipe.device.startswith("cuda") for run in planned.runs.values()):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // planned.request.threads)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of raising; a second one raises as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _assignments(given: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, Mapping):
        import json

        return tuple(f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in given.items())
    return tuple(given)
