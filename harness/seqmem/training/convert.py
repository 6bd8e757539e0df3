"""Write the weights of a model as safetensors: from files of PyTorch, from GGUF, or an adapter merged into its base.

Started as ``python -m seqmem.training.convert``: one job on standard input, events on the pipe it was given, the
last of them ``finished`` or ``refused``. Nothing is unpickled but tensors, and no code of a model is run.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmem.core.errors import SeqmemError, UsageError
from seqmem.planning.model_files import first_line
from seqmem.planning.tokenizer import quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BEAT_SECONDS = 10.0
"""Time after which something is said again."""

TOLERANCE = 1e-3
"""Largest difference of a logit between a model and its copy, relative to their spread: merging rounds."""

_LFS = b"version https://git-lfs"
_NAMES_MODULES = ("auto_mapping", "megatron_config", "megatron_core", "runtime_config")
"""Settings of an adapter that name Python modules for peft to import."""

Say = Callable[[str], None]


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file that `torch.save` wrote, by name; runs nothing that the file holds.

    Raises:
        UsageError: it holds anything else, is damaged, or is in a form that cannot be read without running code.
    """
    import torch

    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise UsageError(
                f"{path.name} is a Git LFS pointer, not the weights; fetch them with: git lfs pull"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"asks for {asked[1]}" if asked else "is not a file of tensors that torch.save wrote"
        raise UsageError(f"{path.name} {what}: refused, and nothing in it was run") from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        if ".tar" in str(error) or "TorchScript" in str(error):
            form = "TorchScript" if "TorchScript" in str(error) else "the tar format of old PyTorch versions"
            raise UsageError(
                f"{path.name} is in {form}, which cannot be read without running code; "
                "save it anew with a current torch, or take a revision that holds safetensors"
            ) from None
        raise UsageError(
            f"{path.name} is damaged or cut off ({first_line(error)}); download it again"
        ) from None
    if not isinstance(found, Mapping) or not found:
        raise UsageError(
            f"{path.name} holds {type(found).__name__}, not tensors by name; give a model's weights"
        )
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise UsageError(
                f"{path.name} holds {type(value).__name__} under {str(name)[:60]!r} beside or instead of tensors; "
                "give a model's weights, not a training checkpoint"
            )
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise UsageError(
                f"{path.name} holds a sparse, quantized or empty tensor {name[:60]!r}; give plain ones"
            )
    # A clone each: a file of tensors that share memory would be refused.
    return {name: value.detach().clone().contiguous() for name, value in found.items()}


def from_pickled(weights: list[Path], target: Path, say: Say) -> None:
    """Write the tensors of every file of PyTorch to one of safetensors, under their names and in their types."""
    from safetensors.torch import save_file

    places: dict[str, str] = {}
    total = 0
    for number, path in enumerate(weights, 1):
        say(f"reading {path.name} ({path.stat().st_size / 2**20:,.0f} MiB)")
        tensors = read_tensors(path)
        count = len(weights)
        name = "model.safetensors" if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"
        save_file(tensors, target / name, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(weights) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (target / "model.safetensors.index.json").write_text(
            json.dumps(index, indent=2) + "\n", encoding="utf-8"
        )


def from_gguf(path: Path, target: Path, say: Say) -> None:
    """Write the model and the tokenizer of a GGUF file, its weights dequantised to float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:  # alone: transformers reads what lies beside a file too
        (Path(folder) / "model.gguf").symlink_to(path)
        asked: dict[str, Any] = {"gguf_file": "model.gguf", "local_files_only": True}
        say("dequantising the weights to float32")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **asked)
        for mark in ("hf_quantizer", "quantization_method", "is_quantized"):
            vars(model).pop(mark, None)  # a marked model refuses to be saved
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        _save(model, target, say)
        say("converting the tokenizer, which may take a minute or two")
        AutoTokenizer.from_pretrained(folder, **asked).save_pretrained(target)


def merge_adapter(adapter: Path, base: Path, target: Path, say: Say) -> None:
    """Write the base model, in float32, with a PEFT adapter merged into its weights.

    Raises:
        UsageError: the adapter is of another model, or its kind cannot be merged.
    """
    import torch
    from peft import PeftModel
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        plain = {key: value for key, value in settings.items() if key not in _NAMES_MODULES}
        (Path(folder) / "adapter_config.json").write_text(json.dumps(plain), encoding="utf-8")
        weights = Path(folder) / "adapter_model.safetensors"
        if (adapter / weights.name).is_file():
            weights.symlink_to(adapter / weights.name)
        else:
            save_file(read_tensors(adapter / "adapter_model.bin"), weights)
        say("loading the base model")
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
        say("merging the adapter")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            changed = PeftModel.from_pretrained(model, folder).eval()
        if any("missing adapter keys" in str(warning.message) for warning in said):
            raise UsageError(
                "its adapter lacks weights that its adapter_config.json asks for; is it of this base?"
            )
        if not hasattr(changed, "merge_and_unload"):
            raise UsageError(
                f"an adapter of kind {plain.get('peft_type')} cannot be merged into weights; give LoRA"
            )
        expected = _logits(changed)
        merged = changed.merge_and_unload(safe_merge=True)
    _save(merged, target, say, expected)


def _save(model: PreTrainedModel, target: Path, say: Say, expected: torch.Tensor | None = None) -> None:
    """Save a model and check that what is loaded again computes the same.

    Raises:
        UsageError: it does not.
    """
    from transformers import AutoModelForCausalLM

    expected = _logits(model) if expected is None else expected
    say("writing safetensors")
    with quiet():
        model.save_pretrained(target)
        say("checking them")
        found = _logits(
            AutoModelForCausalLM.from_pretrained(target, local_files_only=True, use_safetensors=True)
        )
    if not (found - expected).abs().max() <= TOLERANCE * expected.std():
        raise UsageError("its converted weights do not compute what it computes; please report this model")


def _logits(model: PreTrainedModel) -> torch.Tensor:
    """Return what the model makes of a few tokens."""
    import torch

    rows = int(model.get_input_embeddings().weight.shape[0])
    ids = (torch.arange(16) * 7919 % rows)[None]
    model.eval()
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.float()


@contextmanager
def beating(report: Callable[[dict[str, Any]], None]) -> Iterator[Say]:
    """Give a function that says what is being done, and say it again while it lasts."""
    doing: list[tuple[str, float]] = []
    over = threading.Event()

    def say(text: str) -> None:
        doing[:] = [(text, time.monotonic())]
        report({"event": "progress", "message": text})

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            for text, since in doing:
                report({"event": "progress", "message": f"{text}: {time.monotonic() - since:.0f} s"})

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield say
    finally:
        over.set()
        thread.join()


def convert(job: Mapping[str, Any], say: Say) -> None:
    """Carry out a job."""
    path, target = Path(job["path"]), Path(job["target"])
    if job["kind"] == "pytorch":
        from_pickled([Path(name) for name in job["weights"]], target, say)
    elif job["kind"] == "gguf":
        from_gguf(path, target, say)
    else:
        merge_adapter(path, Path(job["base"]), target, say)


def carry_out(job: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """Carry out a job and report what is being done, and at last how it ended."""
    try:
        with beating(report) as say:
            convert(job, say)
    except Exception as error:  # whatever a library makes of a file from outside
        own = isinstance(error, SeqmemError)
        reason = (
            str(error) if own else f"it could not be converted: {type(error).__name__}: {first_line(error)}"
        )
        report({"event": "refused", "reason": reason})
    else:
        report({"event": "finished"})


def main() -> None:
    """Read a job, carry it out, and say how it ended."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    writing = threading.Lock()

    def report(event: dict[str, Any]) -> None:
        with writing:
            events.write(json.dumps(event) + "\n")

    carry_out(json.loads(sys.stdin.readline()), report)


if __name__ == "__main__":
    main()
