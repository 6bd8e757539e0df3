"""The pace of a machine, as it was measured, and the time that a run takes at it.

A matrix product runs the faster the wider its matrices are, so the rate is measured at two widths and read between
them. A step costs some time however few tokens it reads: kernels are launched for each matrix, and the optimizer goes
over every parameter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from seqmem.core.data import Outline

TRAIN, FORWARD = 6, 2
"""Operations per parameter and token of a step and of a forward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)."""


class Pace(BaseModel):
    """The measured speed of a machine, for one thread count and one number type.

    Attributes:
        widths: of the matrices at which rates were measured, rising.
        train: operations a second of a training step at each width.
        forward: operations a second of a forward without gradients.
        per_matrix: seconds that a step takes for each matrix of the model.
        per_parameter: seconds that a step takes for each parameter.
        machine: what was measured, for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[int, ...] = Field(min_length=1)
    train: tuple[float, ...]
    forward: tuple[float, ...]
    per_matrix: float = Field(ge=0)
    per_parameter: float = Field(ge=0)
    machine: dict[str, Any] = Field(default_factory=dict)

    def seconds(self, shapes: Mapping[str, tuple[int, ...]], outline: Outline) -> float:
        """Estimate the seconds of a run alone on the machine, what loading takes apart.

        Args:
            shapes: of every parameter, by its name.
            outline: of the stream.
        """
        matrices = [shape for shape in shapes.values() if len(shape) == 2]
        parameters = sum(map(math.prod, shapes.values()))
        read = outline.padded_tokens or outline.train_tokens
        return (
            TRAIN * read * self._seconds_per_operation(matrices, self.train)
            + FORWARD * outline.probe_tokens * self._seconds_per_operation(matrices, self.forward)
            + outline.steps * (self.per_matrix * len(matrices) + self.per_parameter * parameters)
        )

    def _seconds_per_operation(self, matrices: Sequence[tuple[int, ...]], rates: tuple[float, ...]) -> float:
        """Return the sum over matrices of their numbers over the rate at their width, on a scale of logarithms."""
        widths = [min(shape) for shape in matrices]
        found = np.exp(np.interp(np.log(widths), np.log(self.widths), np.log(rates)))
        return float(np.sum([math.prod(shape) for shape in matrices] / found))
