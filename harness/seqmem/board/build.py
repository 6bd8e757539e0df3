"""What is made of a standing board's records: tables, figures, the manifest, and the page over several boards."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqmem.board.published import (
    FIGURES,
    HOME,
    MANIFEST,
    RECORDS,
    SEARCHES,
    Progress,
    Standing,
    read_standing,
)
from seqmem.board.rules import RULES, Rules
from seqmem.core.errors import UsageError
from seqmem.core.sanitize import file_name
from seqmem.planning.store import COST
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import MetricSpec
from seqmem.record.compact import sha256
from seqmem.record.row import Row
from seqmem.record.schema import json_text, write_json
from seqmem.reporting.exports import to_csv, to_json
from seqmem.reporting.markdown import escape_markdown, to_markdown
from seqmem.scoring.comparison import Table, tabulate
from seqmem.scoring.pool import scores_of
from seqmem.scoring.scores import sound
from seqmem.scoring.tables import load_metrics


def metric_versions(registry: Registry) -> dict[str, str]:
    """Installed metrics by name, with their versions."""
    return {metric.name: metric.version for metric in load_metrics(registry)[0]}


def manifest_of(folder: Path, metrics: Mapping[str, str]) -> dict[str, Any]:
    """What ``manifest.json`` must say of a board."""
    named = [RULES, COST]
    found = [folder / name for name in named if (folder / name).exists()]
    for part in (RECORDS, SEARCHES, FIGURES):
        found += [path for path in (folder / part).rglob("*") if path.is_file()]
    return {
        "format": 1,
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(found)},
        "metrics": dict(sorted(metrics.items())),
    }


def write_manifest(folder: Path, metrics: Mapping[str, str]) -> None:
    """Write ``manifest.json`` of a board."""
    write_json(folder / MANIFEST, manifest_of(folder, metrics))


def with_margin(metrics: Sequence[MetricSpec], rules: Rules) -> list[MetricSpec]:
    """The metrics, the primary measure with the board's own margin where it states one."""
    if rules.margin is None:
        return list(metrics)
    return [
        replace(
            metric,
            measures=tuple(
                replace(measure, margin=rules.margin) if measure.name == rules.primary else measure
                for measure in metric.measures
            ),
        )
        for metric in metrics
    ]


def score_standing(
    standing: Standing, metrics: Sequence[MetricSpec], pool: Executor | None = None
) -> tuple[Table, list[str]]:
    """The board's table, and a line for every metric that failed on it; `pool` as `scores_of` takes it."""
    rules = standing.rules
    scores, intact, broken = scores_of(standing.rows, metrics, standing.judge.registry, pool)
    table = tabulate(standing.rows, with_margin(intact, rules), {rules.scenario: rules.primary}, scores)
    return table, broken


def table_files(standing: Standing, table: Table) -> dict[str, str]:
    """The text of every table file of a board.

    ``table.json`` holds what has a value: cells, verdicts, ranks, and the value of every seed as
    ``{row: {measure: {seed: value}}}``; why others have none stands in ``table.csv``.
    """
    stated = json.loads(to_json(table))
    stated["cells"] = [cell for cell in stated["cells"] if cell["mean"] is not None]
    values: dict[str, dict[str, dict[str, float]]] = {}
    for one in stated.pop("scores"):
        if one["value"] is not None:
            measures = values.setdefault(one["row"], {})
            measures.setdefault(one["measure"], {})[str(one["seed"])] = one["value"]
    return {
        "TABLE.md": to_markdown(table) + _rules_in_words(standing),
        "table.csv": to_csv(table),
        "table.json": json_text({**stated, "values": values}),
    }


def _rules_in_words(standing: Standing) -> str:
    """The rules as a section of ``TABLE.md``."""
    rules = standing.rules
    chosen = "hyper-parameters are the defaults"
    if rules.hyperparameters == "searched":
        chosen = (
            f"hyper-parameters are the defaults, or chosen by a search of at most {rules.budget} runs on seeds "
            f"{rules.tuning_seeds}"
        )
    lines = [
        rules.question,
        f"Scenario {rules.scenario} version {rules.version}, preset {rules.preset}, seeds {rules.seeds}, "
        f"at least {rules.least} per row; controls: {', '.join(rules.controls) or 'none'}.",
        f"Ranked by {rules.primary} against {rules.reference}; {chosen}; "
        f"optimizer {rules.optimizer}; text {rules.text}; {rules.dtype}.",
        "Models: "
        + ", ".join(f"{name} ({print_[:16]})" for name, print_ in sorted(rules.models.items()))
        + ".",
        rules.eligibility,
    ]
    return "\n".join(["", "## Rules", "", *(f"- {escape_markdown(line)}" for line in lines), ""])


def build(
    folder: Path,
    metrics: Sequence[MetricSpec],
    registry: Registry,
    progress: Progress = lambda text: None,
    pool: Executor | None = None,
) -> tuple[Standing, Table, list[str]]:
    """Write tables, figures and manifest of a standing board from its records; `pool` as `scores_of` takes it.

    Returns:
        The board, its table, and a line for every metric that failed.

    Raises:
        UsageError: the board cannot be read, or has no rows.
    """
    progress(f"{folder.name}: reading")
    standing = read_standing(folder, registry)
    if not standing.rows:
        raise UsageError(f"{folder}: no rows yet; `seqmem leaderboard submit` brings some")
    progress(f"{folder.name}: scoring {len(standing.rows)} rows")
    table, broken = score_standing(standing, metrics, pool)
    for name, text in table_files(standing, table).items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    broken += _draw(standing, metrics, progress)
    write_manifest(folder, {metric.name: metric.version for metric in metrics})
    return standing, table, broken


def _draw(standing: Standing, metrics: Sequence[MetricSpec], progress: Progress) -> list[str]:
    """Draw the metrics' figures anew, as SVG only; a line for every figure that failed.

    Curves of single rows are on the page: as files they would take more room than the records.
    """
    from seqmem.reporting.figures import draw_metric

    broken: list[str] = []
    rows = sound(standing.rows)
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary)
        for metric in metrics:
            progress(f"{standing.folder.name}: drawing {metric.name}")
            try:
                draw_metric(metric, rows, drawn / file_name(metric.name))
            except Exception as error:  # a plugin's figure must not cost the table
                broken.append(f"figure of metric {metric.name!r}: {type(error).__name__}: {error}")
        figures = standing.folder / FIGURES
        shutil.rmtree(figures, ignore_errors=True)
        figures.mkdir()
        for path in sorted(drawn.glob("*.svg")):
            shutil.copyfile(path, figures / path.name)
    return broken


def index_page(built: Sequence[tuple[Standing, Table]]) -> str:
    """The page over several boards, as `report.page` makes it.

    Raises:
        ImportError: what the page is made with is not installed.
    """
    from seqmem.reporting import Part, page

    parts = [
        Part(
            standing.rules.name,
            table,
            standing.rows,
            reproduce(standing),
            rules={name: value for name, value in standing.rules.model_dump(mode="json").items() if value},
            question=standing.rules.question,
        )
        for standing, table in built
    ]
    return page("Leaderboards", parts)


def reproduce(standing: Standing) -> str:
    """The commands that make the runs of a board again: rows with their defaults, then those that were tuned."""
    tuned = [row for row in standing.rows if row.label in standing.searches]
    plain = [row for row in standing.rows if row not in tuned]
    lines = [_bench(standing, plain, ())] if plain else []
    # one at a time: a bench takes one search per strategy
    lines += [
        _bench(standing, [row], (f"{HOME}/{standing.rules.name}/{SEARCHES}/{file_name(row.label)}.json",))
        for row in tuned
    ]
    return "\n".join(lines)


def _bench(standing: Standing, rows: Sequence[Row], searches: Sequence[str]) -> str:
    import shlex

    rules, spec = standing.rules, standing.judge.scenario
    words = ["seqmem", "bench", "--scenario", rules.scenario]
    for strategy in dict.fromkeys(str(row.facts["strategy"]) for row in rows):
        words += ["--strategy", strategy]
    models = sorted({str(row.facts["model"]) for row in rows})
    for model in models if models != [spec.models.get(rules.preset, spec.model).partition("@")[0]] else ():
        words += ["--model", model]
    words += ["--preset", rules.preset] * (rules.preset != "default")
    words += ["--seeds", rules.seeds]
    for option, value in (("dtype", rules.dtype), ("probing", rules.probing), ("text", rules.text)):
        words += [f"--{option}", value] * (value != Rules.model_fields[option].default)
    for path in searches:
        words += ["--tuned", path]
    return shlex.join(words)
