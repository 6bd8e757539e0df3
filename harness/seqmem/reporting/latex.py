"""Tables for a paper: LaTeX that needs booktabs and nothing else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from textwrap import wrap

from seqmem.core.sanitize import clean
from seqmem.reporting.blocks import TABLE_NOTE, Block, section
from seqmem.reporting.fields import notes_of, printed
from seqmem.reporting.terminal import column_width
from seqmem.scoring.comparison import Table


def to_latex(table: Table) -> str:
    r"""Return the tables that decide something of every comparison for a paper, a `table` environment each.

    Needs ``\usepackage{booktabs}`` and nothing else; compiles with pdfLaTeX, XeLaTeX and LuaLaTeX. All measures
    are left to Markdown and CSV: they fill pages.
    """
    parts = [r"% Needs \usepackage{booktabs} in the preamble.", ""]
    for comparison in table.boards:
        one = section(comparison, all_measures=False)
        for place, block in enumerate(one.blocks):
            remark = f" {TABLE_NOTE}" if place == 0 else ""
            caption = f"{one.title}: {block.title.lower()}.{remark}"
            parts += [*_latex(block, caption, one.notes), ""]
    return "\n".join(parts)


def _latex(block: Block, caption: str, notes: Sequence[str]) -> list[str]:
    used = notes_of(field for line in block.lines for field in line)
    below = [block.below] if block.below else []
    below += [f"({i}) {text}" for i, text in enumerate(notes, 1) if text in used]
    lines = [[printed(field, notes) for field in line] for line in block.lines]
    heads = [
        _latex_heading(wrap(clean(name), column_width(name, cells)))
        for name, *cells in zip(block.columns, *lines, strict=True)
    ]
    rows = [" & ".join(map(escape_latex, cells)) + r" \\" for cells in lines]
    return [
        r"\begin{table}",
        r"\centering",
        r"\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(block.columns) - 1)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par {escape_latex(text)}" for text in below),
        r"\end{table}",
    ]


def _latex_heading(lines: Sequence[str]) -> str:
    """Return a heading of several lines, which takes no package."""
    stacked = r" \\ ".join(map(escape_latex, lines))
    return stacked if len(lines) < 2 else rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{stacked}\end{{tabular}}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    # In braces: after \\ a bracket begins an option and a star another command; ?` is another sign.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "`": "{`}",
    '"': "{''}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "—": "---",
}


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is: no command, no ligature, no character its default fonts lack.

    A minus before a number becomes a minus sign. Letters with accents stay; other signs outside ASCII are
    named by their code point, such as ``[U+4E2D]``, since pdfLaTeX stops at them.
    """
    marked = re.sub(r"(?<![\w-])-(?=\.?\d)", "−", clean(text))
    parts = []
    for before, sign in zip(f" {marked}", marked, strict=False):
        joins = before == sign and sign in "-,'"
        escaped = _LATEX.get(sign) or (sign if _in_latex_fonts(sign) else _code_point(sign))
        parts.append("{}" * joins + escaped)
    return "".join(parts)


def _in_latex_fonts(sign: str) -> bool:
    base = unicodedata.normalize("NFD", sign)[0]
    return sign.isascii() or (sign <= "ÿ" and base.isascii() and base.isalpha())


def _code_point(sign: str) -> str:
    return f"{{[}}U+{ord(sign):04X}{{]}}"
