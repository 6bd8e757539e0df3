"""The verb `doctor`: what this installation has, and what is wrong with it, one line each."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from seqmem.cli.app import PARTIAL, app, registry
from seqmem.cli.terminal import print_json, print_table, say
from seqmem.core.cache import cache_folder
from seqmem.core.errors import SeqmemError
from seqmem.plugin.registry import HOST, Registry

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "tokenizers",
    "datasets",
    "avalanche-lib",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        state: ``ok``, ``bad``, or ``note`` where something is missing that not everybody needs.
    """

    subject: str
    state: Literal["ok", "note", "bad"]
    detail: str


@app.command()
def doctor(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder that results would go to.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this installation.

    Looks at versions, devices, folders, the embedded model and every plugin; exit code 3 when a plugin
    cannot be used.
    """
    plugins = registry(ctx)
    broken = [Finding("plugin", "bad", problem) for problem in plugins.problems()]
    findings = [*_versions(), _torchvision(), *_devices(), *_folders(out), _tiny(plugins), *broken]
    if not broken:
        findings.append(Finding("plugins", "ok", "every one loads"))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(("what", "state", "detail"), [(f.subject, f.state, f.detail) for f in findings])
        bad = sum(finding.state == "bad" for finding in findings)
        say(f"{bad} of {len(findings)} need attention." if bad else "All well.")
    if broken:
        raise typer.Exit(PARTIAL)


def _versions() -> list[Finding]:
    """Return the versions of Python and of the packages that results depend on."""
    python = Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
    return [python, *(_version(name) for name in (HOST, *PACKAGES))]


def _version(distribution: str) -> Finding:
    try:
        return Finding(distribution, "ok", importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return Finding(distribution, "bad", f"not installed: pip install {distribution}")


def _torchvision() -> Finding:
    """Check that torch and torchvision fit together, which only importing both can tell."""
    try:
        importlib.import_module("torch")
        importlib.import_module("torchvision")
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        pair = " and ".join(f"{name} {_version(name).detail}" for name in ("torch", "torchvision"))
        return Finding(
            "torch pair", "bad", f"{pair} do not fit: {fault}; install both together, from one source"
        )
    return Finding("torch pair", "ok", "torch and torchvision fit")


def _devices() -> list[Finding]:
    """Return what can compute here."""
    try:
        from seqmem.training.devices import describe_devices
    except Exception:
        return []
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    devices = describe_devices()
    devices["cpu"] = f"{cores} cores, {devices['cpu']}"
    findings = [Finding(name, "ok", detail) for name, detail in devices.items()]
    if len(findings) == 1:
        findings.append(Finding("gpu", "note", "none found; the CPU is used"))
    return findings


def _folders(out: Path) -> list[Finding]:
    """Check that results and the cache can be written."""
    findings = [_writable("results", out), _writable("cache", cache_folder())]
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except Exception:
        return findings
    return [*findings, _writable("hub cache", Path(HF_HUB_CACHE))]


def _writable(subject: str, folder: Path) -> Finding:
    """Try to write where the folder is or would be made, and leave nothing behind."""
    folder = folder.absolute()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return Finding(subject, "bad", f"{folder} is not writable: {error.strerror}")
    return Finding(subject, "ok", f"{folder} is writable" if nearest == folder else f"{folder} can be made")


def _tiny(plugins: Registry) -> Finding:
    """Check that the model that ships with the package is there."""
    try:
        folder = plugins.load("model", "tiny").locate()
    except SeqmemError:
        return Finding("model tiny", "bad", "its plugin cannot be used: see below")
    if folder is None:
        return Finding("model tiny", "bad", "not found; make it with: seqmem pretrain tiny")
    return Finding("model tiny", "ok", str(folder))
