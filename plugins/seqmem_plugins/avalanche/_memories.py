"""Avalanche's plugins that keep rows: Replay rehearses them, AGEM and GEM hold gradients against theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from seqmem import Batch, Example
from seqmem_plugins.avalanche._bridge import Bridge

if TYPE_CHECKING:
    from seqmem import Learner


def _to_json(rows: Sequence[Example]) -> list[dict[str, Any]]:
    return [row.to_json() for row in rows]


def _from_json(rows: Sequence[Mapping[str, Any]]) -> list[Example]:
    return [Example.from_json(row) for row in rows]


class Replay(Bridge):
    """Rehearses rows that Avalanche's storage policy keeps; its loader, whose cost grows, is not used."""

    name = "Replay"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._rows: list[Example] = []

    def _make(self) -> Any:
        from avalanche.training.plugins.replay import ReplayPlugin

        return ReplayPlugin(mem_size=self._options.mem_size)

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Draw rows from the memory without replacement."""
        from seqmem_plugins.avalanche._standin import draw

        super().rehearse(learner, batch)
        return draw(learner, self._rows, self._options.batch_size_mem or len(batch))

    def _consolidate(self) -> None:
        policy = self._plugin.storage_policy
        policy.post_adapt(self._standin, self._standin.experience)
        # groups that have no room, always the latest, are never filled again; without them no cost grows
        for number in [number for number, group in policy.buffer_groups.items() if not len(group.buffer)]:
            del policy.buffer_groups[number]
        self._flatten()

    def _flatten(self) -> None:
        groups = self._plugin.storage_policy.buffer_groups.values()
        self._rows = [row for group in groups for row in group.buffer]

    def unregistered_bytes(self) -> int:
        """Return the bytes of the kept rows."""
        return sum(row.nbytes for row in self._rows)

    def state_dict(self) -> dict[str, Any]:
        """Return rows and their places in the reservoir, by experience."""
        groups = [
            {"rows": _to_json(group.buffer), "weights": group._buffer_weights.tolist()}
            for group in self._plugin.storage_policy.buffer_groups.values()
        ]
        return {**super().state_dict(), "groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the memory."""
        import torch
        from avalanche.training.storage_policy import ReservoirSamplingBuffer

        from seqmem_plugins.avalanche._standin import Rows

        super().load_state_dict(state)
        self._plugin = self._make()
        policy = self._plugin.storage_policy
        policy._num_exps = state["experiences"]
        for number, kept in enumerate(state["groups"]):
            group = ReservoirSamplingBuffer(len(kept["rows"]))
            group.buffer = Rows(_from_json(kept["rows"]))
            group._buffer_weights = torch.tensor(kept["weights"])
            policy.buffer_groups[number] = group
        self._flatten()


class Projection(Bridge):
    """A plugin that keeps rows of every experience and turns gradients that would raise their loss."""

    references: ClassVar[str]
    """Attribute of the plugin that holds the gradients of remembered rows."""
    copies: ClassVar[int] = 1
    """Copies of them that exist while they are made."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._projected: bool | None = None

    def rehearse(self, learner: Learner, batch: Batch) -> Sequence[Example]:
        """Take the gradients of remembered rows."""
        super().rehearse(learner, batch)
        if self._plugin.buffers:
            self._plugin.before_training_iteration(self._standin)
            self._standin.clear()
            held = self.copies * int(getattr(self._plugin, self.references).nbytes)
            self._scratch = max(self._scratch, held)
        return ()

    def transform_gradient(self, learner: Learner) -> None:
        """Project, and note whether that changed anything."""
        if not self._plugin.buffers:
            return
        import torch

        gradients = [p.grad for p in learner.parameters.values() if p.grad is not None]
        writes = sum(gradient._version for gradient in gradients)
        self._plugin.after_backward(self._standin)
        self._projected = sum(gradient._version for gradient in gradients) != writes
        setattr(self._plugin, self.references, torch.empty(0))  # they are large, and no longer needed

    def measured(self) -> Mapping[str, float]:
        """Return 1 where the step's gradient was projected, else 0; nothing while the memory is empty."""
        if self._projected is None:
            return {}
        projected, self._projected = self._projected, None
        return {f"avalanche.{self.name}.projected": float(projected)}

    def unregistered_bytes(self) -> int:
        """Return the bytes of the kept rows and, inside a step, of their gradients."""
        kept: list[list[Example]] = self._plugin.buffers
        return super().unregistered_bytes() + sum(row.nbytes for rows in kept for row in rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, by experience."""
        return {**super().state_dict(), "buffers": [_to_json(rows) for rows in self._plugin.buffers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the memory."""
        super().load_state_dict(state)
        self._plugin = self._make()
        for rows in state["buffers"]:
            self._plugin.keep(_from_json(rows))


class AGEM(Projection):
    """One reference: the gradient of a sample of all kept rows."""

    name = "AGEM"
    references = "reference_gradients"

    def _make(self) -> Any:
        from seqmem_plugins.avalanche._standin import AGEM as Plugin

        o = self._options
        return Plugin(self._learner, o.patterns_per_experience, o.sample_size)


class GEM(Projection):
    """A reference per past experience."""

    name = "GEM"
    references = "G"
    copies = 2  # once in pieces, once together

    def _make(self) -> Any:
        from seqmem_plugins.avalanche._standin import GEM as Plugin

        o = self._options
        return Plugin(self._learner, o.patterns_per_experience, o.memory_strength)
