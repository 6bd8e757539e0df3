"""The device that `auto` takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seqmem import UsageError
from seqmem.planning import device

CPU_BUILD = (
    "from typing import Optional\n\n__version__ = '2.9.0'\ndebug = False\n"
    "cuda: Optional[str] = None\nhip: Optional[str] = None\n"
)
CUDA_BUILD = CPU_BUILD.replace("cuda: Optional[str] = None", "cuda: Optional[str] = '13.0'")


@pytest.mark.parametrize(
    ("version", "gpu", "visible", "chosen"),
    [
        (CUDA_BUILD, True, None, "cuda"),
        (CUDA_BUILD.replace(": Optional[str]", ""), True, "0", "cuda"),
        (CUDA_BUILD, True, "", "cpu"),
        (CUDA_BUILD, False, None, "cpu"),
        (CPU_BUILD, True, None, "cpu"),
        (CPU_BUILD.replace(": Optional[str]", ""), True, None, "cpu"),
        (None, True, None, "cpu"),
    ],
)
def test_a_gpu_is_taken_where_there_is_one_and_torch_is_built_for_it(
    version: str | None,
    gpu: bool,
    visible: str | None,
    chosen: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CPU build need not say so in its version: Conda's and macOS's do not."""
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('torch was imported')")
    if version is not None:
        (package / "version.py").write_text(version)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(device, "_devices", lambda: [Path("/dev/nvidia0")] if gpu else [])
    monkeypatch.syspath_prepend(tmp_path)
    loaded = sys.modules.pop("torch", None)
    try:
        assert device.choose_device("auto") == chosen
    finally:
        if loaded is not None:
            sys.modules["torch"] = loaded


def test_another_device_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        device.choose_device("tpu")
