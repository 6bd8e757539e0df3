"""The page: what is computed here and what the template shows. The same records give the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from seqmem.core.digits import fixed, rounded, ten_digits
from seqmem.core.measures import Measure
from seqmem.core.sanitize import clean
from seqmem.record.row import Row
from seqmem.reporting import charts, curves, provenance
from seqmem.reporting.answers import answers
from seqmem.reporting.tables import chance_text
from seqmem.reporting.words import Verdict, in_order, judge, recall_when_last_asked, summary
from seqmem.scoring.comparison import Board, Cell, Table
from seqmem.scoring.numbers import format_interval, format_p
from seqmem.scoring.scores import sound
from seqmem.scoring.size_trend import arm_of

MOST_BYTES = 3_000_000
"""No page is larger, unless its tables alone are."""

_ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


@dataclass(frozen=True)
class Part:
    """One scenario's results on the page.

    Attributes:
        name: heading, usually the scenario's name and version.
        rows: the records behind the table.
        reproduce: the command that makes the runs again.
        rules: what a published board holds fixed.
        question: what the scenario asks, in a sentence; the primary measure speaks for itself without one.
    """

    name: str
    table: Table
    rows: Sequence[Row]
    reproduce: str
    rules: Mapping[str, Any] | None = None
    question: str = ""


@dataclass(frozen=True)
class _Detail:
    """How much of the records travels with the page; the first that fits is taken."""

    steps: int
    facts: int
    seeds: int
    ladder: bool
    rows: int = 60


_DETAILS = (
    _Detail(steps=160, facts=16, seeds=3, ladder=True),
    _Detail(steps=120, facts=12, seeds=2, ladder=True),
    _Detail(steps=120, facts=8, seeds=2, ladder=False),
    _Detail(steps=100, facts=8, seeds=1, ladder=False),
    _Detail(steps=80, facts=4, seeds=1, ladder=False),
    _Detail(steps=50, facts=4, seeds=1, ladder=False, rows=20),
    _Detail(steps=40, facts=0, seeds=0, ladder=False, rows=20),
)


def page(title: str, parts: Sequence[Part]) -> str:
    """One HTML file with everything in it: verdicts, tables, curves, answers, provenance.

    Args:
        title: of the document; text from outside like every name on the page.
        parts: one or several scenarios; several get a contents list.
    """
    environment = Environment(
        loader=PackageLoader("seqmem.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        # whatever the template prints that is no markup of ours, attributes included
        finalize=lambda value: clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["t"] = _isolated
    source = environment.loader
    assert source is not None
    script = source.get_source(environment, "page.js")[0]
    style = source.get_source(environment, "page.css")[0]
    sections = [_section(part) for part in parts]

    def render(data: list[dict[str, Any]]) -> str:
        return environment.get_template("page.html.jinja").render(
            title=title,
            sections=list(zip(sections, data, strict=True)),
            policy=_policy(charts_bundle(), script),
            style=Markup(style),
            bundle=Markup(charts_bundle()),
            script=Markup(script),
            specs=_json_block(_specs()),
            data=_json_block([{"curves": one["curves"], "answers": one["answers"]} for one in data]),
        )

    nothing: dict[str, Any] = {"curves": None, "answers": None, "left_out": []}
    room = MOST_BYTES - len(render([nothing for _ in parts]).encode())
    read = [_Reading(part) for part in parts]
    made = [nothing for _ in parts]
    for detail in _DETAILS:
        made = [reading.data(detail) for reading in read]
        if len(str(_json_block(made)).encode()) <= room:
            break
    return render(made)


@lru_cache(maxsize=1)
def charts_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the installed `vl-convert-python`."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # inside <script> these two would end it or hide its end; in strings and patterns they mean the same
    return bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _policy(*scripts: str) -> str:
    """A content security policy under which nothing is loaded and no other script runs."""
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def _json_block(value: Any) -> Markup:
    """JSON for a script tag: no character in it can end the tag."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _isolated(text: object) -> Markup:
    """Text from outside: one line, escaped, and unable to turn the direction of what stands around it."""
    return Markup("<bdi>{}</bdi>").format(clean(str(text)))


def _specs() -> dict[str, Any]:
    return {
        "recall": charts.curve("recall", "recall (share right)", share=True),
        "loss": charts.curve("loss", "answer loss (nats per token)", share=False),
        "answer": charts.answer(),
        "results": charts.results(""),
        "look": {
            "colours": charts.COLOURS,
            "dashes": charts.DASHES,
            "shapes": charts.SHAPES,
            "twins": charts.TWINS,
            "findings": {name: look[0] for name, look in charts.FINDINGS.items()},
        },
    }


class _Notes:
    """Reasons for what is missing, numbered in order of first use."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> Markup:
        """A link-free mark such as ² for a reason; nothing for no reason."""
        if not text:
            return Markup("")
        if text not in self.texts:
            self.texts.append(text)
        return Markup('<sup class="note" title="{}">{}</sup>').format(clean(text), self.texts.index(text) + 1)


@dataclass(frozen=True)
class _Field:
    """A cell: what is shown and what it is sorted by, None last."""

    shown: Markup
    value: float | str | None = None

    @property
    def key(self) -> float | str | None:
        """The value as the page holds it."""
        return ten_digits(self.value) if isinstance(self.value, float) else self.value


def _section(part: Part) -> dict[str, Any]:
    """What the template prints of one part."""
    boards, notes = part.table.boards, _Notes()
    verdicts = {row.label: judge(board, row) for board in boards for row in board.rows}
    models = list(dict.fromkeys(board.model for board in boards))
    recorded = [run for row in part.rows for run in row.runs.values()]
    questions = any(run.info["primary_relation"] != "general" for run in recorded)
    controls = sorted(
        {name for row in part.rows for name, runs in row.controls.items() if runs and questions}
    )
    timed = any(row.cost is not None for row in part.rows)
    return {
        "name": part.name,
        "question": part.question,
        "measured": _measured(boards[0]),
        "setting": _setting(part, len(models)),
        "boards": [
            {
                "model": board.model if len(models) > 1 else "",
                "summary": summary(board, [verdicts[row.label] for row in in_order(board)]),
                "measure": board.primary.summary or board.primary.name,
                "verdicts": [verdicts[row.label] for row in in_order(board)],
                "chart": _json_block(_results(board, verdicts)),
                "drawn": sum(verdicts[row.label].seeds > 0 for row in board.rows),
                "count": len(board.rows),
            }
            for board in boards
        ],
        "columns": _columns(boards, len(models) > 1, controls, questions, timed),
        "lines": [
            _line(board, row, verdicts[row.label], len(models) > 1, controls, questions, timed, notes)
            for board in boards
            for row in in_order(board)
        ],
        "chance": [chance_text(board.chance) for board in boards[:1] if board.chance is not None],
        "measures": [_measures(board, len(models) > 1, notes) for board in boards],
        "notes": notes.texts,
        "failed": [
            f"{row.label}, seed {seed}: {row.failed[seed]}"
            for row in part.rows
            for seed in sorted(row.failed)
        ],
        "common": provenance.common(part.rows),
        "origins": [provenance.origin(row) for row in part.rows],
        "contamination": provenance.contamination(part.rows),
        "rules": sorted((str(name), _plain(value)) for name, value in (part.rules or {}).items()),
        "reproduce": part.reproduce,
    }


def _plain(value: Any) -> str:
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    )


def _measured(board: Board) -> str:
    """What the verdict is about, in one line."""
    primary = board.primary
    what = primary.summary or primary.name
    direction = {"higher": "higher is better", "lower": "lower is better", "none": "neither way is better"}
    return f"{what[:1].upper()}{what[1:]} ({primary.name}, {direction[primary.direction]})"


def _setting(part: Part, models: int) -> str:
    """How the runs were made, in one line."""
    firsts = [row.runs[min(row.runs)] for row in part.rows if row.runs]
    seeds = sorted({seed for row in part.rows for seed in row.runs})
    runs = sum(len(row.runs) for row in part.rows)
    controls = sum(len(own) for row in part.rows for own in row.controls.values())
    said = [f"{len(part.rows)} row{'s' * (len(part.rows) != 1)} on {models} model{'s' * (models != 1)}"]
    said.append(f"{runs} run{'s' * (runs != 1)} with {len(seeds)} seed{'s' * (len(seeds) != 1)}")
    if controls:
        said.append(f"{controls} control runs")
    tables = [run.experiences for run in firsts if len(run.experiences)]
    if tables:
        ends = [int((table["first_step"] + table["steps"]).max()) for table in tables]
        said.append(f"{_range(ends)} optimizer steps each")
        rests = [int(table.loc[table["phase"] == "rest", "steps"].sum()) for table in tables]
        if all(rests):
            said.append(f"{_range(rests)} of them rest, unrelated to any fact")
    return ", ".join(said)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _unit(measure: Measure) -> str:
    return " ".join(part for part in (measure.unit, _ARROWS[measure.direction]) if part)


def _columns(
    boards: Sequence[Board], models: bool, controls: Sequence[str], questions: bool, timed: bool
) -> list[tuple[str, str, str]]:
    """(title, unit or remark, class) of each column of the main table."""
    primary, reference = boards[0].primary, boards[0].reference
    listed = [("rank", "", "n"), ("strategy", "", "w")]
    listed += [("model", "", "w")] if models else []
    listed += [
        (primary.name, _unit(primary), "n"),
        (f"difference to {reference}" if reference else "difference", "paired by seed", "n"),
        ("p", "", "n"),
        ("verdict", "", "w"),
    ]
    if questions:
        listed += [("facts", "recall at the end", "n"), ("twins", "recall at the end", "n")]
        listed += [(control, "recall at the end", "n") for control in controls]
    if timed:
        listed.append(("step time", "over the reference", "n"))
    return [*listed, ("seeds", "", "n")]


def _line(
    board: Board,
    row: Row,
    verdict: Verdict,
    models: bool,
    controls: Sequence[str],
    questions: bool,
    timed: bool,
    notes: _Notes,
) -> dict[str, Any]:
    """One line of the main table."""
    primary = board.primary
    cell = board.cells[row.label, primary.name]
    rank = board.ranks[row.label]
    fields = [
        _Field(Markup(str(rank)), rank) if rank is not None else _missing(board.no_rank[row.label], notes),
        _Field(_isolated(arm_of(row) if models else row.label), row.label),
    ]
    fields += [_Field(_isolated(board.model), board.model)] if models else []
    fields.append(_value(cell, primary, len(row.runs), notes))
    fields += _difference(board, row, cell, notes)
    word = charts.FINDINGS[verdict.finding][0]
    chip = Markup('<span class="chip {}" title="{}">{}</span>')
    fields.append(_Field(chip.format(verdict.finding, clean(verdict.differs), word), word))
    if questions:
        own = [row.runs[seed] for seed in sorted(row.runs)]
        fields += [_recall(own, controls=False), _recall(own, controls=True)]
        for control in controls:
            runs = row.controls.get(control, {})
            fields.append(_recall([runs[seed] for seed in sorted(runs)], controls=False))
    if timed:
        fields.append(
            _Field(Markup("–")) if row.cost is None else _Field(Markup(fixed(row.cost, 2)), row.cost)
        )
    fields.append(_Field(Markup(str(verdict.seeds)), verdict.seeds))
    return {"label": row.label, "fields": fields, "reference": board.reference == row.label}


def _missing(reason: str, notes: _Notes) -> _Field:
    return _Field(Markup("–") + notes.mark(reason))


def _value(cell: Cell, measure: Measure, runs: int, notes: _Notes) -> _Field:
    if cell.interval is None:
        return _missing(cell.reason, notes)
    some = f", {cell.interval.n} of {runs} seeds" if cell.interval.n < runs else ""
    return _Field(
        _interval(format_interval(cell.interval, measure.unit) + some) + notes.mark(cell.reason),
        cell.interval.mean,
    )


def _interval(text: str) -> Markup:
    """A mean with its brackets set apart."""
    mean, _, bracket = text.partition(" ")
    return (
        Markup("<b>{}</b> <span>{}</span>").format(mean, bracket)
        if bracket
        else Markup("<b>{}</b>").format(mean)
    )


def _difference(board: Board, row: Row, cell: Cell, notes: _Notes) -> list[_Field]:
    """Difference to the reference and its p-value."""
    if board.reference == row.label:
        return [_Field(Markup("reference")), _Field(Markup(""))]
    found = cell.difference
    if found is None:
        return [_missing(f"no seed has a value here and in {board.reference}", notes), _Field(Markup(""))]
    shown = _interval(format_interval(found.interval, board.primary.unit)) + notes.mark(found.interval.reason)
    difference = _Field(shown, found.interval.mean)
    p = _Field(escape(format_p(found.p)), found.p) if found.p is not None else _missing(found.reason, notes)
    return [difference, p]


def _recall(runs: Sequence[Any], *, controls: bool) -> _Field:
    found = recall_when_last_asked(runs, controls=controls)
    if found is None:
        return _Field(Markup("–"))
    return _Field(_interval(format_interval(found, "fraction")), found.mean)


def _measures(board: Board, models: bool, notes: _Notes) -> dict[str, Any]:
    """Every measure of every row, and those without a value in any row with their reasons."""
    had = [m for m in board.measures if any(board.cells[row.label, m.name].interval for row in board.rows)]
    rows = in_order(board)
    without: dict[str, list[str]] = {}
    for measure in board.measures:
        if measure not in had:
            cells = [board.cells[row.label, measure.name] for row in board.rows]
            without.setdefault(" / ".join(dict.fromkeys(cell.reason for cell in cells)), []).append(
                measure.name
            )
    return {
        "model": board.model if models else "",
        "labels": [row.label for row in rows],
        "lines": [
            {
                "name": m.name,
                "unit": _unit(m),
                "summary": m.summary,
                "fields": [_value(board.cells[row.label, m.name], m, len(row.runs), notes) for row in rows],
            }
            for m in had
        ],
        "without": [(", ".join(names), why) for why, names in without.items()],
    }


def _results(board: Board, verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """Data of the chart of results."""
    rows = []
    reference: list[dict[str, float]] = []
    for row in in_order(board):
        interval, verdict = board.cells[row.label, board.primary.name].interval, verdicts[row.label]
        if interval is None:
            continue
        low = interval.mean if interval.low is None else interval.low
        high = interval.mean if interval.high is None else interval.high
        mean = rounded(interval.mean, 6)
        rows.append(
            {
                "label": clean(row.label),
                "mean": mean,
                "low": rounded(low, 6),
                "high": rounded(high, 6),
                "finding": charts.FINDINGS[verdict.finding][0],
                "shown": f"{verdict.value}, {verdict.seeds} seeds",
                "differs": clean(verdict.differs),
            }
        )
        if row.label == board.reference:
            reference = [{"mean": mean}]
    return {
        "title": clean(f"{board.primary.name} ({_unit(board.primary)})"),
        "description": clean(
            f"{board.primary.name} of {len(rows)} rows with 95 % intervals over seeds; the same values as in the table."
        ),
        "rows": rows,
        "reference": reference,
    }


class _Reading:
    """The records of one part, read once and then made as small as it takes."""

    def __init__(self, part: Part) -> None:
        ordered = [row for board in part.table.boards for row in in_order(board)]
        self.rows = [row for row in sound(ordered) if row.runs]
        self.chance = part.table.boards[0].chance
        self._asked: dict[tuple[str, str], curves.Asked] = {}

    def _read(self, row: Row, arm: str, runs: Sequence[Any]) -> curves.Asked:
        key = (row.label, arm)
        if key not in self._asked:
            self._asked[key] = curves.read(runs)
        return self._asked[key]

    def data(self, detail: _Detail) -> dict[str, Any]:
        """What the page's script gets of this part, and what was left out of it, in words."""
        rows = self.rows[: detail.rows]
        if not rows:
            return {"curves": None, "answers": None, "left_out": []}
        steps, phases = curves.Pool(), curves.Pool()
        known = self._first(rows[0])
        facts = known.few(min(known.facts), detail.facts)
        listed = []
        for row in rows:
            made = []
            for arm, runs in curves.arms(row).items():
                asked = self._read(row, arm, runs)
                if asked.frame.empty or asked.frame["control"].all():
                    continue
                one = curves.curves(asked, facts if not arm else [], detail.steps, steps)
                one["phases"] = phases.number(tuple(map(tuple, curves.phases(runs))))
                made.append({"name": clean(arm), **one})
            listed.append({"label": clean(row.label), "reference": row.label == row.reference, "arms": made})
        documents = next(iter(rows[0].runs.values())).info["primary_relation"] == "general"
        drawn = {
            "rows": listed,
            "steps": steps.values,
            "phases": phases.values,
            "documents": documents,
            "chance": self.chance,
        }
        given = self._answers(rows, detail)
        return {"curves": drawn, "answers": given, "left_out": self._left_out(detail, known, given)}

    def _first(self, row: Row) -> curves.Asked:
        return self._read(row, "", [row.runs[seed] for seed in sorted(row.runs)])

    def _answers(self, rows: Sequence[Row], detail: _Detail) -> dict[str, Any] | None:
        if not detail.facts or not detail.seeds:
            return None
        names, questions, steps, texts = curves.Pool(), curves.Pool(), curves.Pool(), curves.Pool()
        phases, runs = curves.Pool(), []
        for number, row in enumerate(rows):
            chosen = self._first(row)
            for seed in sorted(row.runs)[: detail.seeds]:
                found = answers(
                    row.runs[seed],
                    chosen.few(seed, detail.facts),
                    ladder=detail.ladder,
                    names=names,
                    questions=questions,
                    steps=steps,
                    texts=texts,
                )
                when = phases.number(tuple(map(tuple, curves.phases([row.runs[seed]]))))
                runs.append({"row": number, "seed": seed, "phases": when, "answers": found})
        return {
            "facts": names.values,
            "questions": questions.values,
            "steps": steps.values,
            "texts": texts.values,
            "phases": phases.values,
            "runs": runs,
        }

    def _left_out(self, detail: _Detail, known: curves.Asked, given: Any) -> list[str]:
        """Sentences about what the records hold and the page does not."""
        said = []
        if len(self.rows) > detail.rows:
            said.append(f"Curves and answers are of the first {detail.rows} of {len(self.rows)} rows.")
        longest = max(frame.frame["step"].nunique() for frame in self._asked.values())
        if longest > detail.steps:
            said.append(
                f"Curves show {detail.steps} evenly chosen steps of up to {longest} at which facts were asked."
            )
        most_facts = max(map(known.count, known.facts))
        if most_facts > detail.facts:
            said.append(
                f"Single facts and their answers: {detail.facts} of {most_facts} in a run, chosen in turn from every "
                "loop or group; averages are of all facts."
            )
        most = max(len(row.runs) for row in self.rows)
        if given is not None and most > detail.seeds:
            said.append(f"Answers are of the first {detail.seeds} of up to {most} seeds.")
        if given is not None and not detail.ladder:
            said.append("Answers are of the primary question; the records hold the other rungs too.")
        if given is None:
            said.append("Answers are in the records only.")
        return said
