"""What was planned is what trains: a model, text or facts changed in between are refused, and named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import carry_out, planned, small_model


def reason_of(model: Path, folder: Path, between: Callable[[], object], **request: object) -> str:
    """Why a run is refused that was planned before `between`."""
    run = planned(model, **request)  # type: ignore[arg-type]
    between()
    (event,) = carry_out(run, folder)
    assert event["event"] == "refused" and not folder.exists()
    return str(event["reason"])


def test_weights_that_were_replaced_are_not_trained(tmp_path: Path) -> None:
    model, other = small_model(tmp_path / "model"), small_model(tmp_path / "other", seed=1)
    weights = model / "model.safetensors"
    state = weights.stat()

    def replace() -> None:
        shutil.copyfile(other / weights.name, weights)
        assert weights.stat().st_size == state.st_size
        os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns + 1))

    reason = reason_of(model, tmp_path / "run", replace)
    assert reason.endswith(
        f"{weights} was changed since this run was planned; plan it anew with the files as they are"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [("config.json", "was changed"), ("tokenizer.json", "is gone"), ("merges.txt", "is new")],
)
def test_any_file_of_the_model_counts(name: str, said: str, tmp_path: Path) -> None:
    path = small_model(tmp_path / "model") / name

    def change() -> None:
        if said == "is gone":
            path.unlink()
        else:
            path.write_text(f"{path.read_text()} " if path.exists() else "")

    assert f"{path} {said} since" in reason_of(path.parent, tmp_path / "run", change)


def test_a_text_that_was_changed_is_refused(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(f"Document {number} tells of rain, wind and more rain." for number in range(1500))
    )
    read = reason_of(
        model,
        tmp_path / "a",
        lambda: text.write_text(f"{text.read_text()}\n\nMore."),
        text=str(text),
    )
    assert read == f"file: {text} was changed since this run was planned; plan it anew"
