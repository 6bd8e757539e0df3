"""The report page: one HTML file about stored runs that opens from disk and asks no network for anything."""

from __future__ import annotations

from seqmem.reporting.command import command_line
from seqmem.reporting.page import Part, page
from seqmem.reporting.words import verdict_lines

__all__ = ["Part", "command_line", "page", "verdict_lines"]
