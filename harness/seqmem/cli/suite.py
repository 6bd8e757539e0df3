"""`seqmem suite`: several experiments over a list of models, and one page about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from seqmem.cli.app import app, disabled_plugins, exit_code, registry, warn_left_out
from seqmem.cli.options import Given, Json, takes
from seqmem.cli.plan import show_plan
from seqmem.cli.terminal import print_json, resume_command, say, warn
from seqmem.planning.request import Execution, SuiteRequest, read

if TYPE_CHECKING:
    from seqmem.verbs.suite import SuiteResult

OPTIONS = (
    *("models", "strategy", "seeds", "set", "text", "smoke", "precision", "device", "threads", "controls"),
    *("out", "workers", "resume", "force", "accept_versions", "accept_audit", "display"),
)


@app.command()
@takes(SuiteRequest, Execution, names=OPTIONS)
def suite(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Suite to run, e.g. episodic.")],
    given: Given,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the runs and what they cost; train nothing.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Run the experiments of a suite over a list of models and write one page about all of them.

    The page is OUT/suites/NAME-HASH/page.html, and page.json beside it for programs. Runs that have finished before are
    reused.
    """
    from seqmem.planning.counting import count_tokens
    from seqmem.planning.suite import plan_suite
    from seqmem.verbs.display import say_notes
    from seqmem.verbs.suite import run_suite

    request, execution = read(SuiteRequest, {**given, "disabled": disabled_plugins(ctx)}, "suite")
    plugins = registry(ctx)
    planned = plan_suite(name, plugins, request)
    if plan:
        return show_plan(count_tokens(planned.whole(), plugins), as_json)
    say_notes(planned.whole().notes, execution.display)
    warn_left_out(planned.left_out)
    result = run_suite(
        planned,
        execution,
        on_part=lambda number, part: (
            None if execution.display == "none" else warn(f"{number} of {len(planned.parts)}: {part.title}")
        ),
    )
    if as_json:
        print_json({**result.page.data, "folder": str(result.page.folder), "failed_runs": result.failed})
    else:
        _show(result)
    for failed, reason in result.failed.items():
        warn(f"seqmem: failed: {failed}: {reason}")
    warn_left_out([line for line in result.left_out if line not in planned.left_out])
    if result.interrupted:
        warn(f"Stopped. Continue with: {resume_command()}")
    return exit_code(result.interrupted, bool(result.failed), bool(result.left_out))


def _show(result: SuiteResult) -> None:
    """Print where the page is, and every verdict on it."""
    from seqmem.reporting.suite_page import PAGE

    say(str(result.page.folder / PAGE))
    for part in result.page.data["parts"]:
        say(f"{part['number']}. {part['title']}")
        for verdict in part["verdicts"].values():
            say(f"  {verdict}")
