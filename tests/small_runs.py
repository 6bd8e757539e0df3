"""Runs of seconds in this process: a random model of about 100k parameters, everything else as shipped."""

from __future__ import annotations

import functools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_folders import VOCABULARY, Kind, make_model_folder, shelf

from seqmem.core.errors import UsageError
from seqmem.planning.grid import PlannedRun
from seqmem.planning.job import Job
from seqmem.planning.plan import plan
from seqmem.planning.request import Request
from seqmem.plugin.registry import Registry
from seqmem.record.files import write_sealed
from seqmem.record.reader import RunRecord

Events = list[dict[str, Any]]

SMALL: Mapping[str, Any] = {
    "scenario.loops": 2,
    "scenario.cycles": 2,
    "scenario.facts_per_loop": 2,
    "scenario.exposures": 2,
    "scenario.batch_size": 4,
    "scenario.rest_steps": 4,
    "scenario.even_every": 2,
    "scenario.row_tokens": 96,
}
"""Sixteen steps: two loops, two cycles of a prose and two memory steps each, then four steps of rest."""


@functools.cache
def installed() -> Registry:
    """The plugins of this environment, looked up once."""
    return Registry.from_environment()


def small_model(path: Path, kind: Kind = "gpt_neox", seed: int = 0) -> Path:
    """A random model that reads the world's text in about half as many tokens as it has letters."""
    return Path(shutil.copytree(_small_model(kind, seed), path, dirs_exist_ok=True))


@functools.cache
def _small_model(kind: Kind, seed: int) -> Path:
    from tokenizers import pre_tokenizers, trainers
    from transformers import AutoTokenizer

    from seqmem_scenarios.world import background

    path = make_model_folder(kind, Path(tempfile.mkdtemp(dir=shelf())), max_positions=512, seed=seed)
    tokenizer = AutoTokenizer.from_pretrained(path)
    backend = tokenizer.backend_tokenizer
    specials = sorted({tokenizer.eos_token, tokenizer.bos_token}, key=tokenizer.convert_tokens_to_ids)
    backend.train_from_iterator(
        (background(0, index) for index in range(300)),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.save(str(path / "tokenizer.json"))
    return path


def planned(
    model: Path,
    strategy: str = "naive",
    options: Mapping[str, Any] | None = None,
    *,
    registry: Registry | None = None,
    small: bool = True,
    seed: int = 0,
    scenario: str = "memory_loops",
    **request: Any,
) -> PlannedRun:
    """The one run of a strategy and seed that this request plans; `options` as in ``{"scenario.loops": 3}``."""
    values = {**(SMALL if small and scenario == "memory_loops" else {}), **(options or {})}
    asked = Request(
        scenario=(scenario,),
        strategy=(strategy,),
        model=(str(model),),
        preset=request.pop("preset", "smoke"),
        seeds=str(seed),
        set=tuple(f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in values.items()),
        reference=False,
        controls=False,
        device="cpu",
        **request,
    )
    (run,) = plan(asked, registry or installed()).runs.values()
    return run


def job_of(run: PlannedRun, folder: Path, **changes: Any) -> Job:
    """The job a bench would make of a planned run."""
    return Job(
        **{
            "recipe": run.recipe,
            "asked": {},
            "scenario_options": dict(run.scenario_options),
            "text_options": dict(run.text_options),
            "folder": str(folder),
            "lock": str(shelf() / f"{folder.parent.name}-{folder.name}.lock"),
            "model_folder": str(run.model_folder),
            "model_files": dict(run.model_files),
            "checkpoint_every": 50,
            "keep_checkpoints": False,
            "save_model": False,
            "resume": False,
            "disabled": [],
            **changes,
        }
    )


def carry_out(
    run: PlannedRun,
    folder: Path,
    *,
    registry: Registry | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> Events:
    """Carry out a run in this process; its events but for what is being loaded, the outcome last."""
    from seqmem.training.run import execute

    events: Events = []
    execute(job_of(run, folder, **changes), events.append, should_stop, registry or installed())
    return [event for event in events if event["event"] != "loading"]


def finish(run: PlannedRun, folder: Path, **arguments: Any) -> RunRecord:
    """Carry out a run that must come to its end; its record."""
    events = carry_out(run, folder, **arguments)
    assert events[-1] == {"event": "finished"}, events[-1]
    return RunRecord.open(folder)


_FINISHED: dict[str, RunRecord] = {}
"""Records that this process has made, by all that determines them."""


def finished(run: PlannedRun, **changes: Any) -> RunRecord:
    """The record of a run that tests only look at: carried out for the first of them."""
    folder = shelf() / f"record-{len(_FINISHED)}"
    what = _what(job_of(run, folder, **changes))
    if what not in _FINISHED:
        _FINISHED[what] = finish(run, folder, **changes)
    return _FINISHED[what]


def _what(job: Job) -> str:
    return job.model_dump_json(exclude={"folder", "lock", "asked"})


def tables(folder: Path) -> dict[str, bytes]:
    """Every Parquet file of a record, by its place in the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def results(record: RunRecord) -> dict[str, Any]:
    """Return what two runs of one recipe must share, interrupted or not."""
    return {
        name: record.info[name]
        for name in ("id", "content", "final", "final_weights", "status", "extra_state_bytes")
    }


def rows(folder: Path) -> dict[str, Any]:
    """Every table of a record as one data frame, however many parts it came in."""
    record = RunRecord.open(folder)
    names = ("probes", "steps", "exposures", "items", "experiences", "measured")
    return {name: getattr(record, name) for name in names}


class InlineWorkers:
    """Stands in for `seqmem.launch.local.Workers` without processes of their own: same calls, no start."""

    def __init__(self, count: int, threads: int = 1) -> None:
        self.count = count

    def __enter__(self) -> InlineWorkers:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def run(
        self,
        jobs: Sequence[Job],
        on_event: Callable[[str, dict[str, Any]], None],
        should_stop: Callable[[], bool],
        on_tick: Callable[[], None] = lambda: None,
        doubt: Callable[[Job], str] = lambda job: "",
    ) -> Mapping[str, dict[str, Any]]:
        outcome: dict[str, dict[str, Any]] = {}
        refused: list[str] = []
        for job in jobs:
            if should_stop():
                break

            def report(event: dict[str, Any], run_id: str = job.recipe.id) -> None:
                if event["event"] == "refused":
                    refused.append(event["reason"])
                    event = event | {"event": "failed"}
                outcome[run_id] = event
                on_event(run_id, event)

            self.carry_out(job, report, should_stop)
        if refused and len(refused) == len(jobs):
            raise UsageError("; ".join(dict.fromkeys(refused)))
        return outcome

    def carry_out(
        self, job: Job, report: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
    ) -> None:
        from seqmem.training.run import execute

        execute(job, report, should_stop)


class RememberingWorkers(InlineWorkers):
    """Carries out a job once. Into another new folder goes a copy of its record, which says what is asked now."""

    def carry_out(
        self, job: Job, report: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
    ) -> None:
        folder, what = Path(job.folder), _what(job)
        if what in _FINISHED and not folder.exists():
            shutil.copytree(_FINISHED[what].folder, folder)
            write_sealed(folder / "run.json", {**_FINISHED[what].info, "asked": job.asked})
            report({"event": "finished"})
            return

        def remember(event: dict[str, Any]) -> None:
            if event["event"] == "finished" and what not in _FINISHED:
                kept = shutil.copytree(folder, shelf() / f"record-{len(_FINISHED)}")
                _FINISHED[what] = RunRecord.open(kept)
            report(event)

        super().carry_out(job, remember, should_stop)


def write_stranger(folder: Path, source: str, *strategies: str) -> Path:
    """A stranger's installed package: a module with strategies and the metadata that names them."""
    sys.modules.pop("strange_strategies", None)  # another test's, where this process has run one
    (folder / "strange_strategies.py").write_text(source)
    metadata = folder / "strange-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    lines = [f"{name} = strange_strategies\n" for name in strategies]
    (metadata / "entry_points.txt").write_text("".join(["[seqmem.strategy]\n", *lines]))
    return folder
