"""Build what is printed of a published board: tables, figures, and the page over several boards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from seqmem.board.layout import FIGURES, HOME, Progress, search_file, write_manifest
from seqmem.board.published import PublishedBoard, read_board
from seqmem.board.rules import Rules
from seqmem.core.errors import UsageError, unknown
from seqmem.core.measures import Measure
from seqmem.core.sanitize import file_name
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.files import json_text, write_text
from seqmem.record.row import Row
from seqmem.reporting.exports import json_values, to_csv
from seqmem.reporting.markdown import escape_markdown, to_markdown
from seqmem.scoring.comparison import Comparison, Table, tabulate
from seqmem.scoring.pool import scores_of
from seqmem.scoring.scores import sound
from seqmem.scoring.tables import load_metrics


def metric_versions(registry: Registry) -> dict[str, str]:
    """Return the versions of the installed metrics by name."""
    return {metric.name: metric.version for metric in load_metrics(registry)[0]}


def by_rules(metrics: Sequence[MetricSpec], rules: Rules) -> list[MetricSpec]:
    """Return the metrics with the gates of the board's rules, and with their margin of the primary measure."""

    def ruled(measure: Measure) -> Measure:
        own = rules.margin is not None and measure.name == rules.primary
        return replace(
            measure, gate=rules.gates.get(measure.name), margin=rules.margin if own else measure.margin
        )

    return [replace(metric, measures=tuple(map(ruled, metric.measures))) for metric in metrics]


def score_board(
    board: PublishedBoard, metrics: Sequence[MetricSpec], pool: Executor | None = None
) -> tuple[Table, list[str]]:
    """Return the board's table, and a line for every metric that failed; `pool` as `scores_of` takes it.

    Raises:
        UsageError: no metric gives a measure that the board's rules have as a gate.
    """
    rules = board.rules
    scores, intact, broken = scores_of(board.rows, metrics, board.judge.registry, pool)
    _check_gates(rules, intact)
    table = tabulate(board.rows, by_rules(intact, rules), {rules.scenario: rules.primary}, scores)
    for one in table.boards:
        _check_gates_have_values(rules, one)
    return table, broken


def _check_gates(rules: Rules, metrics: Sequence[MetricSpec]) -> None:
    """Refuse a board that asks for what no metric gives: its rows would be ranked as if they had passed.

    Raises:
        UsageError: naming the gate.
    """
    directed = {one.name for metric in metrics for one in metric.measures if one.direction != "none"}
    for name in rules.gates:
        if name not in directed:
            raise UsageError(
                f"{rules.name}: gates: {unknown('measure', name, directed)} A metric that gives it was left out, "
                "failed, or says of no direction that it is better."
            )


def _check_gates_have_values(rules: Rules, comparison: Comparison) -> None:
    """Refuse a board that asks for what this scenario has no value of: its gate would be open to every row.

    Raises:
        UsageError: naming the gate, and why the reference has no value.
    """
    reference, asked = str(comparison.reference), {gate.name for gate in comparison.gates}
    if reference not in {row.label for row in comparison.rows}:  # it has not been submitted yet
        return
    for name in (name for name in rules.gates if name not in asked):
        why = comparison.cells[reference, name].reason
        raise UsageError(
            f"{rules.name}: gates: {reference} has no value of {name} ({why}); take it out of the rules"
        )


def _table_files(board: PublishedBoard, table: Table) -> dict[str, str]:
    """Return the text of every table file of a board.

    ``table.json`` holds what has a value: cells, verdicts, ranks, and the value of every seed as
    ``{row: {measure: {seed: value}}}``; why others have none stands in ``table.csv``.
    """
    stated = json_values(table)
    stated["cells"] = [cell for cell in stated["cells"] if cell["mean"] is not None]
    values: dict[str, dict[str, dict[str, float]]] = {}
    for one in stated.pop("scores"):
        if one["value"] is not None:
            measures = values.setdefault(one["row"], {})
            measures.setdefault(one["measure"], {})[str(one["seed"])] = one["value"]
    return {
        "TABLE.md": to_markdown(table) + _rules_in_words(board),
        "table.csv": to_csv(table),
        "table.json": json_text({**stated, "values": values}),
    }


def _rules_in_words(board: PublishedBoard) -> str:
    """Return the rules as a section of ``TABLE.md``."""
    rules = board.rules
    chosen = "hyper-parameters are the defaults"
    if rules.hyperparameters == "searched":
        chosen = (
            f"hyper-parameters are the defaults, or chosen by a search of at most {rules.budget} runs on seeds "
            f"{rules.tuning_seeds}"
        )
    if rules.hyperparameters == "equal_search":
        searched = f"{rules.budget} runs on seeds {rules.tuning_seeds}"
        chosen = f"every row, {rules.reference} too, was searched with {searched}"
    gates = ", ".join(f"{name} {gate:g}" for name, gate in rules.gates.items())
    lines = [
        rules.question,
        f"Scenario {rules.scenario} version {rules.version}, preset {rules.preset}, seeds {rules.seeds}, "
        f"at least {rules.least} per row; controls: {', '.join(rules.controls) or 'none'}.",
        f"Ranked by {rules.primary} against {rules.reference}; {chosen}; "
        f"optimizer {rules.optimizer}; text {rules.text}; {rules.dtype}.",
        f"Gates, losses against {rules.reference} that a ranked row stays within: {gates or 'none'}.",
        "Models: "
        + ", ".join(f"{name} ({print_[:16]})" for name, print_ in sorted(rules.models.items()))
        + ".",
        rules.eligibility,
    ]
    return "\n".join(["", "## Rules", "", *(f"- {escape_markdown(line)}" for line in lines), ""])


def write_tables(
    board: PublishedBoard, metrics: Sequence[MetricSpec], to: Path, pool: Executor | None = None
) -> tuple[Table, list[str]]:
    """Write the table files of a board into a folder; returns as `score_board`."""
    table, broken = score_board(board, metrics, pool)
    for name, text in _table_files(board, table).items():
        write_text(to / name, text)
    return table, broken


def build(
    folder: Path,
    metrics: Sequence[MetricSpec],
    registry: Registry,
    progress: Progress = lambda text: None,
    pool: Executor | None = None,
) -> tuple[PublishedBoard, Table, list[str]]:
    """Write tables, figures and manifest of a published board from its records; `pool` as `scores_of` takes it.

    Returns:
        The board, its table, and a line for every metric that failed.

    Raises:
        UsageError: the board cannot be read, or has no rows.
    """
    progress(f"{folder.name}: reading")
    board = read_board(folder, registry)
    if not board.rows:
        raise UsageError(f"{folder}: no rows yet; `seqmem leaderboard submit` brings some")
    progress(f"{folder.name}: scoring {len(board.rows)} rows")
    table, broken = write_tables(board, metrics, folder, pool)
    broken += _draw(board, table, metrics, progress)
    write_manifest(folder, {metric.name: metric.version for metric in metrics})
    return board, table, broken


def _draw(
    board: PublishedBoard, table: Table, metrics: Sequence[MetricSpec], progress: Progress
) -> list[str]:
    """Draw the metrics' figures anew, as SVG only; returns a line for every figure that failed.

    Curves of single rows are on the page: as files they would take more room than the records.
    """
    from seqmem.reporting.figures import draw_metric
    from seqmem.reporting.trade_off import draw_trade_offs

    broken: list[str] = []
    rows = sound(board.rows)
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary)
        draw_trade_offs(table, drawn)
        for metric in metrics:
            progress(f"{board.folder.name}: drawing {metric.name}")
            try:
                draw_metric(metric, rows, drawn / file_name(metric.name))
            except Exception as error:  # a plugin's figure must not cost the table
                broken.append(f"figure of metric {metric.name!r}: {type(error).__name__}: {error}")
        figures = board.folder / FIGURES
        shutil.rmtree(figures, ignore_errors=True)
        figures.mkdir()
        for path in sorted(drawn.glob("*.svg")):
            shutil.copyfile(path, figures / path.name)
    return broken


def index_page(built: Sequence[tuple[PublishedBoard, Table]]) -> str:
    """Return the page over several boards, as `reporting.page` makes it.

    Raises:
        ImportError: what the page is made with is not installed.
    """
    from seqmem.reporting import Part, page

    parts = [
        Part(
            board.rules.name,
            table,
            board.rows,
            reproduce(board),
            rules={name: value for name, value in board.rules.model_dump(mode="json").items() if value},
            question=board.rules.question,
        )
        for board, table in built
    ]
    return page("Leaderboards", parts)


def reproduce(board: PublishedBoard) -> str:
    """Return the commands that make the runs of a board again: one, unless a strategy has several rows."""
    benches: list[list[Row]] = []
    for row in board.rows:
        # a bench takes one search per strategy
        for bench in benches:
            if row.facts["strategy"] not in [one.facts["strategy"] for one in bench]:
                bench.append(row)
                break
        else:
            benches.append([row])
    return "\n".join(_bench(board, rows) for rows in benches)


def _bench(board: PublishedBoard, rows: Sequence[Row]) -> str:
    import shlex

    rules, spec = board.rules, board.judge.scenario
    words = ["seqmem", "bench", "--scenario", rules.scenario]
    for strategy in dict.fromkeys(str(row.facts["strategy"]) for row in rows):
        words += ["--strategy", strategy]
    models = sorted({str(row.facts["model"]) for row in rows})
    for model in models if models != [spec.models.get(rules.preset, spec.model).partition("@")[0]] else ():
        words += ["--model", model]
    words += ["--preset", rules.preset] * (rules.preset != "default")
    words += ["--seeds", rules.seeds]
    for option, name in (("precision", "dtype"), ("probing", "probing"), ("text", "text")):
        value = getattr(rules, name)
        words += [f"--{option}", value] * (value != Rules.model_fields[name].default)
    for row in rows:
        if row.label in board.searches:
            words += ["--tuned", search_file(HOME / rules.name, row.label).as_posix()]
    return shlex.join(words)
