"""Several strategies as one: `--strategy ewc+replay`.

In the order written: rehearsed rows are joined, penalties add up, changes of gradients and updates follow one
another, a parameter is trained where every part trains it. State stays apart, by the part's name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from seqmem.core.data import Batch, Example, Experience, Options, Stream
from seqmem.core.errors import UsageError, unknown
from seqmem.core.options import validate
from seqmem.plugin.specs import Footprint, StrategySpec
from seqmem.plugin.strategy import Strategy, overrides

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem.plugin.learner import Learner


class Composed(Strategy):
    """Strategies that act one after another at every step."""

    def __init__(self, parts: Mapping[str, Strategy], shapers: Collection[str] = ()) -> None:
        """Compose by name, in this order; `shapers` are the parts that have the say in the model."""
        self._named = dict(parts)
        self.parts = tuple(parts.values())
        self._shapers_last = tuple(parts[name] for name in sorted(parts, key=lambda name: name in shapers))

    def setup(self, learner: Learner) -> None:
        """Set up every part."""
        for part in self.parts:
            part.setup(learner)

    def before_experience(self, learner: Learner, experience: Experience) -> None:
        """Prepare every part."""
        for part in self.parts:
            part.before_experience(learner, experience)

    def trainable(self, learner: Learner, experience: Experience) -> Collection[str] | None:
        """What all parts agree to train."""
        sets = [part.trainable(learner, experience) for part in self.parts]
        named = [set(names) for names in sets if names is not None]
        return set.intersection(*named) if named else None

    def forward(
        self, learner: Learner, input_ids: Tensor, task_label: int | None, prompt_tokens: Tensor | None
    ) -> Tensor:
        """Of the one part that routes; `compose` lets no two in."""
        routing = next((part for part in self.parts if overrides(part, "forward")), self.parts[0])
        return routing.forward(learner, input_ids, task_label, prompt_tokens)

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """All rehearsed rows."""
        return [row for part in self.parts for row in part.rehearse(learner, batch)]

    def add_gradient(self, learner: Learner) -> float:
        """The sum of the penalties."""
        return sum(part.add_gradient(learner) for part in self.parts)

    def transform_gradient(self, learner: Learner) -> None:
        """One change after another."""
        for part in self.parts:
            part.transform_gradient(learner)

    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        """One change after another."""
        for part in self.parts:
            part.transform_update(learner, before)

    def after_step(self, learner: Learner, batch: Batch) -> None:
        """Every part's; last those that say what of the model must not move, so that nothing moves it after them."""
        for part in self._shapers_last:
            part.after_step(learner, batch)

    def measured(self) -> Mapping[str, float]:
        """Every part's."""
        return {name: value for part in self.parts for name, value in part.measured().items()}

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """Every part's."""
        for part in self.parts:
            part.after_experience(learner, experience)

    def unregistered_bytes(self) -> int:
        """Sum over the parts."""
        return sum(part.unregistered_bytes() for part in self.parts)

    def state_dict(self) -> dict[str, Any]:
        """By the part's name."""
        return {name: part.state_dict() for name, part in self._named.items()}

    def tensors(self) -> Mapping[str, Tensor]:
        """By the part's name."""
        return {f"{name}/{k}": t for name, part in self._named.items() for k, t in part.tensors().items()}

    def reshape(self, learner: Learner, state: dict[str, Any]) -> None:
        """Every part's."""
        for name, part in self._named.items():
            part.reshape(learner, state[name])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Every part's own."""
        for name, part in self._named.items():
            part.load_state_dict(state[name])

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Every part's own."""
        for name, part in self._named.items():
            front = f"{name}/"
            part.load_tensors({k.removeprefix(front): t for k, t in tensors.items() if k.startswith(front)})


def compose(specs: Sequence[StrategySpec]) -> StrategySpec:
    """The spec of several strategies at once; its options are the parts' options by the parts' names.

    Raises:
        UsageError: a strategy is named twice, or two of them want the say in the same thing.
    """
    names = [spec.name for spec in specs]
    title = "+".join(names)
    for one, other in itertools.combinations(specs, 2):
        if one.name == other.name:
            raise UsageError(f"strategy {title} names {one.name} twice")
        for what in set(one.exclusive) & set(other.exclusive):
            raise UsageError(
                f"strategy {title}: {one.name} and {other.name} cannot go together, "
                f"both want the only say in the learner's {what}"
            )
    fields: dict[str, Any] = {
        spec.name: (spec.options, Field(default_factory=spec.options, description=spec.summary))
        for spec in specs
    }

    def check(options: Any, optimizer: Any) -> None:
        for spec in specs:
            if spec.check is not None:
                spec.check(getattr(options, spec.name), optimizer)

    def check_model(options: Any, footprint: Footprint) -> None:
        footprint = _resized([spec for spec in specs if spec.transform_stream], options, footprint)
        for spec in specs:
            if spec.check_model is not None:
                spec.check_model(getattr(options, spec.name), footprint)

    return StrategySpec(
        name=title,
        version="+".join(spec.version for spec in specs),
        summary="In this order: " + " ".join(spec.summary for spec in specs),
        options=create_model(title, __base__=Options, **fields),
        build=lambda options: Composed(
            {spec.name: spec.build(getattr(options, spec.name)) for spec in specs},
            [spec.name for spec in specs if "model" in spec.exclusive],
        ),
        # what a part makes of the stream holds for all
        resize=lambda options, footprint: _resized(
            sorted(specs, key=lambda spec: spec.transform_stream is None), options, footprint
        ),
        planned_bytes=lambda options, footprint: sum(
            spec.planned_bytes(getattr(options, spec.name), footprint) for spec in specs if spec.planned_bytes
        ),
        exclusive=tuple({what: None for spec in specs for what in spec.exclusive}),
        transform_stream=_transformed([s.transform_stream for s in specs if s.transform_stream is not None]),
        check=check,
        check_model=check_model,
        citation="; ".join(spec.citation for spec in specs if spec.citation),
        parts=tuple(specs),
    )


def _resized(specs: Sequence[StrategySpec], options: Any, footprint: Footprint) -> Footprint:
    for spec in specs:
        if spec.resize is not None:
            footprint = spec.resize(getattr(options, spec.name), footprint)
    return footprint


def _transformed(
    transforms: Sequence[Callable[[Stream, int], Stream]],
) -> Callable[[Stream, int], Stream] | None:
    """One transform of the stream after another; None where there is none."""
    if not transforms:
        return None

    def transform(stream: Stream, seed: int) -> Stream:
        for one in transforms:
            stream = one(stream, seed)
        return stream

    return transform


def owners(spec: StrategySpec, name: str) -> list[StrategySpec]:
    """The parts of a strategy that an option is meant for: ``lam``, or of one part only ``ewc.lam``."""
    part_name, _, option = name.rpartition(".")
    return [
        part
        for part in spec.parts or (spec,)
        if part_name in ("", part.name) and option in part.options.model_fields
    ]


def place(spec: StrategySpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Option values as the spec holds them; those that are not meant for it are left out.

    Raises:
        UsageError: a value could be meant for several parts, or is given twice.
    """
    placed: dict[str, dict[str, Any]] = {part.name: {} for part in spec.parts or (spec,)}
    for name, value in values.items():
        found = owners(spec, name)
        if len(found) > 1:
            said = " or ".join(f"strategy.{part.name}.{name}" for part in found)
            raise UsageError(f"strategy.{name} is an option of several parts of {spec.name}; write {said}")
        for part in found:
            option = name.rpartition(".")[2]
            if option in placed[part.name]:
                raise UsageError(f"option {option!r} of strategy {part.name} is given twice")
            placed[part.name][option] = value
    return dict(placed) if spec.parts else placed[spec.name]


def strategy_options(spec: StrategySpec, values: Mapping[str, Any]) -> Any:
    """Checked options of a strategy, or of every part of a composition.

    Raises:
        UsageError: as `options.validate`.
    """
    if not spec.parts:
        return validate(spec.options, values, f"strategy {spec.name}")
    strange = sorted(values.keys() - {part.name for part in spec.parts})
    if strange:
        raise UsageError(unknown(f"part of strategy {spec.name}", strange[0], [p.name for p in spec.parts]))
    return spec.options(
        **{p.name: validate(p.options, values.get(p.name, {}), f"strategy {p.name}") for p in spec.parts}
    )
