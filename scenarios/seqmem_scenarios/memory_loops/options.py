"""Options of `memory_loops`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seqmem import Options
from seqmem_scenarios.common import REST_TEXT, RestText, joined
from seqmem_scenarios.world import population


class MemoryLoopsOptions(Options):
    """Options of `memory_loops`."""

    variant: Literal["own", "conflict"] = Field(
        "own",
        description="own: facts of its own per loop; conflict: loop k trains every loop's question with its answer",
    )
    loops: int = Field(4, ge=2, le=200, description="loops visited in turn")
    cycles: int = Field(4, ge=1, description="times each loop is visited")
    facts_per_loop: int = Field(16, ge=0, description="facts each loop's memory holds; 0 for documents only")
    exposures: int = Field(
        6, ge=1, description="times a visit states each of its facts, each time in another wording"
    )
    insert_at: int = Field(1, ge=0, description="prose steps of a visit before its memory")
    insert_at_cycle: int = Field(0, ge=0, description="first cycle, from 0, whose visits hold the memory")
    prose_steps: int = Field(1, ge=0, description="steps of the loop's own prose in a visit")
    jitter: float = Field(
        0.0, ge=0, le=1, description="share of a loop's prose documents replaced each cycle"
    )
    order: Literal["cyclic", "shuffled"] = Field(
        "cyclic", description="fixed order, or a new random one each cycle"
    )
    new_loop: int = Field(0, ge=0, description="visits to a loop that is added after the others have run")
    rest: Literal["unrelated", "loops_without_memory", "both", "none"] = Field(
        "unrelated",
        description="trained afterwards: background text, the loops' prose, both in turn, nothing",
    )
    rest_steps: int = Field(48, ge=1, description="steps of each rest phase")
    rest_text: RestText = Field("any", description=REST_TEXT)
    rest_training: bool = Field(True, description="off: rest steps read the text and train nothing")
    train_on: Literal["statements", "questions", "both"] = Field(
        "statements", description="form in which facts are trained; both alternates over exposures"
    )
    asked_as: Literal["question", "verbatim"] = Field(
        "question",
        description="primary probe form: the bare question, or the trained statement continued",
    )
    setting: bool = Field(False, description="state each fact inside a sentence of its loop's prose")
    loop_text: Literal["place", "background"] = Field(
        "place", description="loop prose: a recognisable place of the world, or documents of the text source"
    )
    batch_size: int = Field(16, ge=1, description="rows per step")
    row_tokens: int = Field(64, ge=8, description="longest training row in tokens")
    repeats: int = Field(1, ge=1, description="times each batch is trained in a row")
    even_every: int = Field(4, ge=1, description="rest steps between evenly spaced probes")
    relearn: bool = Field(
        False,
        description="after the rest, train each loop's memory again on a branch of its own, step by step",
    )

    @model_validator(mode="after")
    def _consistent(self) -> MemoryLoopsOptions:
        if self.insert_at > self.prose_steps:
            raise ValueError(f"insert_at ({self.insert_at}) must be at most prose_steps ({self.prose_steps})")
        if self.insert_at_cycle >= self.cycles:
            raise ValueError(f"insert_at_cycle ({self.insert_at_cycle}) must be below cycles ({self.cycles})")
        if self.rest_text == "plain" and "unrelated" not in self.rests:
            raise ValueError(f"rest_text plain needs a rest on unrelated text, not rest {self.rest}")
        if self.facts_per_loop == 0 and self.prose_steps == 0:
            raise ValueError("a loop needs facts_per_loop or prose_steps above 0")
        if self.insert_at_cycle > 0 and self.prose_steps == 0:
            raise ValueError("visits before insert_at_cycle train prose alone: prose_steps must be above 0")
        if self.prose_steps == 0 and ("loops_without_memory" in self.rests or self.loop_text == "background"):
            which = (
                "rest loops_without_memory"
                if "loops_without_memory" in self.rests
                else "loop_text background"
            )
            raise ValueError(f"{which} needs prose_steps of at least 1: there is no prose")
        return self

    @model_validator(mode="after")
    def _can_relearn(self) -> MemoryLoopsOptions:
        needs = {
            "facts_per_loop above 0": self.facts_per_loop > 0,
            "a rest phase": self.rest != "none",
            "variant own": self.variant == "own",
            "setting off": not self.setting,
        }
        missing = [need for need, met in needs.items() if not met]
        if self.relearn and missing:
            raise ValueError(f"relearn needs {missing[0]}")
        return self

    @model_validator(mode="after")
    def _enough_people(self) -> MemoryLoopsOptions:
        groups = self.all_loops + int(self.relearn)
        if groups * self.facts_per_loop > population("injected"):
            raise ValueError(
                f"{groups} loops of {self.facts_per_loop} facts_per_loop need more people than the world "
                f"has: {population('injected')}"
            )
        return self

    @property
    def all_loops(self) -> int:
        """Loops, the new one included."""
        return self.loops + (1 if self.new_loop else 0)

    @property
    def visits(self) -> int:
        """Visits to all loops, the new one included."""
        return self.cycles * self.loops + self.new_loop

    def known(self, loop: int) -> int:
        """Return the loops whose questions a visit may state: the new loop's only in its own visits."""
        return self.all_loops if loop == self.loops else self.loops

    def memory_batches(self, loop: int) -> int:
        """Return the batches of the memory in one visit to a loop."""
        rows = self.facts_per_loop * (self.known(loop) if self.variant == "conflict" else 1)
        return self.exposures * -(-rows // self.batch_size)

    @property
    def rests(self) -> tuple[str, ...]:
        """Rest phases in order."""
        return {"none": (), "both": ("unrelated", "loops_without_memory")}.get(self.rest, (self.rest,))

    @property
    def branches(self) -> int:
        """Branches after the rest: one per loop, and one of new facts."""
        return self.all_loops + 1 if self.relearn else 0

    @property
    def rest_documents(self) -> int:
        """Background documents that the unrelated rest trains."""
        return self.rest_steps * self.batch_size if "unrelated" in self.rests else 0

    @property
    def documents(self) -> int:
        """Background documents that loops and rest train."""
        if self.loop_text != "background":
            return self.rest_documents
        last_cycle = max(self.cycles - 1, self.insert_at_cycle + self.new_loop - 1)
        editions = 1 + last_cycle if self.jitter else 1
        return (
            self.rest_documents + self.prose_documents * joined(self.row_tokens) * self.all_loops * editions
        )

    @property
    def prose_documents(self) -> int:
        """Prose documents of one visit."""
        return self.prose_steps * self.batch_size
