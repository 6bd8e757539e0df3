"""Carry out one job in this process: builds the parts, trains, leaves the record."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import random
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqmem.core.cache import read_card
from seqmem.core.data import Outline
from seqmem.core.disk import disk_full, is_full
from seqmem.core.errors import DiskFull, Refused, SeqmemError, UsageError
from seqmem.core.process import DETERMINISTIC
from seqmem.core.recipe import Recipe
from seqmem.planning.job import Job
from seqmem.planning.model_files import check_unchanged
from seqmem.planning.stream import build_stream, model_choice, same_version, tokenizer_of
from seqmem.planning.tokenizer import bare_encoder, decoder, tokenizer_hash, unknown_id
from seqmem.plugin.composition import strategy_options
from seqmem.plugin.registry import Registry
from seqmem.record.files import write_sealed
from seqmem.record.reader import RunRecord
from seqmem.record.schema import FORMAT, MODEL, RUN_FILE
from seqmem.record.versions import installed_version
from seqmem.record.writer import RecordWriter
from seqmem.training.checkpoint import digest, load_last
from seqmem.training.leaks import ContaminationDetector
from seqmem.training.learner import Learner
from seqmem.training.loop import Stopped, train
from seqmem.training.model import check_saved, load_model, save_model
from seqmem.training.one_writer import one_writer
from seqmem.training.reporting import Report, Reporter
from seqmem.training.run_audit import RunAudit
from seqmem.training.run_state import Progress, Run, checkpoint, restore

PACKAGES = ("seqmem", "torch", "transformers", "tokenizers", "numpy", "pyarrow", "safetensors", "datasets")

FAULTS = (Exception, SystemExit, KeyboardInterrupt)
"""Errors that end one run only. Workers ignore Ctrl-C, so the last two can only come from a plugin."""


def execute(
    job: Job,
    report: Report,
    should_stop: Callable[[], bool] = lambda: False,
    registry: Registry | None = None,
) -> None:
    """Carry out a job; progress and the outcome go to `report`, results to the job's folder.

    The last report has event ``finished``, ``stopped``, ``failed`` (with ``reason``) or, when nothing was
    written because the request cannot be carried out, ``refused``. After a full disk the run has failed here, and its
    record says stopped: with room it goes on.
    """
    folder = Path(job.folder)

    def loading(what: str) -> None:
        report({"event": "loading", "what": what})

    with deterministic(job.recipe), ExitStack() as held:
        try:
            registry = registry or Registry.from_environment(frozenset(job.disabled))
            model = job.recipe.model
            loading(f"model {model.name} ({model.parameters:,} parameters), tokenizer and stream")
            run, outline = build_run(job, registry, _warner(report), loading)
            alone = one_writer(Path(job.lock), _warner(report), should_stop)
            if job.resume:
                held.enter_context(alone)
                loading("the last checkpoint")
            saved = load_last(folder / "checkpoints", _warner(report)) if job.resume else None
            if saved is None:
                audit = RunAudit(run, outline.primary_relation, accept=job.accept_audit)
                audit.check_stream()
                audit.check_unasked()
            if not job.resume:  # what is refused before leaves nothing, not even a lock
                held.enter_context(alone)
        except SeqmemError as error:
            report({"event": "refused", "reason": str(error)})
            return
        except Stopped:
            report({"event": "stopped"})
            return
        except FAULTS as error:  # too large a model, or a plugin's fault; nothing is written
            report({"event": "failed", "reason": reason_of(error, job.recipe)})
            return
        run.should_stop = should_stop
        info = _describe(job, outline, run, registry)
        if saved is None:
            _discard(folder)
            folder.mkdir(parents=True)
        else:
            info["resumed"] = _earlier_parts(folder, saved.state["step"])
        started = time.perf_counter()
        try:
            write_sealed(folder / RUN_FILE, info | {"status": "running"})
            report({"event": "started", "step": saved.state["step"] if saved else 0, "steps": outline.steps})
            if saved is None:
                _write_items(run)
            else:
                restore(run, saved)
            Reporter(run, outline.steps, outline.primary_relation, report)
            train(run)
            results = _results(run)
            if job.save_model:
                choice = model_choice(job.recipe)
                save_model(run.learner.model, folder / MODEL, Path(job.model_folder), choice)
            info |= {"status": "finished", "files": run.record.files, **results}
        except Refused as error:  # before its first step: nothing of it stays
            _discard(folder)
            report({"event": "refused", "reason": str(error)})
            return
        except Stopped:
            info["status"] = "stopped"
        except FAULTS as error:  # a plugin's fault must not take the other runs along
            info |= _failure(error, folder, job.recipe)
        if run.progress.accepted:
            info["accepted_audit"] = run.progress.accepted
        info["seconds"] = round(time.perf_counter() - started, 3)
        try:
            write_sealed(folder / RUN_FILE, info)
        except OSError as error:  # it says "running" as before: the run goes on from its last checkpoint
            info = _failure(error, folder, job.recipe) | (
                {"reason": info["reason"]} if "reason" in info else {}
            )
    if info["status"] == "finished" and not job.keep_checkpoints:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    report({"event": "failed", "reason": info["reason"]} if "reason" in info else {"event": info["status"]})


def _discard(folder: Path) -> None:
    """Delete a record under another name: killed on the way, it leaves no half of one, and no file of it comes back."""
    going = folder.with_name(f".deleting-{folder.name}")
    shutil.rmtree(going, ignore_errors=True)
    if folder.exists():
        folder.rename(going)
        shutil.rmtree(going, ignore_errors=True)


def _failure(error: BaseException, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Return what the record says of a run that broke off; a fault of a plugin leaves its traceback there."""
    if is_full(error):
        full = error if isinstance(error, DiskFull) else disk_full(folder)
        return {"status": "stopped", "reason": reason_of(full, recipe)}
    if not isinstance(error, SeqmemError):
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    return {"status": "failed", "reason": reason_of(error, recipe)}


def build_run(
    job: Job,
    registry: Registry,
    warn: Callable[[str], None] = lambda message: None,
    loading: Callable[[str], None] = lambda what: None,
) -> tuple[Run, Outline]:
    """Build all parts of the run; what can refuse the request does so here, before anything is written."""
    recipe, model_folder = job.recipe, Path(job.model_folder)
    strategy = registry.load("strategy", recipe.strategy.name)
    same_version(strategy, recipe.strategy)
    own_options = strategy_options(strategy, recipe.strategy.options)
    model = model_choice(recipe)

    def as_planned() -> None:
        where = f"model {model.name!r}"
        check_unchanged(model_folder, job.model_files, where, model.trust_remote_code)

    as_planned()
    loading("tokenizer")
    tokenizer = tokenizer_of(job)
    loading("stream")
    notes: list[str] = []
    stream, outline = build_stream(job, registry, tokenizer, notes.append)
    for note in notes:
        warn(note)
    if strategy.transform_stream is not None:
        stream = strategy.transform_stream(stream, recipe.seed)
    device = torch.device(recipe.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {recipe.device}: torch sees no CUDA device here; use --device cpu")
    loading(f"model {model.name}")
    weights = load_model(
        model_folder, model, device, random_weights=recipe.seed if outline.from_scratch else None
    )
    as_planned()  # still, so that what was read in between is what was planned
    count = sum(parameter.numel() for parameter in weights.parameters())
    if count != recipe.model.parameters:
        warn(
            f"model {model.name} has {count:,} parameters, its files were taken to hold {recipe.model.parameters:,}: "
            "what is stated per parameter is wrong"
        )
    if job.activation_checkpointing and not weights.supports_gradient_checkpointing:
        raise UsageError(
            f"model {model.name}: transformers cannot compute its activations again; "
            "leave out --activation-checkpointing"
        )
    learner = Learner(
        weights,
        recipe.optimizer,
        device,
        _strategy_seed(recipe),
        steps=outline.scheduled_steps,
        micro_tokens=recipe.micro_tokens,
        activation_checkpointing=job.activation_checkpointing,
        autocast=torch.bfloat16 if recipe.model.dtype == "bf16-mixed" else None,
    )
    torch.manual_seed(recipe.seed)
    random.seed(recipe.seed)  # ours are generators of their own; a plugin may draw from the common ones
    np.random.seed(recipe.seed % 2**32)
    run = Run(
        learner=learner,
        strategy=strategy.build(own_options),
        stream=stream,
        record=RecordWriter(Path(job.folder)),
        progress=Progress(),
        probing=recipe.probing,
        checkpoint_every=job.checkpoint_every,
        checkpoint_minutes=job.checkpoint_minutes,
        detector=ContaminationDetector(
            (p for probes in stream.probe_sets.values() for p in probes),
            bare_encoder(tokenizer),
            decoder(tokenizer, keep_special=True),
        ),
        decode=decoder(tokenizer),
        tokenizer=tokenizer_hash(tokenizer),
        unknown=unknown_id(tokenizer),
        notes=notes,
    )
    run.strategy.setup(learner)
    if job.save_model:
        check_saved(learner.model)
    return run, outline


def _results(run: Run) -> dict[str, Any]:
    """Return what is known when the run has finished; the digests tell two runs of one recipe apart."""
    on_gpu = run.learner.device.type == "cuda"
    return {
        "content": run.progress.content,
        "contamination": dict(sorted(run.progress.leaks.items())),
        "final": digest(checkpoint(run).tensors),
        "final_weights": digest({name: p.detach() for name, p in run.learner.parameters.items()}),
        "extra_state_bytes": run.learner.extra_bytes() + run.strategy.unregistered_bytes(),
        "device_bytes": torch.cuda.max_memory_allocated(run.learner.device) if on_gpu else None,
    }


def _strategy_seed(recipe: Recipe) -> int:
    return int.from_bytes(hashlib.sha256(f"strategy {recipe.seed}".encode()).digest()[:8], "big")


@contextmanager
def deterministic(recipe: Recipe) -> Iterator[None]:
    """Set the thread count and deterministic kernels for the run; put them back afterwards."""
    threads, before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    for name, value in DETERMINISTIC.items():
        os.environ.setdefault(name, value)
    torch.set_num_threads(recipe.threads)
    # the same switch as torch.use_deterministic_algorithms, which would import the compiler for it (1.5 s)
    torch.set_deterministic_debug_mode("error" if recipe.device == "cpu" else "warn")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(before)


def _write_items(run: Run) -> None:
    seen = {probe.id: probe for probes in run.stream.probe_sets.values() for probe in probes}
    probes = list(seen.values())
    columns: dict[str, list[Any]] = {
        "probe": [p.id for p in probes],
        "fact": [p.fact for p in probes],
        "twin_of": [p.twin_of for p in probes],
        "relation": [p.relation for p in probes],
        "cue": [p.cue for p in probes],
        "task_label": [p.task_label for p in probes],
        "prompt": [p.prompt for p in probes],
        "answer": [p.answer for p in probes],
        "chance": [p.chance for p in probes],
        "choices": [list(p.choice_names) for p in probes],
        "group": [p.group for p in probes],
        "position": [p.position for p in probes],
        "context": [p.context for p in probes],
        "task_known": [p.task_known for p in probes],
    }
    run.record.write_items(columns)


def _describe(job: Job, outline: Outline, run: Run, registry: Registry) -> dict[str, Any]:
    """Return what the record says of this run before it starts."""
    device = torch.device(job.recipe.device)
    return {
        "format": FORMAT,
        "id": job.recipe.id,
        "recipe": job.recipe.model_dump(mode="json"),
        "asked": job.asked,
        "date": datetime.now(UTC).date().isoformat(),
        "primary_relation": outline.primary_relation,
        "design": run.stream.design.stated(),
        "steps": outline.steps,
        "tokenizer": run.tokenizer,
        **({"notes": list(run.notes)} if run.notes else {}),
        **_source(Path(job.model_folder)),
        "parameter_bytes": sum(p.nbytes for p in run.learner.model.parameters()),
        "versions": {name: installed_version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "plugins": {
            "scenario": registry.package("scenario", job.recipe.scenario.name),
            "strategy": registry.package("strategy", job.recipe.strategy.name),
            "text": registry.package("text", job.recipe.text.name),
        },
        "code": _code_revision(),
        "hardware": {
            "machine": platform.machine(),
            "system": platform.system(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        },
    }


def _source(model_folder: Path) -> dict[str, Any]:
    """Return, under ``source``, what a converted or added model was made of; nothing of one that is taken as it lies.

    It stands beside the recipe, whose fingerprint says which weights these are, however they came about.
    """
    card = read_card(model_folder)
    if card is None:
        return {}
    return {"source": {key: value for key, value in card.items() if key not in ("files", "versions")}}


def _earlier_parts(folder: Path, step: int) -> list[dict[str, Any]]:
    """Return what ran the steps before this resumption: where it stopped counting, versions, code, hardware."""
    try:
        before = RunRecord.open(folder).info
    except SeqmemError:
        return []
    kept = ("versions", "plugins", "code", "hardware", "seconds")
    return [*before.get("resumed", []), {"until_step": step, **{key: before.get(key) for key in kept}}]


@functools.cache
def _code_revision() -> dict[str, Any] | None:
    """Return commit and dirty flag of a source checkout; None for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        status = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(status.strip())}


def reason_of(error: BaseException, recipe: Recipe) -> str:
    """Return why a run failed, in one line; running out of memory says what to lower."""
    # on a CPU torch raises a plain RuntimeError of its allocator
    full = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
    if not full:
        text = str(error) if isinstance(error, SeqmemError) else f"{type(error).__name__}: {error}"
        return " ".join(text.split())
    return (
        f"out of memory on {recipe.device}: lower the tokens of a forward (--micro-tokens auto), the rows per step "
        "(--set scenario.batch_size), the row length or --workers, or use --precision bfloat16 or a smaller --model"
    )


def _warner(report: Report) -> Callable[[str], None]:
    return lambda message: report({"event": "warning", "message": message})
