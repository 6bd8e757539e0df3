"""`seqmem audit`: what a model answers before it is trained, and whether a scenario can be measured on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from seqmem.cli.app import app, disabled_plugins, exit_code, warn_left_out
from seqmem.cli.options import Given, Json, takes
from seqmem.cli.terminal import print_json, print_table, say, warn
from seqmem.core.digits import fixed
from seqmem.planning.request import AuditRequest

if TYPE_CHECKING:
    from seqmem.planning.audit import Audit, Form, Group

OPTIONS = (
    *("scenario", "preset", "seeds", "set", "text", "revision", "precision", "attention"),
    *("trust_remote_code", "device", "threads"),
)
MARKS = {"ok": "ok    ", "told": "note  ", "failed": "FAILED"}


@app.command()
@takes(AuditRequest, names=OPTIONS)
def audit(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A model that is listed, a folder or a Hugging Face id.")],
    given: Given,
    as_json: Json = False,
) -> int:
    """Ask a scenario's probes once with the untrained model and check what a run needs; trains nothing.

    Exit code 0 when a run would be accepted, 1 when one would be refused.
    """
    from seqmem.verbs.audit import audit as run_audit

    result = run_audit(model, **given, disabled=disabled_plugins(ctx))
    if as_json:
        print_json(
            {
                "audits": [
                    {"run": name, "passed": found.passed, **found.model_dump(mode="json")}
                    for name, found in result.audits.items()
                ],
                "failed": dict(result.failed),
                "left_out": list(result.left_out),
                "passed": result.passed,
            }
        )
    else:
        for number, (name, found) in enumerate(result.audits.items()):
            if number:
                say()
            _show(name, found)
    for name, reason in result.failed.items():
        warn(f"seqmem: failed: {name}: {reason}")
    warn_left_out(result.left_out)
    return exit_code(result.interrupted, not result.passed, bool(result.left_out))


def _show(name: str, found: Audit) -> None:
    """Print one audit: a line per probe form, then a line per check."""
    by = "forced choice" if found.recall == "forced_choice" else "exact match"
    say(f"{name}, before training; recall is by {by}")
    headers = [
        "probe form",
        "facts",
        "twins",
        "by chance",
        "exact",
        "in form",
        "tokens",
        "at most",
        "as trained",
    ]
    if not found.forms:
        say("Its probes are documents, which nobody can guess: there are no answers to check.")
    else:
        print_table(headers, [_cells(form) for form in found.forms])
    for check in found.checks:
        say(f"{MARKS[check.state]}  {check.text}")
    if not found.counted:
        say("The stream is long: its training rows were not looked at, and their length is a bound.")
    if found.passed:
        say("Passed: a run would be accepted.")
    else:
        say("Failed: a run would be refused; --accept-audit runs it anyway.")


def _cells(form: Form) -> list[str]:
    from seqmem.planning.audit import share

    group = form.facts or form.twins
    return [
        f"{form.name} *" if form.primary else form.name,
        _right(form.facts),
        _right(form.twins),
        "-" if group is None else f"{fixed(group.expected, 1)} +- {fixed(group.error, 1)}",
        share(form.exact),
        "-" if form.in_form is None else share(form.in_form),
        fixed(form.tokens, 1),
        str(form.most_tokens),
        "-" if form.joined is None else f"{form.joined[0]} of {form.joined[1]}",
    ]


def _right(group: Group | None) -> str:
    return "-" if group is None else f"{group.right} of {group.asked}"
