"""The charts as Vega-Lite specifications: plain dicts that the page fills with data.

Colours are CSS variables, so that dark mode and print need no second drawing. A series has a colour, a dash
and a marker of its own: no reader depends on colour.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from seqmem.scoring.verdict import Finding

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
COLOURS = [f"var(--c{number})" for number in range(8)]
DASHES = [[1, 0], [7, 3], [2, 2], [8, 2, 2, 2], [12, 4], [4, 4], [1, 3], [10, 2, 2, 2, 2, 2]]
SHAPES = "circle square triangle-up diamond cross triangle-down triangle-left triangle-right".split()
TWINS = {"colour": "var(--twins)", "dash": [3, 3], "shape": "stroke"}


class Look(NamedTuple):
    """A finding in a word, with its colour and its marker."""

    word: str
    colour: str
    shape: str


_ALIKE = Look("no different", "var(--c2)", "square")
_UNTESTED = Look("too few seeds", "var(--soft)", "triangle-right")
_NOT_COMPARED = Look("not compared", "var(--soft)", "stroke")
FINDINGS: dict[Finding, Look] = {
    "better": Look("better", "var(--good)", "triangle-up"),
    "worse": Look("worse", "var(--bad)", "triangle-down"),
    "differs": Look("different", "var(--c5)", "diamond"),
    "alike": _ALIKE,
    "identical": _ALIKE,
    "not_shown": Look("no difference shown", "var(--soft)", "circle"),
    "too_few_seeds": _UNTESTED,
    "no_test": _UNTESTED,
    "reference": Look("reference", "var(--ink)", "cross"),
    "apart": Look("other stream, not tested", "var(--soft)", "stroke"),
    "no_pair": _NOT_COMPARED,
    "no_value": _NOT_COMPARED,
    "no_reference": _NOT_COMPARED,
}

_AXIS_TEXT = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
_AXIS_LINES = {"gridColor": "var(--line)", "domainColor": "var(--line)", "tickColor": "var(--line)"}
_CHART: dict[str, Any] = {
    "$schema": SCHEMA,
    "config": {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {"labelColor": "var(--soft)", "titleColor": "var(--soft)", **_AXIS_TEXT, **_AXIS_LINES},
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
    },
    "width": "container",
    "autosize": {"type": "fit-x", "contains": "padding"},
    "description": "",
}


def _nominal(field: str, title: str | None = "", **more: Any) -> dict[str, Any]:
    """Return a channel of names; without a title of its own where that is empty."""
    return {"field": field, "type": "nominal", **({} if title == "" else {"title": title}), **more}


def _number(field: str, title: str = "", **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", **({"title": title} if title else {}), **more}


def _layer(data: str, mark: str, encoding: dict[str, Any], **look: Any) -> dict[str, Any]:
    return {"data": {"name": data}, "mark": {"type": mark, **look}, "encoding": encoding}


_BY_SERIES = _nominal("series", None, sort=None)
"""The page gives its scale the series at hand, each with its colour, dash or marker."""

_STEPS = _number(
    "step",
    "optimizer steps",
    scale={"nice": False, "zero": False},
    axis={"grid": False, "tickCount": 8},
)


def _quantity(title: str, *, share: bool) -> dict[str, Any]:
    if not share:
        return _number("mean", title, scale={"zero": False}, axis={"minExtent": 32, "tickCount": 5})
    axis = {"minExtent": 32, "format": ".1f", "values": [0, 0.2, 0.4, 0.6, 0.8, 1]}
    # the space above 1 is for the phases' names
    return _number("mean", title, scale={"domain": [0, 1.1]}, axis=axis)


def _phases() -> list[dict[str, Any]]:
    """Return layers that shade the phases and name them; data set ``phases`` (from, to, fill, label, middle)."""
    fill = _nominal("fill", scale=None, legend=None)
    shade = {"x": _number("from"), "x2": {"field": "to"}, "color": fill}
    name = {"x": _number("middle"), "y": {"value": 3}, "text": _nominal("label")}
    small = {"fontSize": 11, "fill": "var(--soft)", "baseline": "top"}
    return [
        _layer("phases", "rect", shade, clip=True, aria=False),
        _layer("phases", "text", name, clip=True, aria=False, **small),
    ]


def curve(quantity: str, title: str, *, share: bool) -> dict[str, Any]:
    """Return a quantity over steps: lines with bands and markers, phases shaded, one level for chance.

    Data sets: ``points`` (series, step, mean, low, high, n, shown), ``phases`` (from, to, fill, label, middle),
    ``levels`` (level, label).
    """
    y = _quantity(title, share=share)
    at = {"x": _STEPS, "y": y}
    level = {"y": _number("level"), "tooltip": _nominal("label", "level")}
    band = {"x": _STEPS, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "fill": _BY_SERIES}
    size = {"condition": {"param": "hover", "empty": False, "value": 120}, "value": 24}
    marker = {**at, "stroke": _BY_SERIES, "fill": _BY_SERIES, "shape": _BY_SERIES, "size": size}
    zoom = {"type": "interval", "encodings": ["x"], "zoom": "wheel![event.ctrlKey || event.metaKey]"}
    hover = {"type": "point", "on": "pointerover", "clear": "pointerout", "fields": ["series", "step"]}
    tooltip = [
        _nominal("series", "curve"),
        _number("step", "step"),
        _nominal("phase", "during"),
        _nominal("shown", quantity),
        _nominal("n", "seeds"),
    ]
    # larger than the markers, so that a finger can meet them
    touched = _layer(
        "points", "circle", {**at, "tooltip": tooltip}, size=260, opacity=0, clip=True, aria=False
    )
    touched["params"] = [
        {"name": "zoom", "bind": "scales", "select": zoom},
        {"name": "hover", "select": hover},
    ]
    return {
        **_CHART,
        "height": 230,
        "layer": [
            *_phases(),
            _layer("levels", "rule", level, stroke="var(--soft)", strokeDash=[1, 4], clip=True),
            _layer("points", "area", band, opacity=0.16, clip=True, aria=False),
            _layer(
                "points",
                "line",
                {**at, "stroke": _BY_SERIES, "strokeDash": _BY_SERIES},
                strokeWidth=2,
                clip=True,
                aria=False,
            ),
            _layer("points", "point", marker, filled=True, clip=True, opacity=1),
            touched,
        ],
    }


def results(title: str) -> dict[str, Any]:
    """Return the primary measure of every row with its interval, and the reference as a level.

    Data sets: ``rows`` (label, mean, low, high, finding, shown, differs), ``reference`` (mean).
    """
    words, colours, shapes = map(list, zip(*dict.fromkeys(FINDINGS.values()), strict=True))
    legend = {"columns": 4}
    axis = {"labelLimit": 240, "labelColor": "var(--ink)", "grid": True, "ticks": False, "domain": False}
    y = _nominal("label", None, sort=None, axis=axis)
    # of a single value the usual format would round to a whole number
    x = _number("low", scale={"zero": False}, axis={"tickCount": 8, "format": ".4~g"})
    tooltip = [_nominal("label", "row"), _nominal("shown", "value"), _nominal("differs", "verdict")]
    colour = _nominal("finding", scale={"domain": words, "range": colours}, legend=legend)
    bar = {"y": y, "x": {**x, "title": title}, "x2": {"field": "high"}, "stroke": colour, "tooltip": tooltip}
    marker = {
        "y": y,
        "x": _number("mean"),
        "fill": colour,
        "stroke": colour,
        "shape": _nominal("finding", scale={"domain": words, "range": shapes}, legend=legend),
        "tooltip": tooltip,
    }
    level = {"stroke": "var(--soft)", "strokeDash": [4, 4], "aria": False}
    return {
        **_CHART,
        "height": 100,
        "layer": [
            _layer("reference", "rule", {"x": _number("mean")}, **level),
            _layer("rows", "rule", bar, strokeWidth=2.5, aria=False),
            _layer("rows", "point", marker, filled=True, size=90, opacity=1),
        ],
    }


def sizes() -> dict[str, Any]:
    """Return a measure over model size: means with their intervals over seeds, and the fitted lines.

    Data sets: ``points`` (series, model, size, mean, low, high, shown), ``lines`` (series, size, mean).
    """
    axis = {"grid": False, "labelExpr": "replace(format(datum.value, '.3~s'), 'G', 'B')"}
    x = _number(
        "size", "parameters (log scale)", scale={"type": "log", "nice": False, "padding": 16}, axis=axis
    )
    at = {"x": x, "y": {**_quantity("", share=False), "title": None}}
    bar = {**at, "y": {**at["y"], "field": "low"}, "y2": {"field": "high"}, "stroke": _BY_SERIES}
    line = {**at, "stroke": _BY_SERIES, "strokeDash": _BY_SERIES}
    tooltip = [_nominal("series", "strategy"), _nominal("model", "model"), _nominal("shown", "value")]
    marker = {**at, "stroke": _BY_SERIES, "fill": _BY_SERIES, "shape": _BY_SERIES, "tooltip": tooltip}
    return {
        **_CHART,
        "height": 170,
        "layer": [
            _layer("points", "rule", bar, strokeWidth=1.5, aria=False),
            _layer("lines", "line", line, strokeWidth=1.5, aria=False),
            _layer("points", "point", marker, filled=True, size=60, opacity=1),
        ],
    }


def trade_off() -> dict[str, Any]:
    """Return the primary measure over another one, rows with their intervals, and the front of those unbeaten.

    Data sets: ``points`` (series, x, x_low, x_high, y, y_low, y_high, ranked, shown), ``front`` (x, y).
    """
    flat = {"zero": False, "nice": False, "padding": 14}
    x = _number("x", scale=flat, axis={"grid": False, "tickCount": 6})
    y = _number("y", scale={**flat}, axis={"minExtent": 32, "tickCount": 5})
    across = {"x": {**x, "field": "x_low"}, "x2": {"field": "x_high"}, "y": y, "stroke": _BY_SERIES}
    along = {"x": x, "y": {**y, "field": "y_low"}, "y2": {"field": "y_high"}, "stroke": _BY_SERIES}
    tooltip = [
        _nominal("series", "row"),
        _nominal("shown", "values"),
        _nominal("ranked", "may be ranked"),
    ]
    marker = {
        "x": x,
        "y": y,
        "stroke": _BY_SERIES,
        "fill": _BY_SERIES,
        "shape": _BY_SERIES,
        "fillOpacity": {"condition": {"test": "datum.ranked", "value": 1}, "value": 0},
        "tooltip": tooltip,
    }
    return {
        **_CHART,
        "height": 230,
        "layer": [
            _layer("front", "line", {"x": x, "y": y}, stroke="var(--soft)", strokeDash=[2, 3], aria=False),
            _layer("points", "rule", across, strokeWidth=1.2, aria=False),
            _layer("points", "rule", along, strokeWidth=1.2, aria=False),
            _layer("points", "point", marker, filled=True, size=80, strokeWidth=1.5, opacity=1),
        ],
    }


def answer() -> dict[str, Any]:
    """Return the log-probability of one right answer over steps; filled where the model answered rightly.

    Data sets: ``points`` (series, step, value, right, said, phase), ``phases`` as in `curve`.
    """
    y = {**_quantity("log-probability of the right answer (nats)", share=False), "field": "value"}
    at = {"x": _STEPS, "y": y}
    shape = _nominal(
        "right",
        scale={"domain": ["right", "wrong"], "range": ["circle", "M-1,-1L1,1M1,-1L-1,1"]},
        legend={"symbolFillColor": "var(--soft)", "symbolStrokeColor": "var(--soft)"},
    )
    tooltip = [
        _nominal("series", "fact"),
        _number("step", "step"),
        _nominal("phase", "during"),
        _nominal("said", "answered"),
        _number("value", "log-probability", format=".2f"),
    ]
    line = {**at, "stroke": _BY_SERIES, "strokeDash": _BY_SERIES}
    marker = {**at, "fill": _BY_SERIES, "stroke": _BY_SERIES, "shape": shape, "tooltip": tooltip}
    return {
        **_CHART,
        "height": 230,
        "layer": [
            *_phases(),
            _layer("points", "line", line, strokeWidth=1.5, clip=True, aria=False),
            _layer("points", "point", marker, filled=True, size=70, clip=True, opacity=1),
        ],
    }
