"""Small models of every architecture that can grow, and their logits."""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from model_folders import Kind, make_model_folder


def kernel(kind: Kind) -> str:
    """The attention kernel that `auto` takes."""
    return "eager" if kind in ("bloom", "gemma2") else "sdpa"


@functools.cache
def loaded(kind: Kind, **changes: Any) -> Any:
    """A small model of which no number is zero, so that nothing is unchanged because it did nothing."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with TemporaryDirectory() as folder:
        make_model_folder(kind, Path(folder))
        config = AutoConfig.from_pretrained(folder, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=kernel(kind))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    model.eval()
    return model


IDS = torch.arange(3 * 40).view(3, 40) * 7 % 512


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits
