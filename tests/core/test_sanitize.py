"""Names of files: fit for every file system, and distinct where the texts are."""

from __future__ import annotations

import pytest

from seqmem.core.sanitize import distinct_file_name, file_name, file_names


def test_a_name_that_nothing_shares_is_the_plain_one() -> None:
    labels = ["naive", "replay buffer=4 scenario.loops=2", "ewc (tuned)", "avalanche:EWC @ tiny"]
    assert list(file_names(labels).values()) == [file_name(label) for label in labels]


@pytest.mark.parametrize(
    "labels", [("a/b", "a:b"), ("x" * 100 + "1", "x" * 100 + "2"), ("EWC", "ewc"), ("...", "---", "")]
)
def test_texts_that_would_share_a_name_do_not(labels: tuple[str, ...]) -> None:
    names = file_names([*labels, "naive"])
    assert len({name.casefold() for name in names.values()}) == len(labels) + 1
    assert names["naive"] == "naive"
    assert names == {label: file_names(["naive", *reversed(labels)])[label] for label in names}
    assert not any("/" in name or ":" in name for name in names.values())


def test_a_name_that_no_other_text_has() -> None:
    texts = ["ewc", "ewc (tuned)", "ewc tuned", "ewc--tuned-", "a/b", "a:b", "x" * 101, "x" * 102]
    assert len({distinct_file_name(text) for text in texts}) == len(texts)
    assert distinct_file_name("avalanche-EWC.2") == "avalanche-EWC.2"
