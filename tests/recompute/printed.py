"""How numbers are printed in TABLE.md, and the tables and lines of such a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

Ends = tuple[float, float]


def shown(value: float, unit: str) -> str:
    """Three significant digits; two decimals without a leading zero for shares and fractions."""
    value = float(f"{value:.10g}")
    if unit in ("share", "fraction"):
        text = f"{value:.2f}"
        if float(text) == 0:
            return ".00"
        return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
    if value.is_integer() or abs(float(f"{value:.3g}")) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bracketed(mean: float, ends: Ends | None, unit: str) -> str:
    """A mean with its interval; alone where there is none, or where all seeds agree exactly."""
    if ends is None or f"{ends[0]:.10g}" == f"{ends[1]:.10g}":
        return shown(mean, unit)
    return f"{shown(mean, unit)} [{shown(ends[0], unit)}, {shown(ends[1], unit)}]"


def p_text(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


@dataclass(frozen=True)
class Table:
    """A table of TABLE.md: its title, its heading and its lines, footnote marks taken off."""

    title: str
    head: list[str]
    lines: list[list[str]]


def tables(text: str) -> Iterator[Table]:
    """Every table under a heading of the third rank."""
    title, block = "", list[list[str]]()
    for line in [*text.splitlines(), ""]:
        if line.startswith("### "):
            title = unescaped(line.removeprefix("### "))
        if line.startswith("|"):
            cells = [unescaped(cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            block.append([re.sub(r" \(\d+\)$", "", cell) for cell in cells])
        elif block:
            yield Table(title, block[0], block[2:])
            block = []


def verdicts(text: str) -> list[str]:
    """The bullets above the first table, which say in words what was found of each row."""
    above = text.partition("\n### ")[0]
    return [unescaped(line.removeprefix("- ")) for line in above.splitlines() if line.startswith("- ")]


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
