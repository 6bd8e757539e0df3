"""Names of files: fit for every file system, and distinct where the texts are. Cells that are no formulas."""

from __future__ import annotations

import pytest

from seqmem.core.sanitize import cell_text, distinct_file_name, file_name, file_names


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


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", " =1+1", "\u200b=1", "\r\n-2"])
def test_a_cell_is_never_a_formula(formula: str) -> None:
    assert cell_text(formula).startswith("'")
    assert not set("\t\r\n\u200b") & set(cell_text(formula))


@pytest.mark.parametrize("value", ["naive", "", "a=b", "1-2", 0.5, -3, None])
def test_other_cells_stay_as_they_are(value: object) -> None:
    assert cell_text(value) == value
