"""Begin a published board: rules for a preset of a scenario, to be read and edited before the first row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqmem.board.rules import RULES, board_name
from seqmem.core.errors import UsageError, unknown
from seqmem.core.options import validate
from seqmem.planning.models import ModelChoice, resolve
from seqmem.planning.search import FIRST_TUNING_SEED
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import ScenarioSpec
from seqmem.record.files import write_text
from seqmem.scoring.tables import load_metrics


def new_board(scenario: str, home: Path, registry: Registry, preset: str = "default") -> Path:
    """Write a commented ``board.toml`` for a preset of a scenario, to be edited before the first row.

    Raises:
        UsageError: the scenario is not installed or has no such preset, the board is there already, or cannot be
            written.
    """
    spec = registry.load("scenario", scenario)
    if preset not in spec.presets:
        raise UsageError(unknown(f"preset of {scenario}", preset, spec.presets))
    folder = home / board_name(spec.name, spec.version, preset)
    if (folder / RULES).exists():
        raise UsageError(f"{folder / RULES} is there already; rules are frozen once a board has rows")
    name, _, revision = spec.models.get(preset, spec.model).partition("@")
    choice = ModelChoice(
        name=name, revision=revision or None, dtype="float32", attention="sdpa", trust_remote_code=False
    )
    model = resolve(choice, registry).model
    text = registry.load("text", "world")
    options = validate(spec.options, spec.presets[preset], f"scenario {spec.name}")
    metrics, _ = load_metrics(registry)
    gates = {one.name: one.gate for metric in metrics for one in metric.measures if one.gate is not None}
    rules = _rules_text(
        spec,
        preset,
        spec.outline(options).primary,
        gates,
        {model.name: model.fingerprint},
        text.fingerprint(text.options()),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RULES, rules)
    except OSError as error:
        raise UsageError(f"{folder / RULES}: cannot be written ({error.strerror})") from error
    return folder


def _rules_text(
    spec: ScenarioSpec,
    preset: str,
    primary: str,
    gates: Mapping[str, float],
    models: Mapping[str, str],
    text_content: str,
) -> str:
    """Return the text of a commented ``board.toml``."""

    def quoted(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    question = f"{spec.summary[:1].upper()}{spec.summary[1:].rstrip('.')}: which ways of training keep it?"
    lines: Sequence[str] = (
        "# Rules of this board. Once it has rows they are frozen: a change is another board.",
        "format = 1",
        f"question = {quoted(question)}",
        "",
        "# What is run. Another version of the scenario is another board.",
        f"scenario = {quoted(spec.name)}",
        f"version = {quoted(spec.version)}",
        f"preset = {quoted(preset)}",
        f"controls = {quoted(sorted(spec.controls))}  # every row has these runs beside its own",
        "",
        "# Rows are ranked by this measure, against the reference row.",
        f"primary = {quoted(primary)}",
        "# margin = 0.05  # smallest difference worth calling one, in the measure's unit",
        f"reference = {quoted(spec.reference)}",
        "",
        "# Seeds of every row, and the seeds on which hyper-parameters may be searched: they must not meet.",
        'seeds = "0-7"',
        f'tuning_seeds = "{FIRST_TUNING_SEED}-{FIRST_TUNING_SEED + 3}"',
        "least_seeds = 8",
        'hyperparameters = "equal_search"  # or "searched": whoever likes; or "defaults": none may be changed',
        "budget = 24                       # runs that the search of every row may take",
        'optimizer = "free"                # a search may choose it; or "fixed": as the preset has it',
        "",
        "# What every run has in common.",
        'dtype = "float32"',
        'probing = "schedule"',
        'text = "world"',
        f"text_content = {quoted(text_content)}",
        "",
        "# Who may have a row.",
        'eligibility = "Any strategy that never sees a probe, trained on the stream as the scenario gives it."',
        "",
        "# A row is ranked only where it is shown to lose less than this against the reference.",
        "[gates]",
        *(f"{quoted(name)} = {gate:g}" for name, gate in gates.items()),
        "",
        "# Models a row may start from, each with the fingerprint of its weights and tokenizer.",
        "[models]",
        *(f"{quoted(name)} = {quoted(fingerprint)}" for name, fingerprint in models.items()),
    )
    return "\n".join(lines) + "\n"
