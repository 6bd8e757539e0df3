"""Every command that README and the docs name is one that the command line understands, and the pages are whole."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

import seqmem.cli  # noqa: F401, it hangs the verbs on the app
from seqmem.cli.app import app
from seqmem.plugin.registry import Registry
from seqmem.scoring.tables import load_metrics

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"(?:\S*/)?seqmem(?:\s|$)")
FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Command:
    """A command line on a page; a bare one, such as `seqmem bench`, only names the verb."""

    page: str
    text: str
    inline: bool


def commands(page: str, text: str) -> Iterator[Command]:
    """The `seqmem ...` lines of code blocks, continued lines joined, and the inline ones."""
    for block in FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if PROGRAM.match(line.strip()):
                yield Command(page, line.strip(), inline=False)
    for code in INLINE.findall(FENCED.sub("", text)):
        code = " ".join(code.split())
        if PROGRAM.match(code):
            yield Command(page, code, inline=True)


def parse(command: Command) -> None:
    """Take a command apart with the real parser; nothing is carried out but `--help`."""
    words = shlex.split(command.text, comments=True)[1:]
    verb: Any = typer.main.get_command(app)
    path, context = "seqmem", verb.make_context("seqmem", list(words) or ["--help"])
    while hasattr(verb, "commands"):
        # What a group does not take itself stands in these two: the verb below it, then its arguments.
        left = [*getattr(context, "_protected_args", ()), *context.args]
        name, verb, left = verb.resolve_command(context, left)
        path = f"{path} {name}"
        if not left and command.inline:
            return
        context = verb.make_context(name, left, parent=context)


ALL = [one for page in PAGES for one in commands(page.name, page.read_text("utf-8"))]


@pytest.mark.parametrize("command", ALL, ids=lambda one: f"{one.page}: {one.text}")
def test_a_command_on_a_page_is_one_that_runs(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        parse(command)
    except typer.Exit as end:
        assert end.exit_code == 0
        assert "Usage: seqmem" in capsys.readouterr().out


def test_commands_are_found_where_they_stand() -> None:
    text = (
        "Say `seqmem list` or `seqmem\ndescribe naive`, not `seqmem_api`.\n"
        "```\nseqmem bench --scenario a \\\n    --strategy b  # why\nother\n.venv/bin/seqmem doctor\n```\n"
        "```toml\nseqmem_api = 1\n```\n"
    )
    assert [(one.text, one.inline) for one in commands("page", text)] == [
        ("seqmem bench --scenario a      --strategy b  # why", False),
        (".venv/bin/seqmem doctor", False),
        ("seqmem list", True),
        ("seqmem describe naive", True),
    ]
    assert {"README.md", "models-and-text.md", "memory_loops.md"} <= {one.page for one in ALL}


@pytest.mark.parametrize(
    ("text", "inline"),
    [
        ("seqmem bench --scenario memory_loops", False),
        ("seqmem bench", False),
        ("seqmem bench --scenario memory_loops --strategy naive --gone", False),
        ("seqmem bench --scenario memory_loops --strategy naive --workers many", False),
        ("seqmem benhc", True),
        ("seqmem leaderboard draw", True),
        ("seqmem leaderboard show --gone", True),
        ("seqmem -x list", True),
    ],
)
def test_a_stale_command_is_noticed(text: str, inline: bool) -> None:
    with pytest.raises(typer.BadParameter.__mro__[1]):
        parse(Command("page", text, inline))


def test_every_metric_has_a_page_and_a_line_in_the_table() -> None:
    folder = REPOSITORY / "docs" / "metrics"
    start = (folder / "README.md").read_text("utf-8")
    assert "**Others**" not in start, "a metric that GROUPS in docs/generate.py does not name"
    metrics = load_metrics(Registry.from_environment(autoload=False))[0]
    assert {page.stem for page in folder.glob("*.md")} == {"README", *(metric.name for metric in metrics)}
    for metric in metrics:
        page = (folder / f"{metric.name}.md").read_text("utf-8")
        assert f"[{metric.name}]({metric.name}.md)" in start
        assert f"\nVersion {metric.version}: " in page
        formulas = page.partition("## Formulas")[2]
        for measure in metric.measures:
            assert f"| `{measure.name}` | {measure.unit} | {measure.direction} |" in page
            assert f"`{measure.name}`" in formulas, f"no function is found behind {measure.name}"


def test_a_stale_page_is_noticed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("generate", REPOSITORY / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    plugins = Registry.from_environment(autoload=False)
    pages = generate.metric_pages(plugins)
    page = REPOSITORY / "docs" / "metrics" / "forgetting.md"
    assert "F = mean_{j<T} (max_{l<T} a_lj - a_Tj)" in pages[page]
    monkeypatch.setattr(generate, "metric_pages", lambda plugins: {**pages, page: pages[page] + "changed"})
    assert generate.main() == 1
    assert "docs/metrics/forgetting.md is out of date: run `make docs`" in capsys.readouterr().err


LINK = re.compile(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    gone = [link for link in LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert not [link for link in gone if not (page.parent / link).is_file()]


def test_the_page_of_verbs_has_every_verb() -> None:
    page = (REPOSITORY / "docs" / "cli.md").read_text("utf-8")
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"## seqmem {name}\n" in page
        for below in getattr(command, "commands", {}):
            assert f"### seqmem {name} {below}\n" in page
    assert not re.search(r"\|---\|---\|---\|\n(?!\|)", page), "an empty table"
