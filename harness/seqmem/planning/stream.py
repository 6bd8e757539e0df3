"""The stream of a job, as its model's tokenizer reads it; trains nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmem.core.data import BuildContext, Outline, Stream
from seqmem.core.errors import UsageError
from seqmem.core.options import validate
from seqmem.core.recipe import PluginChoice, Recipe
from seqmem.core.validate import checked
from seqmem.planning.grid import PlannedRun
from seqmem.planning.job import Job
from seqmem.planning.models import ModelChoice
from seqmem.planning.tokenizer import decoder, encoder, load_tokenizer, unknown_id, vocabulary, within
from seqmem.plugin.registry import Registry
from seqmem.plugin.specs import ScenarioSpec, StrategySpec, TextSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Say = Callable[[str], None]


def tokenizer_of(job: Job) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the job's model, the one that was loaded before where its folder is as it was."""
    folder = Path(job.model_folder)
    stats = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
    files = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return _tokenizer(folder, model_choice(job.recipe), files)


@lru_cache(maxsize=4)
def _tokenizer(
    folder: Path, choice: ModelChoice, files: tuple[tuple[str, int, int], ...]
) -> PreTrainedTokenizerBase:
    return load_tokenizer(folder, choice)


def build_stream(
    job: Job, registry: Registry, tokenizer: PreTrainedTokenizerBase, say: Say = lambda note: None
) -> tuple[Stream, Outline]:
    """Return the scenario's stream as the job's model reads it, before any strategy transforms it.

    `say` is told what the record has to say of the text.

    Raises:
        UsageError: the scenario or the text refuses.
        PluginError: the stream is not what it declares.
    """
    built = stream_of(
        job, registry, encoder(tokenizer), decoder(tokenizer), unknown=unknown_id(tokenizer), say=say
    )
    _check_unchanged(job, registry)
    return built


def _check_unchanged(job: Job, registry: Registry) -> None:
    """Refuse files of text or facts that are not those the run was planned with."""
    scenario, text = job.recipe.scenario, job.recipe.text
    read: list[tuple[ScenarioSpec | TextSpec, PluginChoice, dict[str, Any]]] = [
        (registry.load("scenario", scenario.name), scenario, job.scenario_options),
        (registry.load("text", text.name), text, job.text_options),
    ]
    for spec, planned, options in read:
        if spec.fingerprint is None:
            continue
        if spec.fingerprint(validate(spec.options, options, planned.name)) != planned.content:
            paths = ", ".join(str(options[key]) for key in spec.local if options.get(key))
            raise UsageError(
                f"{planned.name}: {paths or 'what it reads'} was changed since this run was planned; plan it anew"
            )


def stream_of(
    job: Job | PlannedRun,
    registry: Registry,
    encode: Callable[[str], list[int]],
    decode: Callable[[list[int]], str] | None = None,
    *,
    unknown: int | None = None,
    say: Say = lambda note: None,
) -> tuple[Stream, Outline]:
    """Return the scenario's stream as this tokenizer reads it, with what was said of it beforehand.

    `say` is told what the record has to say of the text.

    Raises:
        UsageError: the scenario or the text refuses.
        PluginError: the stream is not what it declares.
    """
    recipe = job.recipe
    scenario = registry.load("scenario", recipe.scenario.name)
    text = registry.load("text", recipe.text.name)
    same_version(scenario, recipe.scenario)
    same_version(text, recipe.text)
    options = validate(scenario.options, job.scenario_options, f"scenario {scenario.name}")
    text_options = validate(text.options, job.text_options, f"text {text.name}")
    outline = scenario.outline(options)
    source = text.open(text_options, recipe.seed, outline.documents)
    if source.note:
        say(source.note)
    rows = vocabulary(Path(job.model_folder))
    context = BuildContext(
        seed=recipe.seed,
        encode=within(encode, rows),
        max_positions=recipe.model.max_positions,
        text=source,
        decode=decode,
        vocabulary=rows,
        unknown=unknown,
    )
    return checked(scenario.build(options, context), outline, scenario.name), outline


def model_choice(recipe: Recipe) -> ModelChoice:
    """Return how the recipe's model is loaded."""
    return ModelChoice(
        name=recipe.model.name,
        revision=recipe.model.revision,
        dtype=recipe.model.dtype,
        attention=recipe.model.attention,
        trust_remote_code=recipe.model.trust_remote_code,
    )


def same_version(spec: ScenarioSpec | StrategySpec | TextSpec, choice: PluginChoice) -> None:
    """Refuse a plugin of another version than planned with.

    Raises:
        UsageError: it is.
    """
    if spec.version != choice.version:
        raise UsageError(f"{choice.name} is at version {spec.version}, the recipe wants {choice.version}")
