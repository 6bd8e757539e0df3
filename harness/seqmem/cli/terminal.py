"""Printing: aligned and coloured on a terminal, plain when piped, never a foreign control character."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from seqmem.core.sanitize import clean


def is_terminal() -> bool:
    """Return whether a person looks at standard output."""
    return sys.stdout.isatty()


def say(text: str = "") -> None:
    """Print a line of text."""
    print(clean(text))


def say_lines(text: str) -> None:
    """Print text whose line breaks are our own."""
    for line in text.split("\n"):
        say(line)


def warn(text: str) -> None:
    """Print a line of text to standard error."""
    print(clean(text), file=sys.stderr, flush=True)


def resume_command() -> str:
    """Return the command line of this process, with `--resume`."""
    return f"seqmem {shlex.join([*_typed(), '--resume'])}"


def command_without_seeds() -> str:
    """Return the command line of this process as far as it goes for other seeds."""
    words, kept = iter(_typed()), []
    for word in words:
        if word == "--seeds":
            next(words, None)
        elif not word.startswith("--seeds="):
            kept.append(word)
    return f"seqmem {shlex.join(kept)}"


def _typed() -> list[str]:
    """Return the words of this process's command line without what says how it begins."""
    return [word for word in sys.argv[1:] if word not in ("--resume", "--force")]


def print_json(data: Any) -> None:
    """Print data for scripts."""
    print(json.dumps(data, indent=2, allow_nan=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headers: wrapped to the terminal's width, or as plain aligned columns."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if is_terminal():
        _print_rich(headers, cells)
        return
    table = [list(headers), *cells]
    widths = [max(len(row[column]) for row in table) for column in range(len(headers))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for position, header in enumerate(headers):
        table.add_column(header, style="cyan" if position == 0 else "", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)
