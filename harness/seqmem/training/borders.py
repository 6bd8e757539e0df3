"""Keep the documents of packed rows apart, and show that a model obeys."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqmem.core.data import BoolArray, IntArray
from seqmem.core.errors import RunFailed

MASKED_KERNELS = ("eager", "sdpa")
"""Attention kernels that take a mask of their own."""


class Borders:
    """The borders between packed documents, for one model; it is checked on the longest row so far."""

    def __init__(self) -> None:
        """Begin with nothing checked."""
        self._checked = 0

    def of(self, model: nn.Module, input_ids: Tensor, segments: IntArray) -> dict[str, Any]:
        """Return what the model is given besides token ids so that every segment is a document of its own.

        Positions restart with each segment, and an explicit mask, added to the attention scores, keeps
        attention inside it. On the first packed batch, and on a longer row later, the model is shown to obey them.

        Raises:
            RunFailed: it does not, or cannot.
        """
        kernel = kernel_of(model)
        if kernel not in MASKED_KERNELS:
            raise RunFailed(
                f"attention kernel {kernel!r} takes no mask that keeps packed documents apart; "
                "use --attention sdpa or eager, or rows that are not packed"
            )
        lengths = (segments >= 0).sum(axis=1)
        line = int(lengths.argmax())
        if lengths[line] > max(self._checked, 1):
            _check(model, input_ids[line : line + 1, : lengths[line]])
            self._checked = int(lengths[line])
        return _bordering(model, segments, input_ids.device)


def _bordering(model: nn.Module, segments: IntArray, device: torch.device) -> dict[str, Any]:
    """Return positions and masks of these segments, as `Borders.of` says.

    A model whose attention slides sees the same window inside a segment. One with layers of several kinds
    takes a mask for each.
    """
    starts = np.diff(segments, axis=1, prepend=segments[:, :1]) != 0
    places = np.arange(segments.shape[1])
    positions = places - np.maximum.accumulate(np.where(starts, places, 0), axis=1)
    back = places[:, None] - places
    same = (back >= 0) & (segments[:, :, None] == segments[:, None, :])

    def mask(seen: BoolArray) -> Tensor:
        return added_mask(torch.from_numpy(seen).to(device), model)

    config = getattr(model, "config", None)
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None) or ()
    full, slides = mask(same), mask(same & (back < window)) if window else None
    masks: dict[str, Tensor] = {
        kind: full if kind == "full_attention" or slides is None else slides for kind in kinds
    }
    several = masks if masks.keys() - {"full_attention"} else None
    one = full if kinds or slides is None else slides
    return {
        "position_ids": torch.from_numpy(positions).to(device),
        "attention_mask": several or one,
    }


def kernel_of(model: nn.Module) -> str | None:
    """Return the name of a model's attention kernel."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None)


def added_mask(seen: Tensor, model: nn.Module) -> Tensor:
    """Return what is added to attention scores (rows, 1, T, T) so that nothing but `seen` (rows, T, T) counts."""
    dtype = next(model.parameters()).dtype
    hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return hidden.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


@torch.no_grad()
def _check(model: nn.Module, row: Tensor) -> None:
    """Refuse a model that computes something else for a packed document than for the document alone.

    The tokens of a packed row (1, T) are read as two documents, the second as long as it can be, so that it is
    longer than a sliding window where any document of such a row is. Changing the first must not move the
    second's logits, and these must be those of the second in a row of its own.

    Raises:
        RunFailed: it does, or it cannot be told of borders.
    """
    borders = _bordering(model, np.array([[0, *[1] * (row.shape[1] - 1)]], dtype=np.int32), row.device)
    training = model.training
    model.eval()
    try:
        alone = model(input_ids=row[:, 1:], use_cache=False).logits
        changed = row.clone()
        changed[:, 0] = (changed[:, 0] + 1) % alone.shape[-1]
        packed, other = (
            model(input_ids=ids, use_cache=False, **borders).logits[:, 1:] for ids in (row, changed)
        )
    except torch.OutOfMemoryError:
        raise
    except (
        AttributeError,
        TypeError,
        ValueError,
        RuntimeError,
        KeyError,
    ) as error:  # as architectures raise
        reason = f"cannot be told of their borders ({(str(error) or repr(error)).splitlines()[0]})"
    else:
        # what is hidden has weight 0 exactly, so nothing but the order of summation could differ
        if (other - packed).abs().max() > 1e-4 * alone.std():
            reason = "lets one document read another"
        # here kernels and shapes differ too: by token, what rounding makes of one logit is averaged out
        elif _furthest(packed, alone) > max(1e-3, 32 * torch.finfo(alone.dtype).eps) * alone.std():
            reason = "reads a packed document otherwise than the same document in a row of its own"
        else:
            return
    finally:
        model.train(training)
    raise RunFailed(
        f"documents are packed into rows, and this model {reason}; use a model whose attention takes a "
        "mask and position_ids, or rows that are not packed"
    )


def _furthest(one: Tensor, other: Tensor) -> Tensor:
    """Return the root mean square distance of two tokens' logits (B, T, V) where it is largest."""
    return (one - other).float().square().mean(-1).sqrt().max()
