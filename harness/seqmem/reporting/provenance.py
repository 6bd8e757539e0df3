"""The origin of the numbers: what ran, with which versions, on what, when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqmem.record.contamination import contaminated
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row


@dataclass(frozen=True)
class Origin:
    """The parts that one row was made of, as text.

    Attributes:
        runs: (seed, run id) of the row's own runs, then of each control as (control and seed, run id).
    """

    label: str
    strategy: str
    optimizer: str
    options: str
    seeds: str
    runs: tuple[tuple[str, str], ...]


def common(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return what holds for the whole table, as (name, text); what differs between runs is listed with all values."""
    runs = [run for row in rows for run in _runs(row)]
    listed = {
        "Scenario": (_named(run.recipe.get("scenario")) for run in runs),
        "Preset": (str(row.facts["preset"]) for row in rows if row.facts.get("preset")),
        "Scenario options": (_options(run.recipe.get("scenario")) for row in rows for run in _own(row)),
        "Model": (_model(run) for run in runs),
        "Model fingerprint": (_short(run.recipe.get("model", {}).get("fingerprint", "")) for run in runs),
        "Background text": (_named(run.recipe.get("text")) for run in runs),
        "Threads per run": (str(run.recipe.get("threads", "")) for run in runs),
        "Dates": (str(run.info.get("date") or "") for run in runs),
        "Hardware": (_hardware(run) for run in runs),
        "Code revision": (_code(run) for run in runs),
        "Plugins": (_pairs(run.info.get("plugins")) for run in runs),
        "Versions": (_pairs(run.info.get("versions")) for run in runs),
    }
    found = {name: sorted({text for text in texts if text}) for name, texts in listed.items()}
    if len(found["Dates"]) > 2:
        found["Dates"] = [f"{found['Dates'][0]} to {found['Dates'][-1]}"]
    return [(name, "; ".join(texts)) for name, texts in found.items() if texts]


def contamination(rows: Sequence[Row]) -> list[str]:
    """Return a line per contaminated run or control; empty where every control stayed untrained."""
    return [
        f"{row.label}, {name}: {contaminated(run)}"
        for row in rows
        for name, run in _named_runs(row)
        if contaminated(run)
    ]


def origin(row: Row) -> Origin:
    """Return what one row was made of."""
    runs = _own(row)
    return Origin(
        label=row.label,
        strategy="; ".join(sorted({_named(run.recipe.get("strategy")) for run in runs})),
        optimizer="; ".join(sorted({_optimizer(run.recipe.get("optimizer", {})) for run in runs})),
        options="; ".join(sorted({_options(run.recipe.get("strategy")) for run in runs})) + _search(row),
        seeds=", ".join(str(seed) for seed in sorted(row.runs)),
        runs=tuple((name, run.id) for name, run in _named_runs(row)),
    )


def _search(row: Row) -> str:
    """Return how the row's options were chosen; nothing where they are the defaults."""
    search = row.facts.get("search")
    if not search:
        return ""
    seeds = ", ".join(map(str, search.get("seeds", ())))
    return f" (chosen in {search.get('runs')} of at most {search.get('budget')} runs on seeds {seeds})"


def _own(row: Row) -> list[RunRecord]:
    return [row.runs[seed] for seed in sorted(row.runs)]


def _named_runs(row: Row) -> list[tuple[str, RunRecord]]:
    named = [(f"seed {seed}", row.runs[seed]) for seed in sorted(row.runs)]
    for control, runs in sorted(row.controls.items()):
        named += [(f"{control}, seed {seed}", runs[seed]) for seed in sorted(runs)]
    return named


def _runs(row: Row) -> Iterable[RunRecord]:
    return (run for _, run in _named_runs(row))


def _named(choice: Mapping[str, Any] | None) -> str:
    return f"{choice['name']} {choice.get('version', '')}".strip() if choice else ""


def _options(choice: Mapping[str, Any] | None) -> str:
    options = (choice or {}).get("options") or {}
    return ", ".join(f"{name}={_value(options[name])}" for name in sorted(options))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _model(run: RunRecord) -> str:
    model = run.recipe.get("model")
    if not model:
        return ""
    revision = f", revision {_short(model['revision'])}" if model.get("revision") else ""
    return f"{model['name']} ({model['parameters']:,} parameters, {model['dtype']}{revision})"


def _optimizer(settings: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{name}={_value(settings[name])}" for name in sorted(settings) if name != "name")
    return f"{settings.get('name', '')} {rest}".strip()


def _hardware(run: RunRecord) -> str:
    hardware = run.info.get("hardware") or {}
    parts = [str(hardware[name]) for name in ("device", "gpu", "machine", "system") if hardware.get(name)]
    cores = f"{hardware['cores']} cores" if hardware.get("cores") else ""
    return ", ".join([*parts, cores] if cores else parts)


def _code(run: RunRecord) -> str:
    code = run.info.get("code")
    if not code:
        return ""
    return f"{_short(code['commit'])}{' with uncommitted changes' if code.get('dirty') else ''}"


def _pairs(values: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {values[name]}" for name in sorted(values)) if values else ""


def _short(text: str) -> str:
    return text[:16]
