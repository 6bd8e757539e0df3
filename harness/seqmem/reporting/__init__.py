"""Everything people read: tables, figures and the report page, of a suite too.

`blocks` states every cell once; `markdown`, `latex`, `terminal`, `exports` and `page` write them.
"""

from __future__ import annotations

from seqmem.reporting.command import command_line
from seqmem.reporting.page import page
from seqmem.reporting.page_section import Part
from seqmem.reporting.words import verdict_lines

__all__ = ["Part", "command_line", "page", "verdict_lines"]
