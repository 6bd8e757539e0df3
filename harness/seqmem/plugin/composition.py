"""Several strategies as one: `--strategy ewc+replay`.

The parts act in the order written. Rehearsed rows are joined and penalties add up. Changes of gradients and updates
follow one another. A parameter is trained where every part trains it. State is kept apart, by the part's name.
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
        """Compose by name, in this order; `shapers` are the parts that change the model."""
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
        """Return the parameters that all parts train."""
        sets = [part.trainable(learner, experience) for part in self.parts]
        named = [set(names) for names in sets if names is not None]
        return set.intersection(*named) if named else None

    def forward(
        self, learner: Learner, input_ids: Tensor, task_label: int | None, prompt_tokens: Tensor | None
    ) -> Tensor:
        """Return the logits of the one part that routes; `compose` refuses two."""
        routing = next((part for part in self.parts if overrides(part, "forward")), self.parts[0])
        return routing.forward(learner, input_ids, task_label, prompt_tokens)

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Return all rehearsed rows."""
        return [row for part in self.parts for row in part.rehearse(learner, batch)]

    def add_gradient(self, learner: Learner) -> float:
        """Return the sum of the penalties."""
        return sum(part.add_gradient(learner) for part in self.parts)

    def transform_gradient(self, learner: Learner) -> None:
        """Change the gradients part by part."""
        for part in self.parts:
            part.transform_gradient(learner)

    def transform_update(self, learner: Learner, before: Mapping[str, Tensor]) -> None:
        """Change the update part by part."""
        for part in self.parts:
            part.transform_update(learner, before)

    def after_step(self, learner: Learner, batch: Batch) -> None:
        """Let every part act, shapers last, so that nothing moves what they hold still."""
        for part in self._shapers_last:
            part.after_step(learner, batch)

    def measured(self) -> Mapping[str, float]:
        """Return the numbers of every part."""
        return {name: value for part in self.parts for name, value in part.measured().items()}

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """Let every part act."""
        for part in self.parts:
            part.after_experience(learner, experience)

    def unregistered_bytes(self) -> int:
        """Return the sum over the parts."""
        return sum(part.unregistered_bytes() for part in self.parts)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every part by its name."""
        return {name: part.state_dict() for name, part in self._named.items()}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors of every part under its name."""
        return {f"{name}/{k}": t for name, part in self._named.items() for k, t in part.tensors().items()}

    def reshape(self, learner: Learner, state: dict[str, Any]) -> None:
        """Reshape for every part."""
        for name, part in self._named.items():
            part.reshape(learner, state[name])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give every part its state."""
        for name, part in self._named.items():
            part.load_state_dict(state[name])

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Give every part its tensors."""
        for name, part in self._named.items():
            front = f"{name}/"
            part.load_tensors({k.removeprefix(front): t for k, t in tensors.items() if k.startswith(front)})


def compose(specs: Sequence[StrategySpec]) -> StrategySpec:
    """Return the spec of several strategies as one; its options are those of the parts by the parts' names.

    Raises:
        UsageError: a strategy is named twice, or two of them must not change the same part of the learner.
    """
    names = [spec.name for spec in specs]
    title = "+".join(names)
    for one, other in itertools.combinations(specs, 2):
        if one.name == other.name:
            raise UsageError(f"strategy {title} names {one.name} twice")
        for what in set(one.exclusive) & set(other.exclusive):
            raise UsageError(
                f"strategy {title}: {one.name} and {other.name} cannot go together, "
                f"because both change the learner's {what}"
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
    """Return the transforms of the stream as one; None where there is none."""
    if not transforms:
        return None

    def transform(stream: Stream, seed: int) -> Stream:
        for one in transforms:
            stream = one(stream, seed)
        return stream

    return transform


def owners(spec: StrategySpec, name: str) -> list[StrategySpec]:
    """Return the parts of a strategy that have an option: ``lam``, or of one part only ``ewc.lam``."""
    part_name, _, option = name.rpartition(".")
    return [
        part
        for part in spec.parts or (spec,)
        if part_name in ("", part.name) and option in part.options.model_fields
    ]


def place(spec: StrategySpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return option values as the spec holds them, without those of other strategies.

    Raises:
        UsageError: several parts have the option, or it is given twice.
    """
    placed: dict[str, dict[str, Any]] = {part.name: {} for part in spec.parts or (spec,)}
    for name, value in values.items():
        found = owners(spec, name)
        if len(found) > 1:
            choices = " or ".join(f"strategy.{part.name}.{name}" for part in found)
            raise UsageError(f"strategy.{name} is an option of several parts of {spec.name}; write {choices}")
        for part in found:
            option = name.rpartition(".")[2]
            if option in placed[part.name]:
                raise UsageError(f"option {option!r} of strategy {part.name} is given twice")
            placed[part.name][option] = value
    return dict(placed) if spec.parts else placed[spec.name]


def strategy_options(spec: StrategySpec, values: Mapping[str, Any]) -> Any:
    """Return checked options of a strategy, or of every part of a composition.

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
