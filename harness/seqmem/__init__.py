"""seqmem: continual-learning benchmarks for language models.

Everything a plugin author or a notebook needs is a name of this package; names load on first use, so that
`import seqmem` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from seqmem.core.version import __version__ as __version__

_HOME = {
    "API_VERSION": "plugin.specs",
    "AuditResult": "verbs.audit",
    "Batch": "core.data",
    "BenchResult": "verbs.bench",
    "BuildContext": "core.data",
    "COLOURS": "reporting.drawing",
    "Cue": "core.data",
    "Decoding": "core.data",
    "Design": "core.design",
    "Example": "core.data",
    "Experience": "core.data",
    "Footprint": "plugin.specs",
    "Interval": "core.measures",
    "LOOP_PHASES": "core.data",
    "Learner": "plugin.learner",
    "Measure": "core.measures",
    "Metric": "plugin.metric",
    "MetricSpec": "plugin.specs",
    "Missing": "reading.missing",
    "ModelSpec": "plugin.specs",
    "NEVER": "core.data",
    "NotApplicable": "core.errors",
    "Options": "core.data",
    "Outline": "core.data",
    "PluginError": "core.errors",
    "Probe": "core.data",
    "ProbePoint": "core.data",
    "Relation": "core.data",
    "Row": "record.row",
    "RunFailed": "core.errors",
    "RunRecord": "record.reader",
    "ScenarioSpec": "plugin.specs",
    "SeqmemError": "core.errors",
    "Strategy": "plugin.strategy",
    "StrategySpec": "plugin.specs",
    "Stream": "core.data",
    "SuitePart": "plugin.specs",
    "SuiteSpec": "plugin.specs",
    "TOKEN_BYTES": "core.data",
    "TextSource": "core.data",
    "TextSpec": "plugin.specs",
    "UsageError": "core.errors",
    "Value": "core.measures",
    "answer_probe": "core.probes",
    "audit": "verbs.audit",
    "bench": "verbs.bench",
    "clean": "core.sanitize",
    "document_probe": "core.probes",
    "format_interval": "scoring.numbers",
    "hookimpl": "plugin.hookspecs",
    "mean_band": "reporting.drawing",
    "model_folder": "core.cache",
    "pack": "core.packing",
    "stream": "verbs.bench",
    "text_example": "core.probes",
    "unpack": "core.packing",
    "utf8": "core.encoding",
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
    from seqmem.core.cache import model_folder as model_folder
    from seqmem.core.data import LOOP_PHASES as LOOP_PHASES
    from seqmem.core.data import NEVER as NEVER
    from seqmem.core.data import TOKEN_BYTES as TOKEN_BYTES
    from seqmem.core.data import Batch as Batch
    from seqmem.core.data import BuildContext as BuildContext
    from seqmem.core.data import Cue as Cue
    from seqmem.core.data import Decoding as Decoding
    from seqmem.core.data import Example as Example
    from seqmem.core.data import Experience as Experience
    from seqmem.core.data import Options as Options
    from seqmem.core.data import Outline as Outline
    from seqmem.core.data import Probe as Probe
    from seqmem.core.data import ProbePoint as ProbePoint
    from seqmem.core.data import Relation as Relation
    from seqmem.core.data import Stream as Stream
    from seqmem.core.data import TextSource as TextSource
    from seqmem.core.design import Design as Design
    from seqmem.core.encoding import utf8 as utf8
    from seqmem.core.errors import NotApplicable as NotApplicable
    from seqmem.core.errors import PluginError as PluginError
    from seqmem.core.errors import RunFailed as RunFailed
    from seqmem.core.errors import SeqmemError as SeqmemError
    from seqmem.core.errors import UsageError as UsageError
    from seqmem.core.measures import Interval as Interval
    from seqmem.core.measures import Measure as Measure
    from seqmem.core.measures import Value as Value
    from seqmem.core.packing import pack as pack
    from seqmem.core.packing import unpack as unpack
    from seqmem.core.probes import answer_probe as answer_probe
    from seqmem.core.probes import document_probe as document_probe
    from seqmem.core.probes import text_example as text_example
    from seqmem.core.sanitize import clean as clean
    from seqmem.plugin.hookspecs import hookimpl as hookimpl
    from seqmem.plugin.learner import Learner as Learner
    from seqmem.plugin.metric import Metric as Metric
    from seqmem.plugin.specs import API_VERSION as API_VERSION
    from seqmem.plugin.specs import Footprint as Footprint
    from seqmem.plugin.specs import MetricSpec as MetricSpec
    from seqmem.plugin.specs import ModelSpec as ModelSpec
    from seqmem.plugin.specs import ScenarioSpec as ScenarioSpec
    from seqmem.plugin.specs import StrategySpec as StrategySpec
    from seqmem.plugin.specs import SuitePart as SuitePart
    from seqmem.plugin.specs import SuiteSpec as SuiteSpec
    from seqmem.plugin.specs import TextSpec as TextSpec
    from seqmem.plugin.strategy import Strategy as Strategy
    from seqmem.reading.missing import Missing as Missing
    from seqmem.record.reader import RunRecord as RunRecord
    from seqmem.record.row import Row as Row
    from seqmem.reporting.drawing import COLOURS as COLOURS
    from seqmem.reporting.drawing import mean_band as mean_band
    from seqmem.scoring.numbers import format_interval as format_interval
    from seqmem.verbs.audit import AuditResult as AuditResult
    from seqmem.verbs.audit import audit as audit
    from seqmem.verbs.bench import BenchResult as BenchResult
    from seqmem.verbs.bench import bench as bench
    from seqmem.verbs.bench import stream as stream
