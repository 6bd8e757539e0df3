"""Hooks of plugins, all on one screen.

A plugin is a module named by an entry point in the group of its kind (`seqmem.scenario`,
`seqmem.strategy`, `seqmem.metric`, `seqmem.model`, `seqmem.text`, `seqmem.suite`), the entry point's name
being the name users type. The module states `seqmem_api = ">=1,<2"` and implements the hook of its kind.
"""

from __future__ import annotations

import pluggy

from seqmem.plugin.specs import MetricSpec, ModelSpec, ScenarioSpec, StrategySpec, SuiteSpec, TextSpec

hookspec = pluggy.HookspecMarker("seqmem")
hookimpl = pluggy.HookimplMarker("seqmem")


@hookspec
def seqmem_scenario() -> list[ScenarioSpec]:  # type: ignore[empty-body]
    """Return streams of experiences and the probes about them."""


@hookspec
def seqmem_strategy() -> list[StrategySpec]:  # type: ignore[empty-body]
    """Return ways to learn a stream."""


@hookspec
def seqmem_metric() -> list[MetricSpec]:  # type: ignore[empty-body]
    """Return pure functions of run records."""


@hookspec
def seqmem_model() -> list[ModelSpec]:  # type: ignore[empty-body]
    """Return models by a short name, and how to make them."""


@hookspec
def seqmem_text() -> list[TextSpec]:  # type: ignore[empty-body]
    """Return sources of background text."""


@hookspec
def seqmem_suite() -> list[SuiteSpec]:  # type: ignore[empty-body]
    """Return experiments that belong together."""
