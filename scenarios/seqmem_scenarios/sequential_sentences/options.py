"""Options of `sequential_sentences`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seqmem import Options
from seqmem_scenarios.common import REST_TEXT, RestText
from seqmem_scenarios.world import population

PEOPLE = 22 * population("injected")
"""People of one role: every "First Last" name bare, and with each of 21 middle initials."""
CYCLE = 20
"""Batches over which the share of background rows is exact."""


class SequentialSentencesOptions(Options):
    """Options of `sequential_sentences`."""

    arrivals: int = Field(96, ge=1, le=PEOPLE // 2, description="sentences that arrive, one after another")
    window: int = Field(8, ge=1, le=PEOPLE // 8, description="sentences in every batch: the last to arrive")
    background_ratio: float = Field(
        0.5, ge=0, lt=1, description="share of background rows, exact over every 20 consecutive batches"
    )
    repeats: int = Field(3, ge=1, description="times each batch is trained in a row")
    divider: str = Field(
        " ", min_length=1, description="text after each sentence that stands in front of another"
    )
    context_sentences: int | None = Field(
        None,
        ge=0,
        description="most sentences placed before a probe, swept down to none. Null for the whole window",
    )
    own_sentence: Literal["oldest", "newest"] = Field(
        "oldest",
        description="place of the asked sentence in its context, which is cut from its oldest sentence on: "
        "oldest is the first to leave, newest stays to the last",
    )
    context_rung: Literal["verbatim", "question"] = Field(
        "question",
        description="probe form asked with a context in front: one that the model can read off a context",
    )
    train_context: int = Field(
        0,
        ge=0,
        description="sentences of the window in front of each trained sentence; no targets themselves",
    )
    probed: int = Field(
        48, ge=1, description="arrivals asked about, evenly over the stream; all in a shorter stream"
    )
    probe_every: int = Field(4, ge=1, description="arrivals between two probes of recall")
    temperature: float = Field(1.0, gt=0, description="divides the logits when an answer is sampled")
    top_k: int | None = Field(40, ge=1, description="most probable tokens that may be sampled; null for all")
    samples: int = Field(10, ge=1, description="answers sampled for recall at n")
    max_new_tokens: int = Field(16, ge=1, description="longest answer that can be produced, in tokens")
    rest_steps: int = Field(48, ge=0, description="steps on background text after the last arrival")
    rest_text: RestText = Field("any", description=REST_TEXT)
    row_tokens: int = Field(64, ge=8, description="longest background row in tokens")

    @model_validator(mode="after")
    def _consistent(self) -> SequentialSentencesOptions:
        for name, value in (("context_sentences", self.kept), ("train_context", self.train_context)):
            if value > self.window:
                raise ValueError(f"{name} ({value}) must be at most window ({self.window})")
        if self.rest_text == "plain" and self.rest_steps == 0:
            raise ValueError("rest_text plain needs rest_steps above 0")
        return self

    @model_validator(mode="after")
    def _exact(self) -> SequentialSentencesOptions:
        rows = self.cycle_rows
        # a share typed as a decimal still names its number of rows
        if abs(self._cycle_share - rows) > 1e-3:
            sentences = CYCLE * self.window
            raise ValueError(
                f"background_ratio {self.background_ratio:g} is {self._cycle_share:.2f} background rows to the "
                f"{sentences} sentences of {CYCLE} batches; it must be a whole number: take "
                f"{rows / (rows + sentences):.9g} ({rows} rows)"
            )
        return self

    @property
    def _cycle_share(self) -> float:
        return CYCLE * self.window * self.background_ratio / (1 - self.background_ratio)

    @property
    def cycle_rows(self) -> int:
        """Background rows in every 20 consecutive batches."""
        return round(self._cycle_share)

    @property
    def kept(self) -> int:
        """Sentences in a full context."""
        return self.window if self.context_sentences is None else self.context_sentences

    @property
    def shown(self) -> int:
        """Most sentences that stand in front of a trained one."""
        return min(self.train_context, self.window - 1)

    @property
    def rest_rows(self) -> int:
        """Background rows in a batch of the rest: as many rows as an arrival's batch, rounded down."""
        return self.window + self.cycle_rows // CYCLE

    @property
    def asked(self) -> list[int]:
        """Arrivals that are asked about, the last one of all among them."""
        count = min(self.probed, self.arrivals)
        return [(place + 1) * self.arrivals // count - 1 for place in range(count)]

    def first_asked(self, number: int) -> int:
        """Return the arrival before which a sentence is first asked after its own: those before it are trained then."""
        return min((max(number, 0) // self.probe_every + 1) * self.probe_every, self.arrivals)

    def background_before(self, arrival: int) -> int:
        """Return the number of background rows in the batches before this arrival's, spread as evenly as possible."""
        return arrival * self.cycle_rows // CYCLE
