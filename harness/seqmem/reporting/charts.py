"""The charts as Vega-Lite specifications: plain dicts that the page fills with data.

Colours are CSS variables, so that dark mode and print need no second drawing. A series has a colour, a dash
and a marker of its own: no reader depends on colour.
"""

from __future__ import annotations

from typing import Any

from seqmem.reporting.words import Finding

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
COLOURS = [f"var(--c{number})" for number in range(8)]
DASHES = [[1, 0], [7, 3], [2, 2], [8, 2, 2, 2], [12, 4], [4, 4], [1, 3], [10, 2, 2, 2, 2, 2]]
SHAPES = [
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-left",
    "triangle-right",
]
TWINS = {"colour": "var(--twins)", "dash": [3, 3], "shape": "stroke"}

FINDINGS: dict[Finding, tuple[str, str, str]] = {
    "better": ("better", "var(--good)", "triangle-up"),
    "worse": ("worse", "var(--bad)", "triangle-down"),
    "differs": ("different", "var(--c5)", "diamond"),
    "alike": ("no different", "var(--c2)", "square"),
    "open": ("no difference shown", "var(--soft)", "circle"),
    "untested": ("too few seeds", "var(--soft)", "triangle-right"),
    "reference": ("reference", "var(--ink)", "cross"),
    "none": ("not compared", "var(--soft)", "stroke"),
}
"""What is known of a row, in a word, its colour and its marker."""

_FONT = "system-ui, sans-serif"

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
    },
    "legend": {
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "labelLimit": 260,
        "title": None,
        "orient": "bottom",
        "symbolStrokeWidth": 2,
        "symbolOpacity": 1,
        "columnPadding": 14,
        "rowPadding": 4,
    },
}


_BY_SERIES: dict[str, Any] = {"field": "series", "type": "nominal", "sort": None, "title": None}
"""The page gives its scale the series at hand, each with its colour, dash or marker."""


def curve(quantity: str, title: str, *, share: bool) -> dict[str, Any]:
    """A quantity over steps: lines with bands and markers, phases shaded, one level for chance.

    Data sets: ``points`` (series, step, mean, low, high, n, shown), ``phases`` (from, to, fill, label, middle),
    ``levels`` (level, label).
    """
    y: dict[str, Any] = {
        "field": "mean",
        "type": "quantitative",
        "title": title,
        # the space above 1 is for the phases' names
        "scale": {"domain": [0, 1.1]} if share else {"zero": False},
        "axis": {
            "minExtent": 32,
            **({"format": ".1f", "values": [0, 0.2, 0.4, 0.6, 0.8, 1]} if share else {"tickCount": 5}),
        },
    }
    x: dict[str, Any] = {
        "field": "step",
        "type": "quantitative",
        "title": "optimizer steps",
        "scale": {"nice": False, "zero": False},
        "axis": {"grid": False, "tickCount": 8},
    }
    return {
        "$schema": SCHEMA,
        "config": CONFIG,
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": 230,
        "description": "",
        "layer": [
            {
                "data": {"name": "phases"},
                "mark": {"type": "rect", "clip": True, "aria": False},
                "encoding": {
                    "x": {"field": "from", "type": "quantitative"},
                    "x2": {"field": "to"},
                    "color": {"field": "fill", "type": "nominal", "scale": None, "legend": None},
                },
            },
            {
                "data": {"name": "phases"},
                "mark": {
                    "type": "text",
                    "clip": True,
                    "fontSize": 11,
                    "fill": "var(--soft)",
                    "baseline": "top",
                    "aria": False,
                },
                "encoding": {
                    "x": {"field": "middle", "type": "quantitative"},
                    "y": {"value": 3},
                    "text": {"field": "label", "type": "nominal"},
                },
            },
            {
                "data": {"name": "levels"},
                "mark": {"type": "rule", "stroke": "var(--soft)", "strokeDash": [1, 4], "clip": True},
                "encoding": {
                    "y": {"field": "level", "type": "quantitative"},
                    "tooltip": {"field": "label", "type": "nominal", "title": "level"},
                },
            },
            {
                "data": {"name": "points"},
                "mark": {"type": "area", "opacity": 0.16, "clip": True, "aria": False},
                "encoding": {
                    "x": x,
                    "y": {**y, "field": "low"},
                    "y2": {"field": "high"},
                    "fill": _BY_SERIES,
                },
            },
            {
                "data": {"name": "points"},
                "mark": {"type": "line", "strokeWidth": 2, "clip": True, "aria": False},
                "encoding": {
                    "x": x,
                    "y": y,
                    "stroke": _BY_SERIES,
                    "strokeDash": _BY_SERIES,
                },
            },
            {
                "data": {"name": "points"},
                "mark": {"type": "point", "filled": True, "clip": True, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    "stroke": _BY_SERIES,
                    "fill": _BY_SERIES,
                    "shape": _BY_SERIES,
                    "size": {"condition": {"param": "hover", "empty": False, "value": 120}, "value": 24},
                },
            },
            {
                # larger than the markers, so that a finger can meet them
                "data": {"name": "points"},
                "params": [
                    {
                        "name": "zoom",
                        "bind": "scales",
                        "select": {
                            "type": "interval",
                            "encodings": ["x"],
                            "zoom": "wheel![event.ctrlKey || event.metaKey]",
                        },
                    },
                    {
                        "name": "hover",
                        "select": {
                            "type": "point",
                            "on": "pointerover",
                            "clear": "pointerout",
                            "fields": ["series", "step"],
                        },
                    },
                ],
                "mark": {"type": "circle", "size": 260, "opacity": 0, "clip": True, "aria": False},
                "encoding": {
                    "x": x,
                    "y": y,
                    "tooltip": [
                        {"field": "series", "type": "nominal", "title": "curve"},
                        {"field": "step", "type": "quantitative", "title": "step"},
                        {"field": "phase", "type": "nominal", "title": "during"},
                        {"field": "shown", "type": "nominal", "title": quantity},
                        {"field": "n", "type": "nominal", "title": "seeds"},
                    ],
                },
            },
        ],
    }


def results(title: str) -> dict[str, Any]:
    """The primary measure of every row with its interval, and the reference as a level.

    Data sets: ``rows`` (label, mean, low, high, finding, shown, differs), ``reference`` (mean).
    """
    words = [look[0] for look in FINDINGS.values()]
    colours = [look[1] for look in FINDINGS.values()]
    shapes = [look[2] for look in FINDINGS.values()]
    finding = {"field": "finding", "type": "nominal"}
    legend = {"columns": 4}
    y = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {
            "labelLimit": 240,
            "labelColor": "var(--ink)",
            "grid": True,
            "ticks": False,
            "domain": False,
        },
    }
    tooltip = [
        {"field": "label", "type": "nominal", "title": "row"},
        {"field": "shown", "type": "nominal", "title": "value"},
        {"field": "differs", "type": "nominal", "title": "verdict"},
    ]
    colour = {**finding, "scale": {"domain": words, "range": colours}, "legend": legend}
    return {
        "$schema": SCHEMA,
        "config": CONFIG,
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": 100,
        "description": "",
        "layer": [
            {
                "data": {"name": "reference"},
                "mark": {"type": "rule", "stroke": "var(--soft)", "strokeDash": [4, 4], "aria": False},
                "encoding": {"x": {"field": "mean", "type": "quantitative"}},
            },
            {
                "data": {"name": "rows"},
                "mark": {"type": "rule", "strokeWidth": 2.5, "aria": False},
                "encoding": {
                    "y": y,
                    "x": {
                        "field": "low",
                        "type": "quantitative",
                        "title": title,
                        "scale": {"zero": False},
                        "axis": {"tickCount": 8},
                    },
                    "x2": {"field": "high"},
                    "stroke": colour,
                    "tooltip": tooltip,
                },
            },
            {
                "data": {"name": "rows"},
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {
                    "y": y,
                    "x": {"field": "mean", "type": "quantitative"},
                    "fill": colour,
                    "stroke": colour,
                    "shape": {**finding, "scale": {"domain": words, "range": shapes}, "legend": legend},
                    "tooltip": tooltip,
                },
            },
        ],
    }


def answer() -> dict[str, Any]:
    """Log-probability of one right answer over steps; filled where the model answered rightly.

    Data sets: ``points`` (series, step, value, right, said, phase), ``phases`` as in `curve`.
    """
    base = curve("log-probability", "log-probability of the right answer (nats)", share=False)
    phases, labels = base["layer"][0], base["layer"][1]
    x = base["layer"][4]["encoding"]["x"]
    y = {**base["layer"][4]["encoding"]["y"], "field": "value"}
    return {
        **base,
        "layer": [
            phases,
            labels,
            {
                "data": {"name": "points"},
                "mark": {"type": "line", "strokeWidth": 1.5, "clip": True, "aria": False},
                "encoding": {"x": x, "y": y, "stroke": _BY_SERIES, "strokeDash": _BY_SERIES},
            },
            {
                "data": {"name": "points"},
                "mark": {"type": "point", "filled": True, "size": 70, "clip": True, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    "fill": _BY_SERIES,
                    "stroke": _BY_SERIES,
                    "shape": {
                        "field": "right",
                        "type": "nominal",
                        "scale": {"domain": ["right", "wrong"], "range": ["circle", "M-1,-1L1,1M1,-1L-1,1"]},
                        "legend": {"symbolFillColor": "var(--soft)", "symbolStrokeColor": "var(--soft)"},
                    },
                    "tooltip": [
                        {"field": "series", "type": "nominal", "title": "fact"},
                        {"field": "step", "type": "quantitative", "title": "step"},
                        {"field": "phase", "type": "nominal", "title": "during"},
                        {"field": "said", "type": "nominal", "title": "answered"},
                        {
                            "field": "value",
                            "type": "quantitative",
                            "title": "log-probability",
                            "format": ".2f",
                        },
                    ],
                },
            },
        ],
    }
