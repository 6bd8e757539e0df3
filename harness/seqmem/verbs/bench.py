"""The bench from end to end, for the command line and for notebooks alike."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmem.core.data import Stream
from seqmem.core.errors import UsageError
from seqmem.core.sanitize import clean
from seqmem.launch.local import Workers
from seqmem.planning.device import cores
from seqmem.planning.grid import Plan, PlannedBoard
from seqmem.planning.job import Job, job_of
from seqmem.planning.plan import plan
from seqmem.planning.request import Execution, Request, keywords, read
from seqmem.planning.store import Store, Todo
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.reader import RunRecord
from seqmem.reporting.board_files import BoardFiles, write_board
from seqmem.scoring.tables import load_metrics
from seqmem.verbs.cost import measure_board
from seqmem.verbs.display import choose, say_notes
from seqmem.verbs.interrupt import ENDED, STOPPING, interruptible
from seqmem.verbs.progress import ProgressFiles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class BenchResult:
    """The outcome of a bench.

    Attributes:
        failed: run name to reason, for runs that did not finish.
        unreadable: models, strategies and metrics that could not be used, each with its reason.
        interrupted: Ctrl-C stopped it; the boards hold what had finished.
    """

    boards: Sequence[BoardFiles]
    failed: Mapping[str, str]
    unreadable: Sequence[str]
    interrupted: bool

    @property
    def board(self) -> BoardFiles:
        """Return the board of a bench of one scenario."""
        return self.boards[0]

    @property
    def table(self) -> pd.DataFrame:
        """Return the first board's table."""
        return self.board.table

    @property
    def values(self) -> pd.DataFrame:
        """Return the first board's per-seed values."""
        return self.board.values

    @property
    def left_out(self) -> list[str]:
        """Name what could not be loaded, and metrics that failed, each with its reason."""
        return [*self.unreadable, *(line for board in self.boards for line in board.broken)]

    def plot(self, row: str) -> Figure:
        """Draw curves of a row of the first board; see `BoardFiles.plot`."""
        return self.board.plot(row)

    def _repr_html_(self) -> str:
        return "".join(board._repr_html_() for board in self.boards)


@keywords(Request, Execution)
def bench(scenario: str | Sequence[str], strategy: str | Sequence[str], **given: Any) -> BenchResult:
    """Run scenarios x strategies x models x seeds with their reference and controls, and make the tables.

    Args:
        scenario: scenario names, one or several.
        strategy: strategy names, one or several.
        **given: any further field of `Request`, which says what is run, and of `Execution`, which says how. Options
            may be a mapping, ``set={"scenario.loops": 4}``, and seeds numbers, ``seeds=[0, 1]``.

    Raises:
        UsageError: the request cannot be carried out; nothing was written.
    """
    request, execution = read(Request, {"scenario": scenario, "strategy": strategy, **given}, "bench")
    registry = Registry.from_environment(execution.disabled)
    planned = plan(request, registry)
    say_notes(planned.notes, execution.display)
    return bench_planned(planned, execution)


def bench_planned(planned: Plan, execution: Execution) -> BenchResult:
    """Make the runs of a plan that are not finished, and its tables.

    Raises:
        UsageError: what `carry_out` raises; nothing was written.
    """
    store = Store(execution.out)
    registry = Registry.from_environment(execution.disabled)
    for note in planned.notes:
        _say(note, execution)
    with store.locked():
        outcome, interrupted = carry_out(planned, store, planned.asked(), execution)
        unmeasured: list[str] = []
        if execution.measure_cost and not interrupted:
            try:
                unmeasured = _measure_cost(planned, store, execution)
            except KeyboardInterrupt:  # the runs have finished: their tables are made
                interrupted = True
        metrics, unreadable = load_metrics(registry)
        unreadable = [*planned.left_out, *unreadable, *unmeasured]
        boards = [_board(store, planned, board, metrics, outcome) for board in planned.boards]
        failed = failed_runs(planned, outcome)
        if not interrupted:
            failed |= {name: why for name, why in store.unfinished(planned).items() if name not in failed}
    return BenchResult(boards, failed, unreadable, interrupted)


def carry_out(
    planned: Plan, store: Store, asked: Mapping[str, Any], execution: Execution
) -> tuple[Mapping[str, dict[str, Any]], bool]:
    """Make the runs of a plan that are not finished in the store; `asked` goes on their record.

    Returns:
        The last event of each run that was started, by its id, and whether Ctrl-C left some undone.

    Raises:
        UsageError: what `Store.todo` refuses, or the workers refuse every run; nothing was written.
    """
    todo = store.todo(
        planned,
        resume=execution.resume,
        force=execution.force,
        models=execution.save_models,
        accept_versions=execution.accept_versions,
    )
    jobs = [job_of(run, store, asked, execution, resume=run.recipe.id in todo.resume) for run in todo.start]
    return _work(planned, todo, jobs, execution)


def failed_runs(planned: Plan, outcome: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the runs that failed, by name, each with its reason."""
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
    """Build the stream that a scenario makes for a seed, as the model's tokenizer reads it; trains nothing.

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
    request, _ = read(
        Request,
        {
            "scenario": scenario,
            "strategy": registry.load("scenario", scenario).reference,
            "model": () if model is None else model,
            "preset": preset,
            "seeds": str(seed),
            "set": set,
            "text": text,
            "device": "cpu",
            "controls": False,
        },
        "stream",
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
) -> BoardFiles:
    rows = store.rows(planned, board, outcome)
    folder = store.write_bench(planned, board)
    return write_board(folder, board.name, board.scenario, board.primary, rows, metrics)


def _measure_cost(planned: Plan, store: Store, execution: Execution) -> list[str]:
    """Write what a step of each row costs beside every board; return a line for each row without a figure."""
    unmeasured = []
    for board in planned.boards:
        cost = measure_board(planned, board, store, partial(_say, execution=execution), execution.disabled)
        store.write_cost(board, cost)
        unmeasured += [
            f"step time of {label}: {row['reason']}" for label, row in cost["rows"].items() if "reason" in row
        ]
    return unmeasured


def _say(text: str, execution: Execution) -> None:
    if execution.display != "none":
        print(clean(text), file=sys.stderr, flush=True)


def _work(
    planned: Plan, todo: Todo, jobs: Sequence[Job], execution: Execution
) -> tuple[Mapping[str, dict[str, Any]], bool]:
    if not jobs:
        return {}, False
    display = choose(execution.display)
    watchers = (display, ProgressFiles({j.recipe.id: Path(j.folder) for j in jobs}))

    def on_event(run: str, event: Mapping[str, Any]) -> None:
        for watcher in watchers:
            watcher.event(run, event)

    def on_tick() -> None:
        for watcher in watchers:
            watcher.tick()

    def stop() -> bool:
        if interrupted.is_set() and not told:
            told.append(STOPPING)
            display.note(STOPPING)
        return interrupted.is_set()

    told: list[str] = []
    names = {run.recipe.id: run.name for run in todo.start}
    steps = {run.recipe.id: run.outline.steps for run in todo.start}
    with interruptible() as interrupted:
        for watcher in watchers:
            watcher.begin(names, steps, len(todo.reused))
        try:
            with Workers(
                min(execution.workers or default_workers(planned), len(jobs)), planned.threads
            ) as pool:
                outcome = pool.run(jobs, on_event, stop, on_tick, _doubt)
        except KeyboardInterrupt:
            display.note(ENDED)
            raise
        finally:
            for watcher in watchers:
                watcher.end()
        left = [
            job for job in jobs if outcome.get(job.recipe.id, {}).get("event") not in ("finished", "failed")
        ]
        return outcome, interrupted.is_set() and bool(left)


def _doubt(job: Job) -> str:
    """Return why the record of a run that is said to have finished shows that it has not."""
    try:
        record = RunRecord.open(Path(job.folder))
    except UsageError as error:
        return str(error)
    if record.id != job.recipe.id:
        return f"its record is that of run {record.id}"
    return "" if record.status == "finished" else f"its record says {record.status}"


def default_workers(planned: Plan) -> int:
    """Return how many runs go on at a time unless the user says otherwise: one per core, on a GPU one."""
    if any(run.recipe.device.startswith("cuda") for run in planned.runs.values()):
        return 1
    return max(1, cores() // planned.threads)
