"""A learning rate of its own for parts of the learner, by scaling the optimizer's step after it was made.

With `before` the parameters before the step and `after` those the optimizer made of them, a rate r times the
learning rate gives

    parameter = before + r (after - before)

This is exact, not an approximation, wherever the step is the learning rate times something that does not
depend on it: Adam, AdamW (its decoupled decay, lr * weight_decay * parameter, scales along), SGD with momentum.
One fused optimizer serves all rates; one optimizer per rate would make every step once per rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from seqmem import Learner


def rescale(learner: Learner, before: Mapping[str, Tensor], rates: Mapping[str, Tensor | float]) -> None:
    """Scale the step just made, in place; where the rate is 1 it stays as it is to the bit.

    `before` is left as it is: the next strategy of a composition compares with it too.

    Args:
        learner: its parameters are where the optimizer put them.
        before: where they were, by name.
        rates: multiples of the learning rate by name, tensors that broadcast to the parameter, or numbers.
    """
    import torch

    # One pass over memory and no scratch. The foreach form writes onto its first argument, which is `before`, or
    # needs 1 - rate, which half precision cannot hold for small rates; on a CPU it is a loop like this one.
    with torch.no_grad():
        for name, start in before.items():
            parameter, rate = learner.parameters[name], rates[name]
            if isinstance(rate, float):
                torch.lerp(start, parameter, rate, out=parameter)
            else:
                torch.lerp(start, parameter, rate.to(parameter.dtype), out=parameter)
