"""Options of `fact_injection`."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import Literal

from pydantic import Field, model_validator

from seqmem import Options, Relation
from seqmem_scenarios.common import REST_TEXT, RestText
from seqmem_scenarios.fact_sources import WORLD
from seqmem_scenarios.world import population

PUBLISHED = ("paraphrase", "duplicate", "once")
"""Groups of the schedule ``published`` in the order in which they take their facts from the source."""


class FactInjectionOptions(Options):
    """Options of `fact_injection`."""

    schedule: Literal["published", "single_exposure", "mixed_batch", "long_term"] = Field(
        "published", description="when facts are trained, and among what"
    )
    facts: str = Field(
        WORLD, min_length=1, description="world, or a file of facts: JSON lines or the published JSON"
    )
    facts_count: int = Field(12, ge=1, description="facts trained; in published and long_term, of each group")
    never_count: int = Field(12, ge=0, description="facts asked but never trained: the group never")
    lead_in: int = Field(16, ge=0, description="steps on background text before the first facts")
    exposures: int = Field(
        1, ge=1, description="times a fact is stated, each time in other words; not in published"
    )
    injections: int = Field(10, ge=1, description="published: times facts are injected")
    spacing: int = Field(16, ge=1, description="published: steps from one injection to the next")
    local_window: int = Field(
        10, ge=1, description="steps after an injection that are each followed by the probes of inject"
    )
    update_norm: float | None = Field(
        None,
        gt=0,
        description="from the first injection to the rest, scale the change of every step to this share of the "
        "weights' norm; null: as the optimizer makes it",
    )
    background_ratio: float = Field(
        0.0, ge=0, lt=1, description="share of background rows in a batch with facts; not in published"
    )
    groups: int = Field(6, ge=1, description="long_term: groups of facts")
    group_every: int = Field(
        2, ge=1, description="long_term: experiences of the stream from a group to the next"
    )
    domain_steps: int = Field(
        8, ge=1, description="long_term: steps of an experience of the stream, all of one domain"
    )
    domains: Literal["kinds", "source"] = Field(
        "kinds",
        description="long_term: the world's prose, dialogues and biographies in turn, or the text source in its order",
    )
    rest_steps: int = Field(96, ge=1, description="steps on background text afterwards")
    rest_text: RestText = Field("any", description=REST_TEXT)
    asked_as: Literal["question", "verbatim"] = Field(
        "question",
        description="primary probe form of the world's facts: the bare question, or the trained statement continued; "
        "a file's are asked verbatim",
    )
    batch_size: int = Field(40, ge=1, description="rows of a step, at most")
    row_tokens: int = Field(32, ge=8, description="longest training row in tokens")

    @model_validator(mode="after")
    def _batches(self) -> FactInjectionOptions:
        if self.schedule == "published":
            if self.batch_size < len(PUBLISHED) * self.facts_count:
                raise ValueError(
                    f"batch_size ({self.batch_size}) must hold the {len(PUBLISHED)} groups of facts_count "
                    f"({self.facts_count}) facts that are injected first: "
                    f"{len(PUBLISHED) * self.facts_count} rows"
                )
            return self
        ratio, per_batch = self.ratio, self.batch_size * (1 - self.ratio)
        if per_batch.denominator != 1:
            raise ValueError(
                f"background_ratio {self.background_ratio} of batch_size {self.batch_size} is "
                f"{float(self.batch_size * ratio):g} rows; choose them so that it is a whole number"
            )
        left = self.facts_count % int(per_batch)
        if (left * ratio / (1 - ratio)).denominator != 1:
            raise ValueError(
                f"facts_count {self.facts_count} leaves a last batch of {left} facts, beside which background_ratio "
                f"{self.background_ratio} is not a whole number of rows; make facts_count a multiple of {per_batch}"
            )
        return self

    @model_validator(mode="after")
    def _window(self) -> FactInjectionOptions:
        period = {
            "published": ("spacing", self.spacing),
            "long_term": ("group_every times domain_steps", self.group_every * self.domain_steps),
        }.get(self.schedule)
        if period is not None and self.local_window > period[1]:
            raise ValueError(
                f"local_window ({self.local_window}) must be at most {period[0]} ({period[1]}): "
                "windows of two injections would run into one another"
            )
        return self

    @model_validator(mode="after")
    def _enough_people(self) -> FactInjectionOptions:
        if self.facts == WORLD and self.all_facts > population("injected"):
            raise ValueError(
                f"{self.all_facts} facts need more people than the world has: {population('injected')}"
            )
        return self

    @property
    def ratio(self) -> Fraction:
        """The share of background as typed: .1 is a tenth."""
        return Fraction(str(self.background_ratio))

    @property
    def trained_groups(self) -> tuple[str, ...]:
        """Names of the groups that are trained, in the order in which they take facts from the source."""
        if self.schedule == "published":
            return PUBLISHED
        if self.schedule == "long_term":
            return tuple(f"group {number}" for number in range(self.groups))
        return ("facts",)

    @property
    def all_facts(self) -> int:
        """Facts needed, those that are never trained included."""
        return len(self.trained_groups) * self.facts_count + self.never_count

    @property
    def primary_relation(self) -> Relation:
        """Probe form that `asked_as` says; of a file with open prompts the one nearest the text."""
        return self.asked_as if self.facts == WORLD else "verbatim"

    @cached_property
    def pass_rows(self) -> tuple[tuple[int, int], ...]:
        """(rows with facts, rows of background) of every batch of one pass over a group's facts."""
        per_batch = int(self.batch_size * (1 - self.ratio))
        counts = [min(per_batch, self.facts_count - done) for done in range(0, self.facts_count, per_batch)]
        return tuple((count, int(count * self.ratio / (1 - self.ratio))) for count in counts)

    @property
    def from_world(self) -> bool:
        """Whatever lies between lead-in and rest is made of the world's kinds of text, not of the text source."""
        return self.schedule == "long_term" and self.domains == "kinds"
