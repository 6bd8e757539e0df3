"""Files of PyTorch: tensors are read, and nothing that a file holds is run."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmem.core.errors import UsageError
from seqmem.training.convert import beating, from_pickled, read_tensors


class Touches:
    """What a malicious file holds: unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tar_of(path: Path, content: object) -> None:
    with tarfile.open(path, "w:") as archive:
        parts = {"sys_info": {"protocol_version": 1000}, "pickle": content, "storages": 0, "tensors": 0}
        for name, value in parts.items():
            stored = pickle.dumps(value, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(stored)
            archive.addfile(entry, io.BytesIO(stored))


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle", "tar"])
def test_a_malicious_file_is_refused_and_nothing_in_it_is_run(form: str, tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / "pytorch_model.bin"
    content = {"weight": torch.zeros(2), "other": Touches(ran)}
    if form == "zip":
        torch.save(content, path)
    elif form == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif form == "plain pickle":
        path.write_bytes(pickle.dumps({"other": Touches(ran)}, protocol=2))
    else:
        tar_of(path, {"other": Touches(ran)})
    line = refused(path)
    assert path.name in line and not ran.exists()
    if form in ("zip", "legacy"):
        assert "mkdir" in line and "nothing in it was run" in line
    # The file is what it is taken for: read without protection it runs.
    if form == "plain pickle":
        pickle.loads(path.read_bytes())
        assert ran.exists()


def test_the_old_form_without_an_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.arange(6.0).view(2, 3).T}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_tensors(path)["weight"], torch.arange(6.0).view(2, 3).T)


def test_the_tar_form_is_refused_with_a_way_out(tmp_path: Path) -> None:
    tar_of(tmp_path / "pytorch_model.bin", {})
    assert "tar format" in refused(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize("archive", [True, False])
def test_a_cut_off_file_is_named(archive: bool, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.randn(100)}, path, _use_new_zipfile_serialization=archive)
    path.write_bytes(path.read_bytes()[:-120])
    line = refused(path)
    assert "damaged or cut off" in line and "download it again" in line
    path.write_bytes(b"")
    assert "damaged or cut off" in refused(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3, "weight": torch.zeros(1)}, "holds int under 'epoch'"),
        ({"state_dict": {"weight": torch.zeros(1)}}, "not a training checkpoint"),
        ([torch.zeros(1)], "holds list, not tensors by name"),
        ({}, "not tensors by name"),
        ({"weight": torch.eye(2).to_sparse()}, "sparse"),
    ],
)
def test_what_is_not_plain_tensors_is_named(content: object, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    assert said in refused(tmp_path / "pytorch_model.bin")


def test_a_pointer_of_git_lfs_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    assert "git lfs pull" in refused(tmp_path / "pytorch_model.bin")


def test_tensors_that_share_memory_keep_their_names_values_and_types(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    shared = torch.randn(4, 2).half()
    stored = {
        "embedding": shared,
        "head": shared,
        "part": shared[1:3],
        "one": torch.nn.Parameter(torch.ones(3)),
    }
    torch.save(stored, tmp_path / "pytorch_model.bin")
    said: list[str] = []
    from_pickled([tmp_path / "pytorch_model.bin"], tmp_path, said.append)
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == stored.keys() and said[0].startswith("reading pytorch_model.bin")
    for name, tensor in stored.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype


def test_what_takes_long_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr("seqmem.training.convert.BEAT_SECONDS", 0.01)
    events: list[dict[str, Any]] = []
    again = threading.Event()

    def report(event: dict[str, Any]) -> None:
        events.append(event)
        if event["message"].endswith(" s"):
            again.set()

    with beating(report) as say:
        say("thinking")
        assert again.wait(20)
    assert events[0]["message"] == "thinking" and events[1]["message"].startswith("thinking: ")
