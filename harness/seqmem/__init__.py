"""seqmem: continual-learning benchmarks for language models.

Everything a plugin author or a notebook needs is a name of this package; names load on first use, so that
`import seqmem` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "API_VERSION": "types",
    "Batch": "types",
    "BenchResult": "api",
    "BuildContext": "types",
    "COLOURS": "figures",
    "Cue": "types",
    "Decoding": "types",
    "Example": "types",
    "Experience": "types",
    "Footprint": "types",
    "LOOP_PHASES": "types",
    "Learner": "learner",
    "Measure": "types",
    "MetricSpec": "types",
    "ModelSpec": "types",
    "NEVER": "types",
    "NotApplicable": "errors",
    "Options": "types",
    "Outline": "types",
    "PluginError": "errors",
    "Probe": "types",
    "ProbePoint": "types",
    "Relation": "types",
    "Row": "leaderboard",
    "RunFailed": "errors",
    "RunRecord": "record",
    "ScenarioSpec": "types",
    "SeqmemError": "errors",
    "Strategy": "strategy",
    "StrategySpec": "types",
    "Stream": "types",
    "SuitePart": "types",
    "SuiteSpec": "types",
    "TOKEN_BYTES": "types",
    "TextSource": "types",
    "TextSpec": "types",
    "UsageError": "errors",
    "Value": "types",
    "answer_probe": "probes",
    "bench": "api",
    "clean": "text",
    "document_probe": "probes",
    "hookimpl": "hookspecs",
    "mean_band": "figures",
    "pack": "packing",
    "stream": "api",
    "text_example": "probes",
    "unpack": "packing",
}

__all__ = sorted(_HOME)

OFFERED = "seqmem.function"
"""Entry points of this group are functions that installed packages add to this one's names."""


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use; a name that is not the host's may be a plugin's."""
    if name in _HOME:
        value = getattr(importlib.import_module(f"seqmem.{_HOME[name]}"), name)
    else:
        from importlib.metadata import entry_points

        offered = () if name.startswith("_") else tuple(entry_points(group=OFFERED, name=name))
        if len(offered) != 1:
            packages = " and ".join(sorted(point.dist.name for point in offered if point.dist))
            clash = f"; it is offered by {packages}: uninstall one" if offered else ""
            raise AttributeError(f"module 'seqmem' has no attribute {name!r}{clash}")
        value = offered[0].load()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names."""
    return [*__all__, "__version__"]


if TYPE_CHECKING:
    from seqmem.api import BenchResult as BenchResult
    from seqmem.api import bench as bench
    from seqmem.api import stream as stream
    from seqmem.errors import NotApplicable as NotApplicable
    from seqmem.errors import PluginError as PluginError
    from seqmem.errors import RunFailed as RunFailed
    from seqmem.errors import SeqmemError as SeqmemError
    from seqmem.errors import UsageError as UsageError
    from seqmem.figures import COLOURS as COLOURS
    from seqmem.figures import mean_band as mean_band
    from seqmem.hookspecs import hookimpl as hookimpl
    from seqmem.leaderboard import Row as Row
    from seqmem.learner import Learner as Learner
    from seqmem.packing import pack as pack
    from seqmem.packing import unpack as unpack
    from seqmem.probes import answer_probe as answer_probe
    from seqmem.probes import document_probe as document_probe
    from seqmem.probes import text_example as text_example
    from seqmem.record import RunRecord as RunRecord
    from seqmem.strategy import Strategy as Strategy
    from seqmem.text import clean as clean
    from seqmem.types import API_VERSION as API_VERSION
    from seqmem.types import LOOP_PHASES as LOOP_PHASES
    from seqmem.types import NEVER as NEVER
    from seqmem.types import TOKEN_BYTES as TOKEN_BYTES
    from seqmem.types import Batch as Batch
    from seqmem.types import BuildContext as BuildContext
    from seqmem.types import Cue as Cue
    from seqmem.types import Decoding as Decoding
    from seqmem.types import Example as Example
    from seqmem.types import Experience as Experience
    from seqmem.types import Footprint as Footprint
    from seqmem.types import Measure as Measure
    from seqmem.types import MetricSpec as MetricSpec
    from seqmem.types import ModelSpec as ModelSpec
    from seqmem.types import Options as Options
    from seqmem.types import Outline as Outline
    from seqmem.types import Probe as Probe
    from seqmem.types import ProbePoint as ProbePoint
    from seqmem.types import Relation as Relation
    from seqmem.types import ScenarioSpec as ScenarioSpec
    from seqmem.types import StrategySpec as StrategySpec
    from seqmem.types import Stream as Stream
    from seqmem.types import SuitePart as SuitePart
    from seqmem.types import SuiteSpec as SuiteSpec
    from seqmem.types import TextSource as TextSource
    from seqmem.types import TextSpec as TextSpec
    from seqmem.types import Value as Value
