"""Evaluate what an embedded model knows, reads and cannot know, each figure with its count.

All answers are scored by one teacher-forced forward per batch: the answer counts as given when the
greedy choice at every one of its positions is the right token, which is exactly when greedy
decoding would have produced it.
"""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from seqmem_scenarios.model_sizes.corpus import HELD_OUT_STREAM
from seqmem_scenarios.world.documents import biography, dialogue, draw_attributes, filler
from seqmem_scenarios.world.draw import Draw
from seqmem_scenarios.world.facts import answer, person_fact, question_prompt
from seqmem_scenarios.world.people import Role, World
from seqmem_scenarios.world.values import ATTRIBUTE_BY_NAME, ATTRIBUTES

_BATCH = 32
_WORDINGS = 64

Question = tuple[str, str, str]
"""Prompt, answer and attribute."""


def evaluate(
    model: PreTrainedModel | Path | str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    seed: int = 0,
    known_people: int = 140,
    questions: int = 840,
    general_documents: int = 200,
) -> dict[str, Any]:
    """Score a model, given loaded with its tokenizer or as the folder of both.

    `closed_book_known` asks bare questions about the known people, `open_book_unseen` asks about
    people never seen whose text stands before the question, `closed_book_unseen` asks about such
    people without their text: its expectation is `chance`. Each has `share`, `n`, the standard
    error `se`, and `by_attribute`. `general` is the loss on held-out prose and dialogues, in nats
    per token.
    """
    if isinstance(model, Path | str):
        tokenizer = AutoTokenizer.from_pretrained(model)
        model = AutoModelForCausalLM.from_pretrained(model)
    if tokenizer is None:
        raise ValueError("evaluate() needs the tokenizer of a model that is given loaded")
    was_training = model.training
    model.eval()
    unseen = _closed_book(seed, "unseen", questions, questions)
    chance = sum(1 / len(ATTRIBUTE_BY_NAME[name].values) for _, _, name in unseen) / len(unseen)
    figures = {
        "closed_book_known": _score(model, tokenizer, _closed_book(seed, "known", known_people, questions)),
        "open_book_unseen": _score(model, tokenizer, _open_book(seed, questions)),
        "closed_book_unseen": {**_score(model, tokenizer, unseen), "chance": chance},
        "general": _general_loss(model, tokenizer, general_documents),
    }
    model.train(was_training)
    return figures


def _closed_book(seed: int, role: Role, people: int, questions: int) -> list[Question]:
    """Return bare questions about people and attributes in turn, the wording drawn."""
    world, draw = World(seed), Draw("closed book", seed, role)
    asked: list[Question] = []
    for number in range(questions):
        person = world.person(role, number % people)
        # Each lap through the people asks each of them about the next attribute.
        attribute = ATTRIBUTES[(number % people + number // people) % len(ATTRIBUTES)].name
        fact = person_fact(person, attribute)
        asked.append((question_prompt(fact, draw.below(_WORDINGS)), answer(fact), attribute))
    return asked


def _open_book(seed: int, questions: int) -> list[Question]:
    """Return a never-seen person's text of one to four statements, then a question about one of them."""
    world, draw = World(seed), Draw("open book", seed)
    asked: list[Question] = []
    for number in range(questions):
        person = world.person("unseen", number)
        attributes = draw_attributes(draw)
        text = biography(person, draw, attributes)
        fact = person_fact(person, draw.pick(attributes))
        prompt = f"{text}\n{question_prompt(fact, draw.below(_WORDINGS))}"
        asked.append((prompt, answer(fact), fact.attribute))
    return asked


def _score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]
) -> dict[str, Any]:
    right: list[bool] = []
    for start in range(0, len(questions), _BATCH):
        right += _answered(model, tokenizer, questions[start : start + _BATCH])
    share = sum(right) / len(right)
    by_attribute: dict[str, float] = {}
    for attribute in ATTRIBUTES:
        own = [hit for hit, (_, _, name) in zip(right, questions, strict=True) if name == attribute.name]
        if own:
            by_attribute[attribute.name] = sum(own) / len(own)
    return {
        "share": share,
        "n": len(right),
        "se": math.sqrt(share * (1 - share) / len(right)),
        "by_attribute": by_attribute,
    }


@torch.no_grad()
def _answered(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]
) -> list[bool]:
    """Return for each answer whether greedy decoding gives it; right padding is causal-safe."""
    prompts = [tokenizer(prompt)["input_ids"] for prompt, _, _ in questions]
    whole = [tokenizer(prompt + reply)["input_ids"] for prompt, reply, _ in questions]
    greedy = _forward(model, whole).argmax(-1)  # (B, T): the choice for position t + 1
    return [
        ids[: len(prompt)] == prompt
        and greedy[row, len(prompt) - 1 : len(ids) - 1].tolist() == ids[len(prompt) :]
        for row, (prompt, ids) in enumerate(zip(prompts, whole, strict=True))
    ]


@torch.no_grad()
def _general_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: int
) -> dict[str, Any]:
    """Return mean nats per token over held-out prose and dialogues, half each."""
    half = documents // 2
    texts = [filler(HELD_OUT_STREAM, index) for index in range(documents - half)]
    texts += [dialogue(HELD_OUT_STREAM, index) for index in range(half)]
    nats, tokens = 0.0, 0
    encoded = iter(tokenizer(texts)["input_ids"])
    while batch := list(islice(encoded, _BATCH)):
        logits = _forward(model, batch)
        for row, ids in enumerate(batch):
            target = torch.tensor(ids[1:], device=logits.device)
            nats += float(functional.cross_entropy(logits[row, : len(ids) - 1], target, reduction="sum"))
            tokens += len(ids) - 1
    return {
        "nats_per_token": nats / tokens,
        "perplexity": math.exp(nats / tokens),
        "tokens": tokens,
    }


def _forward(model: PreTrainedModel, rows: Sequence[list[int]]) -> torch.Tensor:
    """Return float logits (B, T, V) of right-padded rows; those after a row's end are meaningless."""
    length = max(len(ids) for ids in rows)
    padded = torch.tensor([ids + [0] * (length - len(ids)) for ids in rows], device=model.device)
    logits: torch.Tensor = model(input_ids=padded, use_cache=False).logits
    return logits.float()
