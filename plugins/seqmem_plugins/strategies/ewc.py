r"""`ewc`: elastic weight consolidation, online: weights that past experiences needed are held where they were.

While an experience is trained its loss is

    L + (lam / 2) sum_i F_i (theta_i - theta*_i)^2,

F and theta* being one importance and one anchor per weight, whatever the number of past experiences. After every
experience that trained something, rest excepted,

    F <- gamma F + F_new,   theta* <- theta.

F_new is the diagonal of the Fisher information per token, over `examples` of the experience's rows x:

    F_new = mean_x (1 / n_x) (d/dtheta sum_t log p(y_t | x_<t))^2

with n_x targets t in x. `sampled`: y_t is drawn from the model's own distribution given the true prefix, so that the
terms of different positions cancel in the mean and F_new estimates the true diagonal without bias. `empirical`: y_t
are the true tokens. Both square the gradient of one row; the square of a batch's mean gradient is something else
and depends on the batch size.

Since F is per token, as the loss is, the penalty at lam = 1 approximates in nats per token how far the model's
distribution on past rows has moved (the Kullback-Leibler divergence to second order, cross terms of F left out),
summed over past experiences.

Sources: Kirkpatrick et al. 2017, arXiv 1612.00796 (the penalty with its 1/2); Schwarz et al. 2018, arXiv 1805.06370,
section 4 (online form, gamma); Huszar 2018, arXiv 1712.03847 (one anchor is what Laplace's method gives);
Kunstner et al. 2019, arXiv 1905.12558 (true against empirical Fisher).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from seqmem import Example, Experience, Options, Strategy, StrategySpec, hookimpl, unpack

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Parameter

    from seqmem import Learner

seqmem_api = ">=1,<2"

FISHER, ANCHOR = "ewc.fisher", "ewc.anchor"
"""Entries of the learner's registry."""
GROUP = 2**24
"""Numbers worked on at a time, so that the penalty needs no room in the order of the model."""


class EWCOptions(Options):
    """Options of `ewc`."""

    lam: float = Field(
        100.0, ge=0, description="strength of the penalty, which is lam/2 sum F (theta - theta*)^2"
    )
    gamma: float = Field(
        1.0, ge=0, le=1, description="share of the old importance kept at each consolidation"
    )
    fisher: Literal["sampled", "empirical"] = Field(
        "sampled", description="importance from labels sampled from the model, or from the true ones"
    )
    examples: int = Field(
        32, ge=1, description="distinct rows of an experience that its importance is taken from"
    )


class EWC(Strategy):
    """One importance and one anchor for every weight, and the quadratic penalty they make."""

    def __init__(self, options: EWCOptions) -> None:
        self._options = options
        self._consolidated = False

    def setup(self, learner: Learner) -> None:
        """Make room for importance and anchor; a weight added later has importance 0 until it was trained."""
        import torch

        # squared gradients of a model in float16 would underflow to an importance of nothing
        learner.state.add(FISHER, dtype=torch.float32)
        learner.state.add(ANCHOR)

    def add_gradient(self, learner: Learner) -> float:
        """Add lam F (theta - theta*) to the gradients of the parameters that have one.

        Returns:
            The penalty of these parameters, nats per token; 0 before the first consolidation.
        """
        if not self._consolidated or self._options.lam == 0:
            return 0.0
        import torch

        lam, fisher, anchor = self._options.lam, learner.state[FISHER], learner.state[ANCHOR]
        penalties = []
        with torch.no_grad():
            for group in _groups(learner):
                importance = [fisher[name] for name in group]
                moved = list(torch._foreach_sub(list(group.values()), [anchor[name] for name in group]))
                force = torch._foreach_mul(importance, moved)
                gradients = [p.grad for p in group.values() if p.grad is not None]
                torch._foreach_add_(gradients, force, alpha=lam)
                torch._foreach_mul_(force, moved)
                penalties += [tensor.sum() for tensor in force]
            return lam / 2 * float(torch.stack(penalties).sum()) if penalties else 0.0

    def after_experience(self, learner: Learner, experience: Experience) -> None:
        """Consolidate: add the experience's importance to the decayed old one and drop anchor here."""
        if experience.trains == "none" or experience.phase == "rest":
            return
        import torch

        rows = self._draw(learner, experience)
        if not rows:
            return
        fisher = learner.state[FISHER]
        torch._foreach_mul_(list(fisher.values()), self._options.gamma)
        labels = torch.Generator(learner.device)
        labels.manual_seed(int(learner.generator.integers(2**63)))
        training = learner.model.training
        learner.model.eval()  # without dropout
        try:
            with learner.all_trained():
                for row in rows:
                    gradients, targets = self._score(learner, row, experience.task_label, labels)
                    kept = [fisher[name] for name in gradients]
                    values = [gradient.float() for gradient in gradients.values()]
                    torch._foreach_addcmul_(kept, values, values, value=1 / (targets * len(rows)))
        finally:
            learner.model.train(training)
        with torch.no_grad():
            for name, anchor in learner.state[ANCHOR].items():
                anchor.copy_(learner.parameters[name])
        self._consolidated = True

    def _draw(self, learner: Learner, experience: Experience) -> list[Example]:
        """Return at most `examples` of the experience's distinct sequences that hold a target, without replacement."""
        distinct = {
            (sequence.input_ids.tobytes(), sequence.loss_mask.tobytes()): sequence
            for batch in experience.batches
            for row in batch
            for sequence in unpack(row)
            if sequence.loss_mask[1:].any()
        }
        rows = list(distinct.values())
        if len(rows) <= self._options.examples:
            return rows
        chosen = learner.generator.choice(len(rows), size=self._options.examples, replace=False)
        return [rows[index] for index in chosen]

    def _score(
        self, learner: Learner, row: Example, task_label: int | None, labels: Generator
    ) -> tuple[dict[str, Tensor], int]:
        """Return the gradient of a row's summed log-probability by parameter, and the number of its labels.

        The sign is left as it comes, because the square removes it. Parameters that this row does not reach are
        left out. No parameter's own `grad` is touched.
        """
        import torch

        input_ids = torch.from_numpy(row.input_ids.astype(np.int64))[None].to(learner.device)
        targets_at = torch.from_numpy(row.loss_mask[1:]).to(learner.device)
        with torch.enable_grad():
            logits = learner.logits(input_ids, task_label)[0, :-1][targets_at].float()
            if self._options.fisher == "sampled":
                targets = torch.multinomial(logits.detach().softmax(-1), 1, generator=labels)[:, 0]
            else:
                targets = input_ids[0, 1:][targets_at]
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        gradients = torch.autograd.grad(loss, list(learner.parameters.values()), allow_unused=True)
        reached = zip(learner.parameters, gradients, strict=True)
        return {name: g for name, g in reached if g is not None}, len(targets)

    def state_dict(self) -> dict[str, Any]:
        """Return whether an anchor exists; the tensors are in the learner's registry."""
        return {"consolidated": self._consolidated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self._consolidated = state["consolidated"]


def _groups(learner: Learner) -> Iterator[dict[str, Parameter]]:
    """Return the parameters that have a gradient, in groups of at most GROUP numbers or of one parameter."""
    group: dict[str, Parameter] = {}
    numbers = 0
    for name, parameter in learner.parameters.items():
        if parameter.grad is None:
            continue
        if group and numbers + parameter.numel() > GROUP:
            yield group
            group, numbers = {}, 0
        group[name] = parameter
        numbers += parameter.numel()
    if group:
        yield group


@hookimpl
def seqmem_strategy() -> list[StrategySpec]:
    """Declare the strategy."""
    return [
        StrategySpec(
            name="ewc",
            version="1",
            summary="Holds the weights that past experiences needed by a quadratic penalty around an anchor.",
            options=EWCOptions,
            build=EWC,
            # the anchor in the model's numbers, the importance in float32
            planned_bytes=lambda options, footprint: footprint.trained_bytes + 4 * footprint.numbers,
            citation="Kirkpatrick et al. 2017, arXiv 1612.00796; online: Schwarz et al. 2018, arXiv 1805.06370",
        )
    ]
