"""The report page as text: what it says, how it is made safe, that it is the same twice, how large it gets."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from helpers_boards import others, registry, write_bench, write_rules
from helpers_records import Answer, Ask, Layout, write_record
from helpers_report import SMALL, Elements, frame, info, metric, part, remembers, rewrite, row

from seqmem.board.submit import submit
from seqmem.cli.app import run
from seqmem.core.options import parse_seeds
from seqmem.core.recipe import recipe_id
from seqmem.planning.request import Request
from seqmem.record import contamination
from seqmem.record.reader import RunRecord
from seqmem.record.row import Row
from seqmem.reporting import Part, command_line, page, verdict_lines
from seqmem.reporting.page_section import EmptyPart
from seqmem.reporting.words import recall_when_last_asked

NASTY = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>\"'&\u202e\u2028"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("report")
    return [
        row(folder / "naive", "naive", 0.2, 6, controls=True),
        row(folder / "replay", "replay", 1.0, 6, controls=True),
    ]


def embedded(text: str, name: str = "data") -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])


# ---- the command ------------------------------------------------------------------------------------------

OTHER: dict[str, Any] = {
    "scenario": ("memory_loops", "fact_injection"),
    "strategy": ("naive", "ewc+replay", "avalanche:EWC"),
    "model": ("EleutherAI/pythia-70m", "my model"),
    "preset": "paper",
    "seeds": "0-4,7",
    "set": ("scenario.loops=4", "strategy.rates=[1, 2]", "text.path=it's here"),
    "sweep": ("strategy.target=-1,0,1",),
    "tuned": ("searches/ewc one.json",),
    "text": "a text.txt",
    "optimizer": "sgd",
    "lr": 1e-05,
    "revision": "step3000",
    "precision": "bf16-mixed",
    "attention": "eager",
    "trust_remote_code": True,
    "device": "cuda:0",
    "threads": 2,
    "micro_tokens": 2048,
    "activation_checkpointing": True,
    "reference": False,
    "controls": False,
    "control": ("plain_rest",),
}


class Caught(Exception):
    pass


def requested(command: str, monkeypatch: pytest.MonkeyPatch) -> Request:
    """The request of a command, as it reaches the planner."""
    caught: list[Request] = []

    def catch(request: Request, *_: Any, **__: Any) -> None:
        caught.append(request)
        raise Caught

    monkeypatch.setattr("seqmem.verbs.bench.plan", catch)
    words = shlex.split(command)
    assert words[:2] == ["seqmem", "bench"]
    with pytest.raises(Caught):
        run(words[1:])
    return caught[0]


def test_every_field_of_a_request_is_tried_here() -> None:
    assert {field.name for field in fields(Request)} == OTHER.keys() | {"probing"}


@pytest.mark.parametrize("name", [*OTHER, "everything"])
def test_the_command_line_makes_the_same_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    least = {"scenario": ("memory_loops",), "strategy": ("naive",)}
    wanted = Request(**(OTHER if name == "everything" else {**least, name: OTHER[name]}))
    stored = json.loads(json.dumps(wanted.asked()))
    assert requested(command_line(stored), monkeypatch) == wanted


def test_a_value_that_looks_like_a_flag_stays_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Request(("memory_loops",), ("naive",), text="--force")
    assert requested(command_line(wanted.asked()), monkeypatch) == wanted


def test_searches_are_named_by_their_files() -> None:
    asked = {"scenario": ["m"], "strategy": ["ewc"], "tuned": {"a.json": {"chosen": {"strategy.lam": 1}}}}
    assert command_line(asked) == "seqmem bench --scenario m --strategy ewc --tuned a.json"


def test_what_has_no_flag_is_said_in_python() -> None:
    said = command_line({"scenario": ["m"], "strategy": ["naive"], "probing": "none"})
    assert said == "import seqmem; seqmem.bench(probing='none', scenario=['m'], strategy=['naive'])"


# ---- the words --------------------------------------------------------------------------------------------


def test_verdicts_say_value_twins_and_difference(shared: list[Row]) -> None:
    lines = verdict_lines(part(shared).table)
    assert re.fullmatch(
        r"replay: memory of loop facts at the end of the rest: 1\.00 \[\.\d\d, 1\.00\], twins \.00; "
        r"differs from naive: yes, better \(p \.031\); difference \.\d\d \[\.\d\d, .*\]",
        lines[0],
    )
    assert re.fullmatch(r"naive: memory .*: \.\d\d \[.*\], twins \.00; the reference", lines[1])


def test_too_few_seeds_are_no_verdict(shared: list[Row]) -> None:
    few = [replace(one, runs={seed: one.runs[seed] for seed in range(3)}) for one in shared]
    text = Elements(page("few", [part(few)])).text
    assert "differs from naive: not known, no test (3 common seeds: a test needs 6)" in text
    assert "Too few seeds to tell from naive: replay." in text
    assert "too few seeds" in text and "Better than" not in text


def test_the_same_as_the_reference_is_not_called_different(shared: list[Row]) -> None:
    twin = replace(shared[0], label="copy")
    text = Elements(page("same", [part([shared[0], twin])])).text
    assert "differs from naive: not shown" in text or "differs from naive: no, " in text
    assert "yes, " not in text


def test_recall_when_last_asked_by_hand(tmp_path: Path) -> None:
    def learner(ask: Ask, random: object) -> Answer:
        return Answer(ask.number == 0 and (not ask.twin or ask.loop == 0))

    record = write_record(tmp_path / "r", learner, Layout(loops=4, cycles=1, facts=2, rest=4, even=1))
    trained = recall_when_last_asked([record], controls=False)
    twins = recall_when_last_asked([record], controls=True)
    assert trained is not None and trained.mean == 1 / 2
    assert twins is not None and twins.mean == 1 / 8


# ---- the numbers ------------------------------------------------------------------------------------------


def test_curves_hold_means_and_intervals(tmp_path: Path) -> None:
    def knows(count: int) -> Any:
        return lambda ask, random: Answer(
            not ask.twin and ask.number < count, 1.5 if ask.twin else 0.5 * count
        )

    layout = Layout(loops=2, cycles=1, facts=4, rest=4, even=1)
    runs = {
        seed: write_record(tmp_path / str(seed), knows(count), layout, seed=seed)
        for seed, count in enumerate((1, 2, 3))
    }
    text = page("x", [part([Row("naive", {"scenario": "memory_loops"}, runs, {}, "naive")])])
    drawn = embedded(text)[0]["curves"]
    arm = drawn["rows"][0]["arms"][0]
    assert [one["name"] for one in arm["series"]] == ["loop 0", "loop 1"]
    # shares 1/4, 2/4 and 3/4, losses 0.5, 1 and 1.5: means .5 and 1, t(.975, 2) = 4.303, s = .25 and .5
    assert set(arm["all"]["r"]) == {500} and set(arm["all"]["l"]) == {1000}
    assert set(arm["all"]["rh"]) == {round(4.302653 * 0.25 / 3**0.5 * 1000)} == {621}
    assert set(arm["all"]["lh"]) == {1242}
    assert set(arm["twins"]["r"]) == {0} and set(arm["twins"]["l"]) == {1500}
    assert arm["all"]["n"] == 3
    assert drawn["steps"][arm["all"]["t"]][0] == 0
    # the same facts are asked in all seeds, so a fact has an interval too
    facts = {one["name"]: one for one in arm["facts"]}
    assert set(facts["f0.0"]["r"]) == {1000} and set(facts["f0.1"]["r"]) == {667}
    assert facts["f0.1"]["of"] == "loop 0" and facts["f0.1"]["n"] == 3
    assert drawn["phases"][arm["phases"]] == [[0, 10, "loop 0"], [10, 20, "loop 1"], [20, 24, "rest"]]


def test_a_seed_whose_loss_is_nan_is_not_counted(tmp_path: Path) -> None:
    def losing(seed: int) -> Any:
        return lambda ask, random: Answer(
            seed == 0, float("nan") if seed == 3 and ask.rest_step is not None else 1.0 + seed
        )

    layout = Layout(loops=2, cycles=1, facts=2, rest=4, even=1)
    runs = {seed: write_record(tmp_path / str(seed), losing(seed), layout, seed=seed) for seed in range(4)}

    def drawn(count: int) -> tuple[list[int], dict[str, Any]]:
        rows = [Row("naive", {"scenario": "memory_loops"}, {s: runs[s] for s in range(count)}, {}, "naive")]
        curves = embedded(page("x", [part(rows)]))[0]["curves"]
        arm = curves["rows"][0]["arms"][0]["all"]
        return curves["steps"][arm["t"]], arm

    steps, four = drawn(4)
    _, three = drawn(3)
    rest = steps.index(20)  # two loops of ten steps
    assert four["n"] == 4 and four["ln"] == [4] * rest + [3] * (len(steps) - rest)
    assert four["l"][rest:] == three["l"][rest:] and four["lh"][rest:] == three["lh"][rest:]
    assert four["l"][0] == 2500 and three["l"][0] == 2000
    assert three["n"] == 3 and "ln" not in three


def test_two_seeds_have_curves_without_an_interval(tmp_path: Path) -> None:
    def losing(seed: int) -> Any:
        return lambda ask, random: Answer(
            True, float("nan") if seed == 2 and ask.rest_step is not None else 1.0 + seed
        )

    layout = Layout(loops=2, cycles=1, facts=2, rest=4, even=1)
    runs = {seed: write_record(tmp_path / str(seed), losing(seed), layout, seed=seed) for seed in range(3)}

    def drawn(count: int) -> dict[str, Any]:
        rows = [Row("naive", {"scenario": "memory_loops"}, {s: runs[s] for s in range(count)}, {}, "naive")]
        arm = embedded(page("x", [part(rows)]))[0]["curves"]["rows"][0]["arms"][0]["all"]
        return dict(arm)

    assert "rh" not in drawn(2) and "lh" not in drawn(2)
    assert drawn(3)["lh"][0] is not None and drawn(3)["lh"][-1] is None


def test_orders_that_differ_between_seeds_are_not_shown_as_one(shared: list[Row]) -> None:
    drawn = embedded(page("x", [part(shared)]))[0]["curves"]
    arms = {arm["name"]: arm for arm in drawn["rows"][0]["arms"]}
    assert [name for *_, name in drawn["phases"][arms[""]["phases"]]][:3] == ["loop 0", "loop 1", "loop 2"]
    assert [name for *_, name in drawn["phases"][arms["shuffled"]["phases"]]] == [
        "loops, each seed in its order",
        "rest",
    ]


def test_answers_say_what_was_asked_and_what_came(tmp_path: Path) -> None:
    one = row(tmp_path, "naive", 0.0, 1)
    asked = {"prompt": " Q: who? ", "answer": " Ada"}
    one = replace(one, runs={0: rewrite(one.runs[0], items=asked, said=" Bo")})
    given = embedded(page("x", [part([one])]))[0]["answers"]
    entry = given["runs"][0]["answers"][0]
    place, twin, form, prompt, answer, chance = given["questions"][entry[0]]
    assert (given["facts"][place], twin, given["texts"][form], chance) == ("f0.0", 0, "question", 0.01)
    assert (given["texts"][prompt], given["texts"][answer]) == ("Q: who?", "Ada")
    steps, right, logprob, said = given["steps"][entry[1]], entry[2], entry[3], entry[4]
    assert len(steps) == len(right) == len(logprob) == len(said)
    # nothing before the first visit, everything after it until the rest, where nothing is kept
    assert [right[steps.index(step)] for step in (0, 10, 20, 80)] == ["0", "1", "1", "0"]
    assert [logprob[steps.index(step)] for step in (0, 10)] == [-400, -50]
    assert [
        given["texts"][said[steps.index(step)]] if said[steps.index(step)] >= 0 else "" for step in (0, 10)
    ] == ["Bo…", ""]
    forms = {given["texts"][given["questions"][e[0]][2]] for e in given["runs"][0]["answers"]}
    assert "question, after text of its own loop" in forms and "verbatim" in forms


def test_choices_are_answers_too(tmp_path: Path) -> None:
    record = write_record(
        tmp_path / "r",
        lambda ask, random: Answer(False, 1.0, choice=1),
        Layout(**{**vars(SMALL), "conflict": True}),
    )
    given = embedded(
        page("x", [part([Row("naive", {"scenario": "memory_loops"}, {0: record}, {}, "naive")])])
    )[0]["answers"]
    assert {given["texts"][number] for number in given["runs"][0]["answers"][0][4]} == {"loop 1"}


def test_documents_have_losses_only(tmp_path: Path) -> None:
    layout = Layout(loops=3, cycles=2, facts=1, rest=0, documents=True)
    record = write_record(tmp_path / "r", lambda ask, random: Answer(), layout)
    text = page("x", [part([Row("naive", {"scenario": "memory_loops"}, {0: record}, {}, "naive")])])
    assert embedded(text)[0]["curves"]["documents"]
    assert ">twins<" not in text and "recall at the end" not in text


# ---- the whole page ---------------------------------------------------------------------------------------


def test_the_page_holds_what_a_reader_needs_in_this_order(shared: list[Row]) -> None:
    whole = part(shared, question="What stays?", rules={"seeds": "0-5", "least": 6})
    text = Elements(page("title", [whole])).text
    wanted = [
        "What stays?",
        "Memory of loop facts at the end of the rest (retention, higher is better)",
        "2 rows on 1 model, 12 runs with 6 seeds, 12 control runs, 80 optimizer steps each, 20 of them rest, "
        "unrelated to any fact . Guessing gives .01",
        "Better than naive: replay.",
        "Every row in words",
        "shuffled",
        "Curves over training",
        "What the model answered",
        "All measures",
        "Without a value in any row",
        "no rest <here>",
        "Where the numbers come from",
        "feedbeefcafe0123",
        "2026-03-01",
        "cpu, x86_64, Linux, 2 cores",
        "abcdef0123456789 with uncommitted changes",
        "torch 2.99.1",
        "none found: no control was trained",
        "Rules of this board",
        "lam=0.5, rates=[1, 2]",
        "adam lr=0.001",
        recipe_id(info(seed=3)["recipe"]),
        "Do it again",
        "seqmem bench --scenario memory_loops",
    ]
    at = 0
    for words in wanted:
        assert words in text[at:], words
        at += text[at:].index(words)


def test_several_parts_have_a_contents_list(shared: list[Row]) -> None:
    elements = Elements(page("both", [part(shared, name="one"), part(shared, name="two")]))
    links = [tag["href"] for name, tag in elements.tags if name == "a"]
    assert {"#part-0", "#part-1"} <= set(links)
    ids = [tag["id"] for _, tag in elements.tags if "id" in tag]
    assert len(ids) == len(set(ids)) and {"part-0", "part-1"} <= set(ids)


def test_the_same_records_give_the_same_bytes(shared: list[Row]) -> None:
    again = [
        replace(
            one,
            runs={seed: RunRecord.open(run.folder) for seed, run in reversed(one.runs.items())},
            controls={"shuffled": {s: RunRecord.open(r.folder) for s, r in one.controls["shuffled"].items()}},
        )
        for one in shared
    ]
    assert page("x", [part(shared)]) == page("x", [part(again)])


def test_names_from_outside_are_text_and_nothing_else(tmp_path: Path) -> None:
    label = f"naive {NASTY}"
    one = row(tmp_path, label, 0.5, 2, controls=True, model=NASTY)
    nasty = {"prompt": NASTY, "answer": NASTY, "fact": NASTY}
    one = replace(
        one,
        reference=label,
        runs={seed: rewrite(run, items=nasty, said=NASTY) for seed, run in one.runs.items()},
        controls={NASTY: one.controls["shuffled"]},
        failed={9: NASTY},
    )
    whole = part(
        [one], name=NASTY, reproduce=NASTY, question=NASTY, rules={NASTY: NASTY}, spec=metric(reason=NASTY)
    )
    text = page(NASTY, [whole, EmptyPart(NASTY, NASTY, NASTY)], frame(NASTY))
    elements = Elements(text)
    # the page's own two scripts and its blocks of data, and nothing that a name brought along
    scripts = [tag for name, tag in elements.tags if name == "script"]
    assert [tag.get("type") for tag in scripts].count(None) == 2
    assert not [
        name for name, _ in elements.tags if name in ("img", "iframe", "object", "link", "base", "form")
    ]
    for _, tag in elements.tags:
        assert not [name for name in tag if name.startswith("on")]
    assert "\u202e" not in text and "\u2028" not in text
    policy = next(tag["content"] for name, tag in elements.tags if tag.get("http-equiv"))
    assert policy is not None and "default-src 'none'" in policy and "unsafe-inline'; base" in policy
    assert "script-src 'sha256-" in policy and "unsafe-eval" not in policy


def test_contaminated_and_failed_runs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = row(tmp_path, "naive", 0.5, 2)
    spoilt = write_record(tmp_path / "spoilt", remembers(0.5), SMALL, seed=2, info=info())
    monkeypatch.setitem(contamination._FOUND, spoilt, "a twin was trained")
    one = replace(one, runs={**one.runs, 2: spoilt}, failed={7: "out of memory"})
    text = Elements(page("x", [part([one])])).text
    assert "naive, seed 2: a twin was trained" in text and "naive, seed 7: out of memory" in text
    assert "none found" not in text


def test_a_page_that_would_be_too_large_says_what_it_leaves_out(
    shared: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> str:
        return page("x", [part(shared), EmptyPart("later", "Not run yet.")], frame("a name"))

    whole = made()
    assert "of the first 3 of up to 6 seeds" in whole
    import importlib

    module = importlib.import_module("seqmem.reporting.page")
    limit = len(whole.encode()) - 3_000
    monkeypatch.setattr(module, "MAX_BYTES", limit)
    smaller = made()
    assert len(smaller.encode()) <= limit
    said = Elements(smaller).text
    assert "Left out of this page to keep it small:" in said and "of the first 2 of up to 6 seeds" in said


def test_rows_without_a_finished_run_are_no_fault() -> None:
    rows = [Row("naive", {"scenario": "memory_loops"}, {}, {}, "naive", failed={0: "not finished"})]
    text = Elements(page("x", [part(rows)])).text
    assert "no value (no finished run)" in text and "naive, seed 0: not finished" in text


def test_a_part_can_be_made_without_its_optional_fields(shared: list[Row]) -> None:
    table = part(shared).table
    assert "memory_loops" in page("x", [Part("memory_loops", table, shared, "seqmem bench")])


# ---- the verb ---------------------------------------------------------------------------------------------


def bench_folder(folder: Path) -> Path:
    """An output folder as a bench leaves it."""
    names: dict[str, dict[str, str]] = {}
    for label, share in (("naive", 0.2), ("replay", 1.0)):
        for seed in parse_seeds("0-1"):
            own = info(label, seed)
            name = f"memory_loops-{label}-s{seed}-{recipe_id(own['recipe'])}"
            write_record(folder / "records" / name, remembers(share), SMALL, seed=seed, info=own)
            names.setdefault(label, {})[str(seed)] = name
    rows = [
        {
            "label": label,
            "facts": {"scenario": "memory_loops", "model": "tiny", "strategy": label, "preset": "default"},
            "reference": "naive",
            "swept": {},
            "runs": runs,
            "controls": {},
        }
        for label, runs in names.items()
    ]
    board = folder / "boards" / "memory_loops-1234"
    board.mkdir(parents=True)
    described = {
        "format": 3,
        "name": "memory_loops-1234",
        "scenario": "memory_loops",
        "version": "2",
        "primary": "retention",
        "asked": {"scenario": ["memory_loops"], "strategy": ["replay"], "seeds": "0-1"},
        "rows": rows,
    }
    (board / "bench.json").write_text(json.dumps(described))
    return folder


def test_the_verb_writes_a_page_and_prints_the_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bench_folder(tmp_path / "runs")
    run(["report", str(folder), "--html"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == str(folder / "report.html")
    assert said[1].startswith("  replay: ") and "differs from naive: not known, no test" in said[1]
    text = Elements((folder / "report.html").read_text("utf-8")).text
    assert "seqmem bench --scenario memory_loops --strategy replay --seeds 0-1" in text
    assert "memory_loops, version 2" in text

    run(
        [
            "report",
            str(folder / "boards" / "memory_loops-1234"),
            "--html",
            "--output",
            str(tmp_path / "p.html"),
        ]
    )
    assert (tmp_path / "p.html").read_bytes() == (folder / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "x.html"], "give --html with it"),
        (["--html", "--output", "."], "--output . is a folder"),
        (["--html", "--output", "no/such/folder/x.html"], "cannot be written"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bench_folder(tmp_path / "runs") if "no/such" in arguments[-1] else tmp_path
    assert run(["report", str(folder), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


def test_the_page_of_published_boards_lies_outside_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = write_bench(tmp_path / "out", strategy=("naive",))
    home = tmp_path / "leaderboards"
    board, empty = home / "memory_loops-v2", home / "empty-v1"
    for folder in (board, empty):
        write_rules(folder, planned)
    submit(tmp_path / "out", board, registry())
    before = sorted(home.rglob("*"))
    # the fewer metrics, the sooner
    off = [word for name in sorted(others()) for word in ("-p", f"no:{name}")]
    monkeypatch.chdir(tmp_path)
    # a board without rows is left out of the page, and named
    assert run([*off, "report", str(home), "--html"]) == 3
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "report.html"
    assert said.err == f"seqmem: left out: {empty}: no rows yet\n"
    assert "Which of them keeps what it learned?" in (tmp_path / "report.html").read_text("utf-8")
    assert run([*off, "report", str(empty), "--html"]) == 2
    assert "no rows yet; `seqmem leaderboard submit` brings some" in capsys.readouterr().err
    # nothing but its own files comes into a board
    monkeypatch.chdir(board)
    for words in ([], ["--output", "figures/x.html"]):
        assert run([*off, "report", ".", "--html", *words]) == 2
        assert "name another place with --output" in capsys.readouterr().err
    assert sorted(home.rglob("*")) == before
