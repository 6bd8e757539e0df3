"""Fixtures: environments with the package, or a stranger's, installed as users would install it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from filelock import FileLock
from paced import know_the_pace

REPOSITORY = Path(__file__).resolve().parents[1]
STRANGER = REPOSITORY / "tests" / "stranger"

Runner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def own_cache(shared_folder: Path) -> None:
    """A cache of the session's own: what the user has added must not change a test."""
    os.environ["SEQMEM_CACHE"] = str(shared_folder / "cache")
    know_the_pace(shared_folder / "cache")


@pytest.fixture(scope="session")
def wheel(shared_folder: Path) -> Path:
    """The wheel of this repository, built once per session."""
    folder = shared_folder / "wheel"
    with FileLock(shared_folder / "wheel.lock"):
        if not folder.exists():
            building = shared_folder / "wheel-building"
            _pip("wheel", "--wheel-dir", str(building), str(REPOSITORY))
            building.rename(folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def stranger_python(shared_folder: Path, wheel: Path) -> Path:
    """The interpreter of an environment with the wheel and the stranger's package, away from the repository."""
    return _environment(shared_folder / "stranger-environment", str(wheel), str(STRANGER))


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and named, and their files hold a head only: rendering takes longer than the test's runs."""
    heads = {"png": b"\x89PNG", "svg": b"<?xml"}

    def savefig(self: object, file: IO[bytes], **settings: object) -> None:
        file.write(heads[str(settings["format"])])

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures: drawing takes longer than the runs of a test."""
    for name in ("draw_curves", "draw_sweep", "draw_metric"):
        monkeypatch.setattr(f"seqmem.reporting.figures.{name}", lambda *arguments: None)


@pytest.fixture
def seqmem_in() -> Runner:
    """Runs `seqmem` with an environment's interpreter: `seqmem_in(python, "list", cwd=...)`."""

    def run(python: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python.parent / "seqmem"), *arguments],
            cwd=cwd,
            env=_clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def _environment(folder: Path, *requirements: str) -> Path:
    """Make an environment over the packages of the running one and install into it; returns its Python.

    The packages below are reached by a plain path line, which runs no `.pth` file of theirs: an editable
    installation of this repository is not importable from here.
    """
    python = folder / "bin" / "python"
    ready = folder / "ready"
    with FileLock(f"{folder}.lock"):
        if not ready.exists():
            venv.create(folder, symlinks=True, clear=True)
            library = next((folder / "lib").glob("python3.*")) / "site-packages"
            below = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
            (library / "below.pth").write_text("".join(f"{path}\n" for path in below))
            for requirement in requirements:
                _pip("--python", str(python), "install", "--ignore-installed", requirement)
            ready.touch()
    return python


def _clean_environment() -> dict[str, str]:
    """The caller's environment less what would let the repository be imported."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _pip(*arguments: str) -> None:
    """Run pip offline, on what is installed already."""
    options = ["--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, *options],
        env=_clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"pip {' '.join(arguments)}\n{done.stdout}{done.stderr}"
