"""The page: one HTML file that opens from disk. The same records give the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from seqmem.core.sanitize import clean
from seqmem.reporting import charts, provenance
from seqmem.reporting.fields import Field, by_forced_choice, chance_text, unit_of
from seqmem.reporting.page_data import PartData, page_data
from seqmem.reporting.page_section import Chip, EmptyPart, Frame, Part, page_section, results_chart
from seqmem.reporting.trade_off import trade_off_charts
from seqmem.reporting.words import answer, headline, measure_in_words

MAX_BYTES = 3_000_000
"""No page is larger, unless its tables alone are."""


def page(title: str, parts: Sequence[Part | EmptyPart], frame: Frame | None = None) -> str:
    """Return one HTML file with everything in it: verdicts, tables, curves, answers, provenance.

    Args:
        title: of the document; text from outside like every name on the page.
        parts: one or several scenarios; several get a contents list.
        frame: of a suite.
    """
    environment = _environment()
    source = environment.loader
    assert source is not None
    script = source.get_source(environment, "page.js")[0]
    style = source.get_source(environment, "page.css")[0]
    sections = [page_section(part) if isinstance(part, Part) else part for part in parts]

    def render(data: Sequence[PartData]) -> str:
        return environment.get_template("page.html.jinja").render(
            title=title,
            frame=frame,
            sections=list(zip(sections, data, strict=True)),
            policy=_policy(charts_bundle(), script),
            style=Markup(style),
            bundle=Markup(charts_bundle()),
            script=Markup(script),
            specs=_specs(),
            data=[{"curves": one.curves, "answers": one.answers} for one in data],
        )

    return render(page_data(parts, lambda data: len(render(data).encode()) <= MAX_BYTES))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("seqmem.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        # whatever the template prints that is not our markup, attributes included
        finalize=lambda value: clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"t": _isolated, "cell": _cell, "block": _json_block, "headline": headline}
    said = (
        answer,
        by_forced_choice,
        chance_text,
        headline,
        measure_in_words,
        results_chart,
        trade_off_charts,
        unit_of,
    )
    environment.globals |= {"provenance": provenance, **{one.__name__: one for one in said}}
    return environment


def _cell(field: Field, notes: Sequence[str]) -> Markup:
    """Return a cell with a mark such as ² for its footnote."""
    if isinstance(field, Chip):
        chip = Markup('<span class="chip {}" title="{}">{}</span>')
        return chip.format(field.finding, clean(field.words), field.text)
    if field.text is None:
        shown = Markup("–")
    elif isinstance(field.value, str):
        shown = _isolated(field.text)
    elif field.measured:
        mean, _, bracket = field.text.partition(" ")
        shown = Markup("<b>{}</b>").format(mean) + Markup(" <span>{}</span>" if bracket else "").format(
            bracket
        )
    else:
        shown = Markup("{}").format(field.text)
    if not field.note:
        return shown
    mark = Markup('<sup class="note" title="{}">{}</sup>')
    return shown + mark.format(clean(field.note), notes.index(field.note) + 1)


@lru_cache(maxsize=1)
def charts_bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, from the installed `vl-convert-python`."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # inside <script> these two would end it or hide its end; in strings and patterns they mean the same
    return bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _policy(*scripts: str) -> str:
    """Return a content security policy under which nothing is loaded and no other script runs."""
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def _json_block(value: Any) -> Markup:
    """Return JSON for a script tag: no character in it can end the tag."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _isolated(text: object) -> Markup:
    """Return text from outside: one line, escaped, and unable to turn the direction of what stands around it."""
    return Markup("<bdi>{}</bdi>").format(clean(str(text)))


def _specs() -> dict[str, Any]:
    return {
        "recall": charts.curve("recall", "recall (share right)", share=True),
        "loss": charts.curve("loss", "answer loss (nats per token)", share=False),
        "answer": charts.answer(),
        "results": charts.results(""),
        "sizes": charts.sizes(),
        "trade": charts.trade_off(),
        "look": {
            "colours": charts.COLOURS,
            "dashes": charts.DASHES,
            "shapes": charts.SHAPES,
            "twins": charts.TWINS,
        },
    }
