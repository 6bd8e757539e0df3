"""Options of `freeze_loops`."""

from __future__ import annotations

from pydantic import Field, model_validator

from seqmem import Options
from seqmem_scenarios.world import population


class FreezeLoopsOptions(Options):
    """Options of `freeze_loops`."""

    tasks: int = Field(4, ge=1, description="tasks learned one after another")
    facts_per_task: int = Field(12, ge=1, description="facts of each task, all about one attribute")
    exposures: int = Field(24, ge=1, description="times a task states each of its facts, the wording varied")
    general_steps: int = Field(
        12, ge=1, description="steps on general text before the first task and after each task"
    )
    rest_steps: int = Field(24, ge=1, description="steps on general text at the end, everything trained")
    batch_size: int = Field(16, ge=1, description="rows per step")
    row_tokens: int = Field(64, ge=8, description="longest training row in tokens")

    @model_validator(mode="after")
    def _enough_people(self) -> FreezeLoopsOptions:
        if self.tasks * self.facts_per_task > population("injected"):
            raise ValueError(
                f"{self.tasks} tasks of {self.facts_per_task} facts_per_task need more people than the world "
                f"has: {population('injected')}"
            )
        return self

    @property
    def task_steps(self) -> int:
        """Optimizer steps of one task."""
        return self.exposures * -(-self.facts_per_task // self.batch_size)

    @property
    def general_rows(self) -> int:
        """Rows of one stretch of general text."""
        return self.general_steps * self.batch_size
