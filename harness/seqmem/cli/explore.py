"""The verbs that say what there is: `list` and `describe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmem.cli.app import app, registry
from seqmem.cli.terminal import print_json, print_table, say
from seqmem.core.errors import UsageError, unknown
from seqmem.plugin.registry import KINDS, Kind, Registry

if TYPE_CHECKING:
    from seqmem.core.options import OptionRow
    from seqmem.plugin.registry import Spec


@app.command("list")
def list_names(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Argument(help=f"Only one kind: {', '.join(KINDS)}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what can be asked for.

    Reads what is installed without loading any plugin: a broken one is listed too, and `doctor` names it.
    """
    plugins = registry(ctx)
    listed = [row for one in ([_kind(kind)] if kind else KINDS) for row in plugins.names(one)]
    if as_json:
        print_json(
            [
                {
                    "kind": row.kind,
                    "name": row.name,
                    "distribution": row.distribution,
                    "version": row.version,
                    "conflict": list(row.conflict),
                }
                for row in listed
            ]
        )
        return
    rows = []
    for row in listed:
        clash = f"CONFLICT: offered by {' and '.join(row.conflict)}" if row.conflict else ""
        rows.append((row.kind, row.name, clash or f"{row.distribution} {row.version}".strip()))
    print_table(("kind", "name", "from"), rows)


@app.command()
def describe(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A name that `list` shows.")],
    kind: Annotated[
        str | None, typer.Option(help="Its kind, where several kinds have something of that name.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a name stands for, and its options.

    The name may be a scenario, a strategy, a metric, a model, a text or a suite; options come with their types,
    defaults and meaning.
    """
    plugins = registry(ctx)
    found = description(plugins, _resolve(plugins, name, kind), name)
    if as_json:
        print_json(found)
    else:
        _print_description(found)


def description(plugins: Registry, kind: Kind, name: str) -> dict[str, Any]:
    """Return everything a plugin says about itself, as JSON values."""
    from seqmem.core.options import describe_options

    spec = plugins.load(kind, name)
    found: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "version": spec.version,
        "package": plugins.package(kind, name),
        "summary": spec.summary,
        "citation": getattr(spec, "citation", ""),
    }
    if hasattr(spec, "options"):
        parts = getattr(spec, "parts", ())
        found["options"] = [
            _option(row, f"{part.name}." if parts else "")
            for part in parts or (spec,)
            for row in describe_options(part.options)
        ]
    return found | _particulars(spec)


def _kind(text: str) -> Kind:
    """Return the kind that a user names; the plural will do."""
    for kind in KINDS:
        if text in (kind, f"{kind}s", f"{kind[:-1]}ies"):
            return kind
    raise UsageError(unknown("kind", text, KINDS))


def _resolve(plugins: Registry, name: str, kind: str | None) -> Kind:
    """Return the kind of a name; it is asked for only where it is not clear."""
    if kind is not None:
        return _kind(kind)
    kinds = plugins.kinds_of(name)
    if not kinds:
        raise UsageError(unknown("name", name, {row.name for one in KINDS for row in plugins.names(one)}))
    if len(kinds) > 1:
        raise UsageError(f"{name!r} is a {' and a '.join(kinds)}: say which with --kind {kinds[0]}")
    return kinds[0]


def _option(row: OptionRow, front: str) -> dict[str, str]:
    return {"name": front + row.name, "type": row.type, "default": row.default, "help": row.help}


def _particulars(spec: Spec) -> dict[str, Any]:
    """Return what only one kind of plugin has to say."""
    from seqmem.plugin.specs import MetricSpec, ModelSpec, ScenarioSpec, SuiteSpec

    if isinstance(spec, ScenarioSpec):
        return {
            "presets": {name: dict(values) for name, values in spec.presets.items()},
            "optimizer": {name: dict(values) for name, values in spec.optimizer.items()},
            "controls": {name: dict(values) for name, values in spec.controls.items()},
            "further_controls": {name: dict(values) for name, values in spec.further_controls.items()},
            "sweep": {name: list(swept) for name, swept in spec.sweep.items()},
            "reference": spec.reference,
            "model": spec.model,
            "models": dict(spec.models),
        }
    if isinstance(spec, MetricSpec):
        return {
            "measures": [
                {"name": one.name, "unit": one.unit, "direction": one.direction, "summary": one.summary}
                for one in spec.measures
            ]
        }
    if isinstance(spec, ModelSpec):
        folder = spec.locate()
        return {"folder": str(folder) if folder else None, "can_be_pretrained": spec.pretrain is not None}
    if isinstance(spec, SuiteSpec):
        return {
            "parts": [
                {
                    "title": part.title,
                    "question": part.question,
                    "scenario": part.scenario,
                    "preset": part.preset,
                    "measures": list(part.measures),
                }
                for part in spec.parts
            ],
            "models": {name: list(models) for name, models in spec.models.items()},
        }
    return {}


_BETTER = {"higher": "higher is better", "lower": "lower is better", "none": "neither is better"}


def _print_description(found: dict[str, Any]) -> None:
    """Print a description for people."""
    say(f"{found['kind']} {found['name']} {found['version']}")
    say(f"from {found['package']}")
    say()
    say(found["summary"])
    if found["citation"]:
        say(f"Cite: {found['citation']}")
    if "measures" in found:
        say()
        measures = [(m["name"], m["unit"], _BETTER[m["direction"]], m["summary"]) for m in found["measures"]]
        print_table(("measure", "unit", "direction", "meaning"), measures)
    if "parts" in found:
        say()
        parts = [
            (p["title"], p["question"], p["scenario"], p["preset"], ", ".join(p["measures"]))
            for p in found["parts"]
        ]
        print_table(("part", "question", "scenario", "preset", "measures"), parts)
        say()
        print_table(("list of models", "models"), [(n, ", ".join(m)) for n, m in found["models"].items()])
        say(f"Run it with: seqmem suite {found['name']}")
    if "folder" in found:
        made = found["folder"] or (
            f"not made yet: seqmem pretrain {found['name']}" if found["can_be_pretrained"] else "not there"
        )
        say(f"Files: {made}")
    if found.get("options"):
        say()
        options = [(o["name"], o["type"], o["default"], o["help"]) for o in found["options"]]
        print_table(("option", "type", "default", "meaning"), options)
        say()
        say(f"Set one with: --set {found['kind']}.{found['options'][0]['name']}=VALUE")
    elif "options" in found:
        say("It has no options.")
    for title in ("presets", "optimizer", "controls"):
        if found.get(title):
            say()
            rows = [
                (name, ", ".join(f"{key}={value}" for key, value in values.items()) or "the defaults")
                for name, values in found[title].items()
            ]
            print_table((title, "values"), rows)
    if "reference" in found:
        say()
        for preset, swept in found["sweep"].items():
            say(f"Preset {preset} sweeps {' and '.join(swept)}, unless --sweep or --set says otherwise.")
        say(f"Every strategy is compared with {found['reference']}.")
        others = "".join(f", at preset {preset} {model}" for preset, model in found["models"].items())
        say(f"The model is {found['model']}{others}, unless --model names one.")
