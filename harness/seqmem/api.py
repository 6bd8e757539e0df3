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

from seqmem.display import DisplayName, choose
from seqmem.errors import PluginError, UsageError, unknown
from seqmem.launch import Workers
from seqmem.leaderboard import Row, Table, failures, score_rows, sound, tabulate
from seqmem.plan import Plan, PlannedBoard, PlannedRun, Request, file_name, plan
from seqmem.recipe import Job
from seqmem.registry import Registry
from seqmem.store import Store, Todo, find_boards, read_bench
from seqmem.tables import to_csv, to_json, to_markdown, to_records
from seqmem.text import clean
from seqmem.types import MetricSpec, Stream

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CHECKPOINT_EVERY = 50
MOST_CURVES = 12
"""Swept rows up to which each has a figure of its own."""


@dataclass(frozen=True)
class Board:
    """A finished table.

    Attributes:
        folder: where its Markdown, CSV, JSON and figures lie.
        rows: the records behind it.
        leaderboard: values, intervals and differences.
        broken: metrics that failed on these records, each with its reason.
    """

    name: str
    folder: Path
    rows: Sequence[Row]
    leaderboard: Table
    broken: Sequence[str]

    @property
    def table(self) -> pd.DataFrame:
        """One line per row and measure: mean, interval, difference to the reference."""
        import pandas as pd

        return pd.DataFrame(to_records(self.leaderboard))

    @property
    def values(self) -> pd.DataFrame:
        """One line per row, seed and measure."""
        return self.leaderboard.scores

    @property
    def figures(self) -> list[Path]:
        """The PNG figures."""
        return sorted(self.folder.glob("figures/*.png"))

    def plot(self, row: str) -> Figure:
        """Recall and answer loss of a row over steps, as a matplotlib figure a notebook shows.

        Raises:
            UsageError: there is no such row, or nothing of it to draw.
        """
        from seqmem.figures import curves_figure

        found = {listed.label: listed for listed in self.rows}
        if row not in found:
            raise UsageError(unknown("row", row, found))
        return curves_figure(found[row])

    def _repr_html_(self) -> str:
        """The table, in a notebook."""
        return str(self.table.to_html())


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
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: keep the last checkpoints of finished runs.
        save_models: leave every trained model in its record, as transformers loads it.
        measure_cost: time every row's steps beside the reference's, see `seqmem.cost_ratio`.
        display: what to show meanwhile.
        disabled: plugins to leave out.
        **request: any further field of `seqmem.plan.Request`: preset, seeds, sweep, tuned, text, optimizer, lr,
            revision, dtype, attention, device, threads, probing, reference, controls.

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
            checkpoint_every=checkpoint_every,
            keep_checkpoints=keep_checkpoints,
            save_models=save_models,
            display=display,
            disabled=disabled,
        )
        unmeasured: list[str] = []
        if measure_cost and not interrupted:
            try:
                unmeasured = _measure_cost(planned, store, registry, display)
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
        UsageError: what `Store.todo` refuses, or what the first worker refuses; nothing was written.
    """
    if checkpoint_every < 1 or (workers is not None and workers < 1):
        raise UsageError("--checkpoint-every and --workers must be at least 1")
    todo = store.todo(planned, resume=resume, force=force, models=save_models)
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
    from seqmem.runner import build_stream, tokenizer_of

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


def rebuild(path: Path, disabled: frozenset[str] = frozenset()) -> tuple[list[Board], list[str]]:
    """Make the tables and figures of stored boards again, from their records alone.

    Returns:
        The boards, and the metrics that could not be loaded, each with its reason.

    Raises:
        UsageError: there is no board at `path`.
    """
    metrics, unreadable = load_metrics(Registry.from_environment(disabled))
    boards = []
    for folder in find_boards(path):
        described, rows = read_bench(folder)
        boards.append(
            write_board(folder, described["name"], described["scenario"], described["primary"], rows, metrics)
        )
    return boards, unreadable


def load_metrics(registry: Registry) -> tuple[list[MetricSpec], list[str]]:
    """Every metric that can be loaded, and a line for every one that cannot."""
    metrics, unreadable = [], []
    for listed in registry.names("metric"):
        try:
            metrics.append(registry.load("metric", listed.name))
        except PluginError as error:
            unreadable.append(str(error))
    return metrics, unreadable


def score(
    scenario: str, primary: str, rows: Sequence[Row], metrics: Sequence[MetricSpec]
) -> tuple[Table, list[str]]:
    """The rows' table; a metric that fails is left out and named with its reason, the others go on."""
    import pandas as pd

    scores, intact, broken = [score_rows(rows, [])], [], []
    for metric in metrics:
        try:
            scores.append(score_rows(rows, [metric]))
            intact.append(metric)
        except PluginError as error:
            broken.append(str(error))
    filled = [frame for frame in scores if len(frame)] or scores[:1]
    table = tabulate(rows, intact, {scenario: primary}, pd.concat(filled, ignore_index=True))
    return table, [*broken, *failures(table.scores)]


def write_board(
    folder: Path, name: str, scenario: str, primary: str, rows: Sequence[Row], metrics: Sequence[MetricSpec]
) -> Board:
    """Score the rows, write tables and figures."""
    from seqmem.figures import draw_curves, draw_metric, draw_sweep, has_curves

    table, broken = score(scenario, primary, rows, metrics)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (
        ("table.md", to_markdown(table)),
        ("table.csv", to_csv(table)),
        ("table.json", to_json(table)),
    ):
        (folder / file).write_text(text, encoding="utf-8")
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    drawn = sound(rows)
    many = sum(bool(row.swept) for row in drawn) > MOST_CURVES
    for row in drawn:
        # of a fine sweep, or one over learning rates or stream sizes, the other figures tell more
        surface = any(many or not option.startswith("strategy.") for option in row.swept)
        if not surface and has_curves(row):
            draw_curves(row, figures / file_name(f"curves {row.label}"))
    for metric in metrics:
        try:
            draw_metric(metric, drawn, figures / file_name(metric.name))
        except Exception as error:  # a plugin's figure must not cost the table
            broken.append(f"figure of metric {metric.name!r}: {type(error).__name__}: {error}")
    if any(row.swept for row in rows):
        for metric in metrics:
            measure = metric.measures[0]
            if table.scores.loc[table.scores["measure"] == measure.name, "value"].notna().any():
                draw_sweep(rows, table.scores, measure, figures / file_name(f"sweep {metric.name}"))
    return Board(name, folder, rows, table, broken)


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


def _measure_cost(planned: Plan, store: Store, registry: Registry, display: DisplayName) -> list[str]:
    """Write what a step of each row costs beside every board; a line for each row that cannot be measured."""
    from seqmem.cost_ratio import measure_board

    def say(text: str) -> None:
        if display != "none":
            print(clean(text), file=sys.stderr, flush=True)

    unmeasured = []
    for board in planned.boards:
        cost = measure_board(planned, board, registry, say)
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


def job_of(
    run: PlannedRun,
    store: Store,
    asked: Mapping[str, Any],
    *,
    checkpoint_every: int = CHECKPOINT_EVERY,
    keep_checkpoints: bool = False,
    save_models: bool = False,
    resume: bool = False,
    disabled: frozenset[str] = frozenset(),
) -> Job:
    """What a worker needs to carry out a planned run."""
    return Job(
        recipe=run.recipe,
        asked=dict(asked),
        folder=str(store.record_folder(run).absolute()),
        scenario_options=dict(run.scenario_options),
        text_options=dict(run.text_options),
        model_folder=str(run.model_folder.absolute()),
        checkpoint_every=checkpoint_every,
        keep_checkpoints=keep_checkpoints,
        save_model=save_models,
        resume=resume,
        disabled=sorted(disabled),
    )


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _assignments(given: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, Mapping):
        import json

        return tuple(f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in given.items())
    return tuple(given)
