"""`fact_injection`: facts are put into a stream of unrelated text; how fast are they learned, and how lost?

Four schedules:

* ``published`` (Chang et al. 2024, arXiv 2406.11813): every `spacing` steps one batch holds facts among its
  background rows. Group ``duplicate`` is injected each time in the same words, ``paraphrase`` each time in
  other words, ``once`` at the first injection only, ``never`` never.
* ``single_exposure``: the facts are trained for one pass (`exposures`), by themselves.
* ``mixed_batch``: passes over the facts in batches whose share of background rows is exact.
* ``long_term``: a stream of domains that follow one another, and every `group_every` of its experiences a new
  group of facts.

Each begins with `lead_in` steps on background text, which fill the optimizer's moments: the first step of a
fresh Adam is far larger than any later one and would make the first injection stand out. Each ends with a
rest on background text. Probes are asked on these schedules:

* ``inject``: every fact and twin in the probe forms verbatim, paraphrase and question, right before every step that
  trains facts (its t_i) and after each of the next `local_window` steps;
* ``log``: the same at log-spaced steps of the rest;
* ``boundary``: before every experience and after the last, in the primary probe form at least;
* ``ladder``: in every probe form, and ``general``: held-out background text; at the start, when the injections are
  done, and at the end;
* ``rest_text``: rows of the rest itself (of its first 256 steps), at both ends of the rest.

Where several are due after a step, the largest of their sets is asked once.

Facts of the world are recalled by forced choice among answers of the same attribute that are first trained in the same
step (see `dealing`); a greedy answer that is exactly right is kept beside it. Answers of a file are open: there a fact
is recalled by an exact match.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqmem import BuildContext, Design, Outline, ScenarioSpec, Stream, hookimpl
from seqmem.streams import Size
from seqmem_scenarios.common import GENERAL_DOCUMENTS, PROBE_TOKENS, general_size, joined, rest_size, spare
from seqmem_scenarios.fact_injection.asking import facts_of, grouped, most_tokens, sets
from seqmem_scenarios.fact_injection.options import FactInjectionOptions
from seqmem_scenarios.fact_injection.rows import Injection
from seqmem_scenarios.fact_injection.timetable import schedule, source_rows
from seqmem_scenarios.fact_sources import WORLD, fingerprint

seqmem_api = ">=1,<2"


def build(options: FactInjectionOptions, context: BuildContext) -> Stream:
    """Return the stream of one seed."""
    times = schedule(options)
    injection = Injection(options, context, times)
    injection.check_rows()
    design = Design(
        recall="forced_choice" if options.facts == WORLD else "exact_match", local_window=options.local_window
    )
    return times.stream(injection.makers, injection.probe_sets(), design=design)


def outline(options: FactInjectionOptions) -> Outline:
    """Return steps, tokens and probes, counted without a tokenizer; a file of facts is read for its probes."""
    o, times = options, schedule(options)
    sizes = {
        name: Size(len(asked), sum(map(most_tokens, asked)))
        for name, asked in sets(o, grouped(o, facts_of(o, seed=0))).items()
    }
    further = spare(o.rest_text, o.rest_steps * o.batch_size)
    return times.outline(
        {
            **sizes,
            "general": general_size(o.row_tokens),
            "rest": rest_size(times.first("rest").steps, o.row_tokens),
        },
        train_tokens=times.steps * o.batch_size * o.row_tokens,
        longest_row=max(o.row_tokens, PROBE_TOKENS if o.facts == WORLD else 0),
        documents=((source_rows(o, times) + further) * joined(o.row_tokens), GENERAL_DOCUMENTS),
        primary="effectivity" if o.schedule in ("published", "single_exposure") else "retention",
        primary_relation=o.primary_relation,
    )


def _fingerprint(options: FactInjectionOptions) -> str:
    """Return the hash of the facts after reading them all: an unusable file is refused before any run."""
    if options.facts != WORLD:
        facts_of(options, seed=0)
    return fingerprint(options.facts)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "facts_count": 2,
        "never_count": 2,
        "lead_in": 4,
        "injections": 3,
        "spacing": 4,
        "local_window": 3,
        "rest_steps": 8,
        "batch_size": 8,
    },
    "default": {},
    "matched": {"update_norm": 0.002},
    "single_exposure": {
        "schedule": "single_exposure",
        "facts_count": 10,
        "never_count": 10,
        "rest_steps": 256,
        "batch_size": 16,
        "row_tokens": 64,
    },
    "mixed_batch": {
        "schedule": "mixed_batch",
        "facts_count": 24,
        "background_ratio": 0.5,
        "exposures": 12,
        "batch_size": 16,
        "row_tokens": 64,
    },
    "long_term": {
        "schedule": "long_term",
        "background_ratio": 0.5,
        "exposures": 8,
        "domain_steps": 6,
        "local_window": 6,
        "rest_steps": 48,
        "batch_size": 24,
    },
    "pretrained": {
        "facts_count": 5,
        "never_count": 5,
        "lead_in": 2,
        "injections": 14,
        "spacing": 2,
        "local_window": 1,
        "rest_steps": 12,
        "batch_size": 15,
        "row_tokens": 24,
        "asked_as": "verbatim",
    },
    "published": {
        "facts_count": 40,
        "never_count": 10,
        "spacing": 100,
        "local_window": 50,
        "rest_steps": 500,
        "batch_size": 128,
        "row_tokens": 1024,
    },
    "paper": {
        "facts_count": 40,
        "never_count": 10,
        "spacing": 100,
        "local_window": 50,
        "rest_steps": 1500,
        "batch_size": 2048,
        "row_tokens": 2048,
    },
}

# As OLMo-7B was trained (its published configuration), the rate held at its peak.
_OLMO = {"name": "adamw", "lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.1, "clip": 1.0}
OPTIMIZER: Mapping[str, Mapping[str, Any]] = {
    "default": {"name": "adam", "lr": 1e-3},
    "pretrained": {"name": "adam", "lr": 1e-4},
    "published": _OLMO,
    "paper": _OLMO,
}


@hookimpl
def seqmem_scenario() -> list[ScenarioSpec]:
    """Declare the scenario."""
    return [
        ScenarioSpec(
            name="fact_injection",
            version="3",
            summary="Facts are injected into a stream of text; how fast they are learned, and how lost.",
            options=FactInjectionOptions,
            presets=PRESETS,
            models={"published": "EleutherAI/pythia-410m", "paper": "EleutherAI/pythia-410m"},
            optimizer=OPTIMIZER,
            outline=outline,
            build=build,
            fingerprint=_fingerprint,
            further_controls={"plain_rest": {"rest_text": "plain"}},
            local=("facts",),
            citation="Chang et al. 2024, arXiv 2406.11813 (schedule published, and its file of facts)",
        )
    ]
