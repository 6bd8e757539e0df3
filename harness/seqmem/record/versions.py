"""The versions of packages that made a run: two runs are comparable only where those agree."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable, Mapping

from seqmem.core.version import __version__
from seqmem.record.reader import RunRecord

DECISIVE = ("seqmem", "torch", "transformers")
"""Packages whose version may change the numbers of a run."""


@functools.cache
def installed_version(package: str) -> str:
    """Return the version of an installed package, found without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return __version__ if package == "seqmem" else "not installed"


def installed_versions() -> dict[str, str]:
    """Return the versions of the decisive packages that a run made now would have."""
    return {package: installed_version(package) for package in DECISIVE}


def versions_of(runs: Iterable[RunRecord]) -> dict[str, set[str]]:
    """Return for each decisive package the versions that made these runs, parts before a resumption included."""
    found: dict[str, set[str]] = {package: set() for package in DECISIVE}
    for run in runs:
        for part in (run.info, *(run.info.get("resumed") or ())):
            stated: Mapping[str, str] = part.get("versions") or {}
            for package in DECISIVE:
                found[package].add(stated.get(package, "of unknown version"))
    return found


def named(versions: Mapping[str, Iterable[str]], packages: Iterable[str]) -> str:
    """Return versions in words: ``torch 2.13.0 and 2.14.1, transformers 5.24.0``."""
    return ", ".join(f"{package} {' and '.join(sorted(versions[package]))}" for package in packages)


def difference(runs: Iterable[RunRecord], versions: Mapping[str, str]) -> tuple[str, str]:
    """Return the versions of these runs that differ from `versions`, and those of `versions`; empty where all agree."""
    made = versions_of(runs)
    other = [package for package in DECISIVE if made[package] - {versions[package]}]
    return named(made, other), named({package: [versions[package]] for package in other}, other)
