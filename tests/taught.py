"""The shipped model after a few steps on the answers of a stream: one that knows what it was never to know."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

import seqmem
from seqmem_scenarios.embedded import locate


def taught_model(folder: Path, probe_set: str, *, twins: bool, **stream: Any) -> Path:
    """Train a copy of `tiny` on the answers of the facts, or twins, of a probe set until it gives them all."""
    from transformers import AutoModelForCausalLM

    source = locate("tiny")
    assert source is not None
    shutil.copytree(source, folder)
    probes = [
        probe
        for probe in seqmem.stream(**stream).probe_sets[probe_set]
        if probe.relation != "general" and probe.cue == "none" and (probe.twin_of is not None) == twins
    ]
    width = max(len(probe.input_ids) for probe in probes)
    ids = torch.zeros(len(probes), width, dtype=torch.long)
    labels = torch.full((len(probes), width), -100)
    for row, probe in enumerate(probes):
        ids[row, : len(probe.input_ids)] = torch.tensor(probe.input_ids)
        labels[row, probe.answer_start : len(probe.input_ids)] = torch.tensor(
            probe.input_ids[probe.answer_start :]
        )
    model = AutoModelForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.05:
            break
    model.save_pretrained(folder)
    return folder
