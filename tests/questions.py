"""Prompts of many lengths about the world's people, and greedy decoding by transformers to compare with."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from model_folders import Kind

from seqmem import Probe, answer_probe
from seqmem.planning.models import ModelChoice
from seqmem.planning.tokenizer import encoder, load_tokenizer
from seqmem.training.model import load_model
from seqmem_scenarios.embedded import locate
from seqmem_scenarios.world import (
    ATTRIBUTE_BY_NAME,
    Fact,
    World,
    answer,
    filler,
    person_fact,
    question_prompt,
    statement_prompt,
)

Encode = Callable[[str], list[int]]

KNOWN = 100
"""People of the embedded model's own pretraining text that are asked about."""


def shipped() -> tuple[Any, Encode]:
    """The shipped model in evaluation mode, and its encoder."""
    folder = locate("tiny")
    assert folder is not None
    choice = ModelChoice(name="tiny")
    return load_model(folder, choice), encoder(load_tokenizer(folder, choice))


def of_folder(folder: Any, kind: Kind) -> tuple[Any, Encode]:
    """A random model of a folder, and its encoder."""
    choice = ModelChoice(name=kind)
    return load_model(folder, choice), encoder(load_tokenizer(folder, choice))


def questions(encode: Encode, count: int, seed: int = 0, choices: int = 0) -> list[Probe]:
    """Questions and unfinished statements, bare or after some prose: prompts of about 10 to 150 tokens.

    Half of the people are of the embedded model's pretraining text, so that some answers are right.
    """
    draw = random.Random(seed)
    probes = []
    for number in range(count):
        role = "known" if number % 2 else "injected"
        person = World(0).person(role, draw.randrange(KNOWN))
        fact = person_fact(person, draw.choice(sorted(ATTRIBUTE_BY_NAME)))
        prompt = draw.choice([question_prompt, statement_prompt])(fact, draw.randrange(4))
        if draw.random() < 0.5:
            prompt = f"{filler(seed, number, draw.randrange(1, 5))} {prompt}"
        values = [fact.value, *draw.sample(ATTRIBUTE_BY_NAME[fact.attribute].values, choices)][:choices]
        probes.append(
            answer_probe(
                encode,
                id=str(number),
                prompt=prompt,
                answer=answer(fact),
                fact=fact.id,
                relation="question",
                choices=[(value, answer(Fact("", person, fact.attribute, value))) for value in values],
            )
        )
    return probes


@torch.no_grad()
def generated(model: Any, probes: Sequence[Probe], batch: int = 64) -> list[tuple[int, ...]]:
    """Return the greedy answer to each prompt, of the length of the right answer; padded on the left."""
    model.eval()
    model.generation_config.eos_token_id = None
    said: dict[int, tuple[int, ...]] = {}
    order = sorted(range(len(probes)), key=lambda n: len(probes[n].input_ids) - probes[n].answer_start)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        prompts = [probes[n].input_ids[: probes[n].answer_start] for n in chosen]
        width = max(map(len, prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros(len(prompts), width, dtype=torch.long)
        for line, prompt in enumerate(prompts):
            ids[line, width - len(prompt) :] = torch.tensor(prompt)
            mask[line, width - len(prompt) :] = 1
        lengths = [len(probes[n].input_ids) - probes[n].answer_start for n in chosen]
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=max(lengths), do_sample=False, pad_token_id=0
        )
        for n, length, row in zip(chosen, lengths, out[:, width:].tolist(), strict=True):
            said[n] = tuple(row[:length])
    return [said[n] for n in range(len(probes))]


def answered(probes: Sequence[Probe], said: Sequence[tuple[int, ...]]) -> list[Probe]:
    """Probes whose answer is what the model says, the true one, or what it says but for one token, in turn."""
    made = []
    for number, (probe, row) in enumerate(zip(probes, said, strict=True)):
        own = list(row)
        if number % 3 == 2:
            own[number % len(own)] += 1 if own[number % len(own)] < 500 else -1
        ids = probe.input_ids if number % 3 == 1 else probe.input_ids[: probe.answer_start] + tuple(own)
        made.append(replace(probe, input_ids=ids))
    return made


@torch.no_grad()
def smallest_margin(model: Any, probe: Probe) -> float:
    """Smallest distance between the answer's logit and the best other one along the answer."""
    model.eval()
    logits = model(input_ids=torch.tensor([probe.input_ids]), use_cache=False).logits[0]
    margins = []
    for place in range(probe.answer_start, len(probe.input_ids)):
        row = logits[place - 1].clone()
        right = float(row[probe.input_ids[place]])
        row[probe.input_ids[place]] = -torch.inf
        margins.append(abs(right - float(row.max())))
    return min(margins)
