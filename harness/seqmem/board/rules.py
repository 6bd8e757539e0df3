"""The frozen rules of a published board, as ``board.toml`` states them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from seqmem.core.choices import Precision
from seqmem.core.data import Options
from seqmem.core.errors import UsageError, unknown
from seqmem.core.options import parse_seeds

RULES = "board.toml"


class Rules(Options):
    """The frozen rules of one board; every field is a key of ``board.toml``.

    Attributes:
        question: what the board answers, in one sentence.
        primary: measure that ranks the rows.
        margin: smallest relevant difference of the primary measure, in its unit; by default the measure's.
        gates: measure to the loss against the reference, in its unit, that a ranked row must be shown to stay within.
        models: name to fingerprint of the models that a row may start from.
        seeds: scoring seeds, as typed after ``--seeds``.
        tuning_seeds: seeds on which hyper-parameters may be searched.
        least_seeds: smallest number of seeds of a row; by default all scoring seeds.
        controls: controls that every run of every row needs beside it.
        text: source of background text, with the hash of its content.
        optimizer: ``fixed``: as the preset has it; ``free``: a search may choose it as well.
        hyperparameters: ``defaults``: none may be changed; ``searched``: by a search on tuning seeds; ``equal_search``:
            every row has a search of its own with the whole budget, the reference too.
        budget: largest number of runs of a search; of ``equal_search`` the budget that each must have.
        eligibility: who may have a row, in words.
    """

    format: Literal[1]
    question: str = Field(min_length=1)
    scenario: str
    version: str
    preset: str = "default"
    primary: str
    margin: float | None = Field(None, gt=0)
    reference: str
    gates: dict[str, Annotated[float, Field(gt=0)]] = {}
    models: dict[str, str] = Field(min_length=1)
    seeds: str
    tuning_seeds: str = ""
    least_seeds: int = Field(0, ge=0)
    controls: tuple[str, ...] = ()
    dtype: Precision = "float32"
    probing: Literal["schedule", "every", "none"] = "schedule"
    text: str = "world"
    text_content: str = ""
    optimizer: Literal["fixed", "free"] = "fixed"
    hyperparameters: Literal["defaults", "searched", "equal_search"] = "defaults"
    budget: int = Field(0, ge=0)
    eligibility: str = Field(min_length=1)

    @field_validator("seeds", "tuning_seeds")
    @classmethod
    def _are_seeds(cls, text: str) -> str:
        try:
            parse_seeds(text) if text else ()
        except UsageError as error:
            raise ValueError(str(error)) from error
        return text

    @model_validator(mode="after")
    def _agree(self) -> Rules:
        both = sorted(set(self.scoring) & set(self.tuning))
        if both:
            raise ValueError(f"seed {both[0]} is a scoring seed and a tuning seed; the two must not meet")
        if self.least > len(self.scoring):
            raise ValueError(
                f"least_seeds = {self.least_seeds}, but there are {len(self.scoring)} scoring seeds"
            )
        if self.hyperparameters != "defaults" and not (self.tuning and self.budget):
            raise ValueError(
                f'hyperparameters = "{self.hyperparameters}" needs tuning_seeds and a budget of at least 1'
            )
        return self

    @property
    def scoring(self) -> tuple[int, ...]:
        """Return the scoring seeds."""
        return parse_seeds(self.seeds)

    @property
    def tuning(self) -> tuple[int, ...]:
        """Return the seeds on which hyper-parameters may be searched."""
        return parse_seeds(self.tuning_seeds) if self.tuning_seeds else ()

    @property
    def least(self) -> int:
        """Return the smallest number of seeds of a row."""
        return self.least_seeds or len(self.scoring)

    @property
    def name(self) -> str:
        """Return the name of the board's folder."""
        return board_name(self.scenario, self.version, self.preset)


def board_name(scenario: str, version: str, preset: str) -> str:
    """Return the name of the folder of a board about this version and preset of a scenario."""
    return f"{scenario}-v{version}" + (f"-{preset}" if preset != "default" else "")


def read_rules(folder: Path) -> Rules:
    """Return the rules of the board in a folder.

    Raises:
        UsageError: there are none, or they are wrong. One line names the key and what is allowed.
    """
    path = folder / RULES
    try:
        stated = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a published board ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from error
    strange = sorted(stated.keys() - Rules.model_fields.keys())
    if strange:
        raise UsageError(f"{path}: {unknown('key', strange[0], Rules.model_fields)}")
    try:
        return Rules.model_validate(stated)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path}: {f'{where}: ' if where else ''}{reason}") from error
