"""Token blocks of a user's Avalanche benchmark: read in turn, checked, and surveyed for planning."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from seqmem import Example, UsageError
from seqmem_plugins.avalanche.targets import NO_TARGET

LARGEST_ID = int(np.iinfo(np.int32).max)
"""No token id is above; rows hold numbers of 32 bits."""


class Benchmark:
    """Token blocks of a benchmark, read when they are asked for."""

    def __init__(self, name: str, made: Any) -> None:
        self.name = name
        self._streams: dict[str, Sequence[Any]] = {}
        self._lengths: dict[str, int] = {}
        for stream in ("train", "test"):
            with _reading(f"benchmark {name}: its {stream}_stream"):
                found = getattr(made, f"{stream}_stream", None)
                self._streams[stream] = _listed(() if found is None else found)
                self._lengths[stream] = len(self._streams[stream])
            if stream == "train" and found is None:
                raise UsageError(
                    f"benchmark {name} returned a {type(made).__name__}, not a benchmark: it needs a train_stream of "
                    "experiences with datasets of token blocks"
                )
        if not self._lengths["train"]:
            raise UsageError(
                f"benchmark {name} has no experience in its train_stream: there is nothing to train"
            )

    def length(self, stream: str) -> int:
        """Return the number of experiences of a stream, ``train`` or ``test``."""
        return self._lengths[stream]

    def _where(self, stream: str, index: int, what: str = "") -> str:
        return f"benchmark {self.name}: {what}experience {index} of its {stream}_stream"

    def _dataset(self, stream: str, index: int) -> Any:
        with _reading(self._where(stream, index)):
            found = getattr(self._streams[stream][index], "dataset", None)
        if found is None:
            raise UsageError(f"{self._where(stream, index)} has no dataset")
        return found

    def labels(self, index: int) -> set[int]:
        """Return the task labels in a train experience's dataset; an empty set where it states none."""
        dataset = self._dataset("train", index)
        with _reading(self._where("train", index, "targets_task_labels of ")):
            found = getattr(dataset, "targets_task_labels", None)
            return set() if found is None else set(map(operator.index, found))

    def rows(self, stream: str, index: int) -> list[Example]:
        """Return the blocks of an experience as rows, as often as the dataset lists them.

        Raises:
            UsageError: naming the item that is not a block.
        """
        dataset = self._dataset(stream, index)
        with _reading(self._where(stream, index, "the dataset of ")):
            places = range(len(dataset))
        rows = []
        for place in places:
            where = self._where(stream, index, f"item {place} of ")
            with _reading(where):
                item = dataset[place]
            with _reading(where, "is not a block of token ids"):
                rows.append(_row(item))
        return rows


@contextmanager
def _reading(what: str, fault: str = "cannot be read") -> Iterator[None]:
    """Report any error in a part of a user's benchmark on one line.

    Raises:
        UsageError: naming the part.
    """
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{what} {fault}: {_line(error)}") from error
    except Exception as error:  # a benchmark is anyone's code
        raise UsageError(f"{what} {fault}: {type(error).__name__}: {_line(error)}") from error


def _listed(stream: Any) -> Sequence[Any]:
    """Return a stream by place; one that can only be walked through becomes a list."""
    return stream if hasattr(stream, "__getitem__") and hasattr(stream, "__len__") else tuple(stream)


def _row(item: Any) -> Example:
    """Return an item x, (x, y) or (x, y, t) of a dataset as a row; a y of one number, such as a class, is ignored.

    Raises:
        UsageError: with the reason why it is not a block.
    """
    several = isinstance(item, tuple | list) and len(item) > 0 and np.ndim(item[0]) > 0
    ids = np.asarray(item[0] if several else item)
    if ids.shape == (0,):
        raise UsageError("it is empty")
    if ids.ndim != 1:
        raise UsageError(f"it is {ids.ndim}-dimensional of type {ids.dtype}, wanted is one row of integers")
    ids = _integers(ids, "it is 1-dimensional")
    mask = np.arange(len(ids)) > 0
    if several and len(item) > 1 and np.ndim(item[1]) > 0:
        ids, mask = _targeted(ids, np.asarray(item[1]))
    if not mask.any():
        raise UsageError("it has no target")
    end = int(np.flatnonzero(mask)[-1]) + 1
    least, most = int(ids[:end].min()), int(ids[:end].max())
    if least < 0:
        raise UsageError(f"token id {least} is below 0")
    if most > LARGEST_ID:
        raise UsageError(f"token id {most} is above {LARGEST_ID}")
    return Example(ids[:end].astype(np.int32), mask[:end])


def _integers(values: Any, what: str) -> Any:
    """Return the numbers in 64 bits, in which they stay integers together."""
    if not np.issubdtype(values.dtype, np.integer):
        raise UsageError(f"{what} of type {values.dtype}, wanted is one row of integers")
    return values.astype(np.int64)


def _targeted(ids: Any, targets: Any) -> tuple[Any, Any]:
    """Return row and mask of a block whose shifted targets are given."""
    if targets.shape != ids.shape:
        raise UsageError(f"it has {len(ids)} tokens and {targets.size} targets")
    targets = _integers(targets, "its targets are")
    wanted = targets != NO_TARGET
    if wanted[-1]:  # the last target stands after the block's end
        ids = np.append(ids, targets[-1])
    inside = wanted[: len(ids) - 1]
    if not np.array_equal(ids[1:][inside], targets[: len(inside)][inside]):
        raise UsageError(
            "its targets are not its tokens one ahead: y[i] is the token after x[i], -100 for none"
        )
    return ids, np.append(False, inside)


@lru_cache(maxsize=2)
def opened(name: str, seed: int) -> Benchmark:
    """Return the benchmark that a function returns.

    Raises:
        UsageError: the module or function is missing, fails, or returns something else.
    """
    function = _function(name)
    with _reading(f"benchmark {name}", "failed"):
        takes_seed = "seed" in inspect.signature(function).parameters
        made = function(seed=seed) if takes_seed else function()
    return Benchmark(name, made)


def _function(name: str) -> Callable[..., Any]:
    path, _, wanted = name.partition(":")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise UsageError(
                f"benchmark {name}: its module needs {error.name!r}, which is not installed"
            ) from error
        raise UsageError(
            f"benchmark {name}: no module {path!r}; install it or put its folder on PYTHONPATH"
        ) from error
    except Exception as error:
        raise UsageError(f"benchmark {name}: {path} fails: {type(error).__name__}: {_line(error)}") from error
    function = getattr(module, wanted, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"]
        raise UsageError(
            f"benchmark {name}: {path} has no function {wanted!r}; it has {', '.join(own) or 'none'}"
        )
    return function  # type: ignore[no-any-return]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


@dataclass(frozen=True)
class Survey:
    """Summary of a benchmark, from one walk through it.

    Attributes:
        train, test: blocks of each experience.
        labels: the task label of each train experience.
        shortest, longest: tokens of a block.
        largest: highest token id.
        content: hash of every block.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    labels: tuple[int, ...]
    shortest: int
    longest: int
    largest: int
    content: str


@lru_cache(maxsize=2)
def survey_of(name: str, seed: int) -> Survey:
    """Walk through a benchmark once.

    Raises:
        UsageError: an experience holds no block, or an item that is not a block.
    """
    benchmark = opened(name, seed)
    counts: dict[str, list[int]] = {"train": [], "test": []}
    labels = [benchmark.labels(index) for index in range(benchmark.length("train"))]
    lengths, largest, content = set(), 0, hashlib.sha256()
    for stream, own in counts.items():
        for index in range(benchmark.length(stream)):
            rows = benchmark.rows(stream, index)
            if stream == "train" and not rows:
                raise UsageError(f"benchmark {name}: experience {index} of its train_stream holds no block")
            own.append(len(rows))
            labelled = sorted(labels[index]) if stream == "train" else []
            content.update(f"{stream} {index} {len(rows)} {labelled}".encode())
            for row in rows:
                lengths.add(len(row.input_ids))
                largest = max(largest, int(row.input_ids.max()))
                content.update(np.packbits(row.loss_mask).tobytes() + row.input_ids.tobytes())
    single = all(len(found) == 1 for found in labels)
    return Survey(
        train=tuple(counts["train"]),
        test=tuple(counts["test"]),
        labels=tuple(min(found) if single else index for index, found in enumerate(labels)),
        shortest=min(lengths),
        longest=max(lengths),
        largest=largest,
        content=content.hexdigest(),
    )
