"""The learner: a model, an optimizer, a clock, and the registry of per-parameter state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqmem.core.data import Example
from seqmem.core.errors import RunFailed, unknown
from seqmem.core.packing import unpack
from seqmem.core.recipe import OptimizerSettings
from seqmem.training.borders import Borders
from seqmem.training.parameter_state import ParameterState
from seqmem.training.rows import lay_out, parts

MAIN = "main"
"""Name of the moment context every learner starts with."""


class Learner:
    """The model, optimizer and state that a strategy works with.

    Attributes:
        model: a causal language model of transformers.
        parameters: trainable parameters by name.
        optimizer: a torch optimizer whose state tensors are those of the active moment context.
        state: the registry of per-parameter state.
        route: token ids and a task label to logits, where the run's strategy has a forward of its own.
        before: parameters as they were before the optimizer's step, where a strategy compares with them.
        step: optimizer steps of the stream done so far.
        undone: those that a return to a snapshot has undone; the schedule of the learning rate does not count them.
        micro_tokens: most tokens of a forward in training, padding included; None for the whole batch.
        generator: the strategy's own random numbers, seeded by the run and saved with it.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: OptimizerSettings,
        device: torch.device,
        seed: int,
        *,
        steps: int = 1,
        micro_tokens: int | None = None,
        activation_checkpointing: bool = False,
        autocast: torch.dtype | None = None,
    ) -> None:
        """Wrap a loaded model; the moment context `main` is created and active."""
        self.device = device
        self._autocast = autocast
        self._activation_checkpointing = activation_checkpointing
        self.model = self._prepared(model)
        self.settings = settings
        self.micro_tokens = micro_tokens
        self.parameters: dict[str, nn.Parameter] = {
            name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        self.state = ParameterState(self.parameters)
        self.optimizer = _optimizer(list(self.parameters.values()), settings)
        self.before: dict[str, Tensor] = {}
        self.step = 0
        self.undone = 0
        self._scheduled_steps = steps
        self.generator = np.random.Generator(np.random.PCG64(seed))
        self.route: Callable[[Tensor, int | None], Tensor] | None = None
        self._borders = Borders()
        self.active_moments = MAIN
        self.add_moments(MAIN)
        self.use_moments(MAIN)
        self._naive_bytes = self._bytes()

    # -- moment contexts ------------------------------------------------------------------------------

    def add_moments(self, context: str) -> None:
        """Create a moment context of zeros at time 0. A moment is a running average of the optimizer."""
        for moment in self.settings.moments:
            self.state.add(f"moments.{context}.{moment}")
        self.state.add(f"moments.{context}.step", scalar=True)

    def moments(self, context: str, moment: str) -> dict[str, Tensor]:
        """Return one moment (``exp_avg``, ``exp_avg_sq``, ``momentum_buffer``, ``step``) by parameter."""
        return self.state[f"moments.{context}.{moment}"]

    def use_moments(self, context: str) -> None:
        """Make the optimizer work on this context from now on; exchanges references, moves no data."""
        names = (*self.settings.moments, *(() if self.settings.name == "sgd" else ("step",)))
        slots = {name: self.moments(context, name) for name in names}
        for key, parameter in self.parameters.items():
            self.optimizer.state[parameter] = {name: slots[name][key] for name in names}
        self.active_moments = context

    def reset_moments(self) -> None:
        """Zero the active context: the optimizer is as new."""
        for name in (*self.settings.moments, "step"):
            torch._foreach_zero_(list(self.moments(self.active_moments, name).values()))

    # -- the model --------------------------------------------------------------------------------------

    def adopt(self, model: nn.Module, origins: Mapping[str, str | None] | None = None) -> None:
        """Take `model` in place of the present one; its parameters that require a gradient are the learner's.

        Not inside an experience. Registered state follows the parameters, see `ParameterState.resize`:
        `origins` says of a parameter which old one its state comes from, where the names differ.
        """
        old = dict(self.parameters)
        self.model = self._prepared(model)
        self.parameters.clear()
        self.parameters.update({n: p for n, p in model.named_parameters() if p.requires_grad})
        self.state.resize(old, origins or {})
        self.before = {}
        self.optimizer = _optimizer(list(self.parameters.values()), self.settings)
        self.use_moments(self.active_moments)

    def _prepared(self, model: nn.Module) -> nn.Module:
        """Return the model on the device and in training mode."""
        if self._activation_checkpointing:
            held: Any = model
            # transformers is about to rename it
            enable = getattr(held, "activation_checkpointing_enable", held.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        return model.to(self.device).train()

    def extra_bytes(self) -> int:
        """Return the bytes of weights and state beyond those of a plain run's learner; negative where it keeps less."""
        return self._bytes() - self._naive_bytes

    def _bytes(self) -> int:
        weights = sum(parameter.nbytes for parameter in self.model.parameters())
        return weights + self.state.bytes() + sum(tensor.nbytes for tensor in self.before.values())

    def allocate_previous(self) -> dict[str, Tensor]:
        """Return a tensor for every parameter to be kept in before the optimizer's step, made when there is none."""
        for name, parameter in self.parameters.items():
            if name not in self.before:
                self.before[name] = torch.empty_like(parameter, memory_format=torch.preserve_format)
        return self.before

    @torch.no_grad()
    def copy_parameters(self) -> dict[str, Tensor]:
        """Return copies of the parameters that have a gradient, by name; good until the next call."""
        room = self.allocate_previous()
        kept = {name: room[name] for name, p in self.parameters.items() if p.grad is not None}
        torch._foreach_copy_(list(kept.values()), [self.parameters[name].detach() for name in kept])
        return kept

    # -- one step -------------------------------------------------------------------------------------

    def set_trainable(self, names: Collection[str] | None) -> None:
        """Train these parameters, or all; the others get no gradient, hence no step, and keep their moments.

        Raises:
            RunFailed: a name is not a parameter's, or there is none.
        """
        wanted = set(self.parameters if names is None else names)
        if not wanted or wanted - self.parameters.keys():
            what = (
                unknown("parameter", min(wanted - self.parameters.keys()), self.parameters) if wanted else ""
            )
            raise RunFailed(f"the strategy's trainable() names {what or 'no parameter at all'}")
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name in wanted)

    @contextmanager
    def all_trained(self) -> Iterator[None]:
        """Make every parameter require a gradient inside, whatever the experience trains."""
        needed = {parameter: parameter.requires_grad for parameter in self.parameters.values()}
        for parameter in needed:
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            for parameter, was in needed.items():
                parameter.requires_grad_(was)

    def logits(self, input_ids: Tensor, task_label: int | None) -> Tensor:
        """Return logits (B, T, V) of token ids (B, T) as the run's strategy routes them in training."""
        with self.autocast():
            if self.route is not None:
                return self.route(input_ids, task_label)
            logits: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
            return logits

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute forwards inside in the run's precision; backwards belong outside."""
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._autocast)

    def accumulate(
        self, rows: Sequence[Example], forward: Callable[[Tensor, Tensor | None], Tensor] | None = None
    ) -> tuple[Tensor, int, int]:
        """Add the gradient of the rows' loss to the parameters', unless gradients are switched off.

        Where a forward has a limit of tokens (`micro_tokens`), the rows are read in parts whose gradients add up to
        that of the whole: every part's sum is divided by the weight of all targets. Only rounding differs, and
        dropout, which draws for each part.

        Returns:
            What `loss` returns, the loss without a gradient.
        """
        if forward is not None:
            rows = [document for row in rows for document in unpack(row)]
        pieces = parts(rows, self.micro_tokens)
        weight = None if len(pieces) == 1 else lay_out(rows).weight
        nats, tokens, targets = torch.zeros((), device=self.device), 0, 0
        for number, piece in enumerate(pieces):
            loss, read, counted = self.loss(piece, forward, weight)
            if torch.is_grad_enabled():
                loss.backward()  # type: ignore[no-untyped-call]
            nats = nats + loss.detach() if number else loss.detach()
            tokens, targets = tokens + read, targets + counted
        return nats, tokens, targets

    def loss(
        self,
        rows: Sequence[Example],
        forward: Callable[[Tensor, Tensor | None], Tensor] | None = None,
        weight: float | None = None,
    ) -> tuple[Tensor, int, int]:
        """Return the mean cross-entropy over the rows' targets, weighted where they have weights, in nats per token.

        Packed documents train as they would in rows of their own (see `Borders`).
        `forward`, token ids (B, T) and None to logits (B, T, V), stands in for the model where a strategy
        routes; it knows no borders, so it is given packed documents in rows of their own.
        `weight` divides the sum in place of the rows' own weight, where they are a part of a batch.

        Returns:
            The loss (0-dim, with gradient), tokens read, targets counted.

        Raises:
            RunFailed: rows are packed and the model cannot keep their documents apart.
        """
        if forward is not None:
            rows = [document for row in rows for document in unpack(row)]
        laid = lay_out(rows)
        input_ids = torch.from_numpy(laid.ids).to(self.device)
        targets_at = torch.from_numpy(laid.targets[:, 1:]).to(self.device)
        with self.autocast():
            if forward is None:
                borders = (
                    {} if laid.segments is None else self._borders.of(self.model, input_ids, laid.segments)
                )
                logits = self.model(input_ids=input_ids, use_cache=False, **borders).logits
            else:
                logits = forward(input_ids, None)
        picked = logits[:, :-1][targets_at]
        picked = picked.to(torch.promote_types(picked.dtype, torch.float32))
        labels = input_ids[:, 1:][targets_at]
        counts = sum(len(row.input_ids) for row in rows), int(laid.targets[:, 1:].sum())
        entropy = nn.functional.cross_entropy
        if laid.weights is None:
            if weight is None:
                return entropy(picked, labels), *counts
            return entropy(picked, labels, reduction="sum") / weight, *counts
        weights = torch.from_numpy(laid.weights[:, 1:]).to(self.device)[targets_at]
        total = (entropy(picked, labels, reduction="none") * weights).sum()
        return total / (weights.sum() if weight is None else weight), *counts

    @contextmanager
    def scheduled(self) -> Iterator[None]:
        """Let the schedule scale the learning rates inside, whatever a strategy has made of them."""
        share = self.settings.share_of_rate(self.step - self.undone, self._scheduled_steps)
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * share
        try:
            yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate

    @contextmanager
    def sized(self, norm: float | None) -> Iterator[None]:
        """Scale the change that is made inside to `norm` times the norm of all weights; None leaves it as it is.

        Both norms are L2, over the numbers that have a gradient and over all of the model's. Nothing changed stays so.
        """
        if norm is None:
            yield
            return
        changed = [p.detach() for p in self.parameters.values() if p.grad is not None]
        before = [tensor.clone() for tensor in changed]
        whole = nn.utils.get_total_norm([p.detach() for p in self.model.parameters()])
        yield
        change = torch._foreach_sub(changed, before)
        size = nn.utils.get_total_norm(change)
        if size > 0:
            torch._foreach_mul_(change, norm * whole / size)
            torch._foreach_copy_(changed, torch._foreach_add(before, change))

    def rate(self) -> float:
        """Return the optimizer's learning rate; of several groups the mean over the numbers they train now."""
        groups = self.optimizer.param_groups
        if len({float(group["lr"]) for group in groups}) == 1:
            return float(groups[0]["lr"])
        trained = [sum(p.numel() for p in group["params"] if p.grad is not None) for group in groups]
        whole = sum(float(group["lr"]) * count for group, count in zip(groups, trained, strict=True))
        return float(whole / max(sum(trained), 1))

    def clip(self) -> float:
        """Clip the gradients to the settings' norm and return the norm before clipping."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.settings.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.settings.clip, norm)
        return float(norm)

    # -- what a checkpoint holds ----------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, buffers and registry, flat; tied weights appear once."""
        weights = {f"weights:{name}": p.detach() for name, p in self.model.named_parameters()}
        buffers = {f"buffers:{name}": b for name, b in self.model.named_buffers()}
        return {**weights, **buffers, **{f"state:{k}": t for k, t in self.state.tensors().items()}}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], fills: Mapping[str, float], active_moments: str) -> None:
        """Take back what `tensors`, and the registry's `fills`, gave."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(tensors[f"weights:{name}"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(tensors[f"buffers:{name}"])
        self.state.restore(
            {k.removeprefix("state:"): t for k, t in tensors.items() if k.startswith("state:")}, fills
        )
        self.use_moments(active_moments)


def _optimizer(parameters: list[nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    fused = all(p.dtype == torch.float32 or p.is_cuda for p in parameters)
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=fused,
        )
    rule = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return rule(
        parameters,
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=fused,
    )
