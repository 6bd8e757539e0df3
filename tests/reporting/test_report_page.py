"""The report page in a browser: sorts, hovers, keeps quiet, stays inside, prints, and opens at once.

Needs Debian's `chromium` (`apt-get install chromium`) and the `playwright` package; skips without them.
"""

from __future__ import annotations

import re
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers_records import Answer, Ask, Layout, write_record
from helpers_report import frame, info, part, remembers, rewrite, row

from seqmem.record.row import Row
from seqmem.reporting import page
from seqmem.reporting.page import charts_bundle
from seqmem.reporting.page_section import EmptyPart

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NASTY = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"

OPENED = """() => {
  const loaded = performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd;
  return Math.max(loaded, performance.getEntriesByName("first-contentful-paint")[0].startTime);
}"""
"""Milliseconds until the table was there and something had been painted."""
PATIENCE = 240_000
"""Milliseconds to wait for what must come."""
PAINTED = "performance.getEntriesByName('first-contentful-paint').length > 0"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright here; pip install playwright"
    )
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows with six seeds and their controls; one is named by an enemy, and so is what it answers."""
    folder = tmp_path_factory.mktemp("page")
    rows = [
        row(folder / name, label, share, 6, controls=True)
        for name, label, share in (("n", "naive", 0.2), ("r", "replay", 1.0), ("x", f"x {NASTY}", 0.5))
    ]
    enemy = rows[2]
    said = {"prompt": f"Q: {NASTY}", "answer": NASTY}
    rows[2] = replace(
        enemy, runs={seed: rewrite(run, items=said, said=NASTY) for seed, run in enemy.runs.items()}
    )
    path = folder / "report.html"
    path.write_text(page("A report", [part(rows)]), encoding="utf-8")
    return path


class Watched:
    """A page with everything it said and asked for."""

    def __init__(self, browser: Browser, path: Path, **context: Any) -> None:
        settings: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, **context}
        self.context = browser.new_context(**settings)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = path.as_uri()
        self.page.goto(self.address)

    def drawn(self) -> Page:
        """The page once every chart is there."""
        everything = "() => [...document.querySelectorAll('.chart')].every((c) => c.querySelector('svg'))"
        self.page.wait_for_function(
            "() => document.querySelectorAll('.arms .chart').length > 0", timeout=PATIENCE
        )
        self.page.wait_for_function(everything, timeout=PATIENCE)
        return self.page

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert self.said == []
        assert self.asked == [self.address]


def first_cells(page: Page, column: int) -> list[str]:
    cells: Locator = page.locator(f"table.main tbody tr > :nth-child({column})")
    return cells.all_inner_texts()


def test_the_table_sorts_by_click_and_by_keyboard(browser: Browser, report: Path) -> None:
    with Watched(browser, report) as opened:
        heads = opened.page.locator("table.main thead th")
        names = heads.all_inner_texts()
        column = next(i for i, name in enumerate(names) if name.startswith("retention")) + 1
        values = first_cells(opened.page, column)
        assert values[0].startswith("1.00") and len(values) == 3
        button = heads.nth(column - 1).locator("button")
        button.click()
        assert heads.nth(column - 1).get_attribute("aria-sort") == "ascending"
        assert first_cells(opened.page, column) == values[::-1]
        button.focus()
        opened.page.keyboard.press("Enter")
        assert heads.nth(column - 1).get_attribute("aria-sort") == "descending"
        assert first_cells(opened.page, column) == values
        # words sort as words, and the reference has no p-value: it stays last in both directions
        heads.nth(1).locator("button").click()
        assert [text.split()[0] for text in first_cells(opened.page, 2)] == ["naive", "replay", "x"]
        p = next(i for i, name in enumerate(names) if name.startswith("p"))
        for _ in range(2):
            heads.nth(p).locator("button").click()
            assert first_cells(opened.page, 2)[-1].startswith("naive")
        assert opened.page.locator("th[aria-sort]").count() == 1


def test_another_measure_can_be_shown_beside(browser: Browser, report: Path) -> None:
    with Watched(browser, report) as opened:
        opened.page.select_option(".more", "retention")
        added = opened.page.locator("td.added").all_inner_texts()
        assert len(added) == 3 and added[0].startswith("1.00")
        opened.page.select_option(".more", "")
        assert opened.page.locator(".added").count() == 0


def test_a_point_shows_its_values(browser: Browser, report: Path) -> None:
    with Watched(browser, report) as opened:
        page = opened.drawn()
        page.select_option(".curves .view", "series")
        page.select_option(".curves .row", label="replay")
        page.wait_for_function(
            "() => document.querySelector('.arms .chart').textContent.includes('twins') || "
            "[...document.querySelectorAll('.arms')].some((a) => a.textContent.includes('twins'))"
        )
        opened.drawn()
        page.locator(".arms .chart").first.scroll_into_view_if_needed()
        box = page.locator(".arms .chart svg").first.bounding_box()
        assert box is not None
        shown = page.locator("#vg-tooltip-element")
        for x in range(60, int(box["width"]), 12):  # along the top, where what is remembered lies
            page.mouse.move(box["x"] + x, box["y"] + 32)
            if shown.count() and shown.is_visible():
                break
        text = shown.inner_text()
        assert (
            "loop" in text
            and "1.00" in text
            and "step" in text
            and "seeds" in text
            and "undefined" not in text
        )


def test_steps_zoom_in_and_back(browser: Browser, report: Path) -> None:
    with Watched(browser, report) as opened:
        page = opened.drawn()
        view = "document.querySelector('.arms .chart').view.view.scale('x').domain()"
        assert page.evaluate(view) == [0, 80]
        page.fill(".curves .from", "20")
        page.fill(".curves .to", "60")
        page.keyboard.press("Tab")
        opened.drawn()
        page.wait_for_function(f"() => {view}[0] === 20")
        assert page.evaluate(view) == [20, 60]
        page.locator(".arms .chart").first.scroll_into_view_if_needed()
        box = page.locator(".arms .chart svg").first.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
        page.keyboard.down("Control")
        page.mouse.wheel(0, -300)
        page.keyboard.up("Control")
        page.wait_for_function(f"() => {view}[0] > 20")
        page.click(".curves .reset")
        page.wait_for_function(f"() => {view}[0] === 0 && {view}[1] === 80")


def test_answers_follow_the_choice(browser: Browser, report: Path) -> None:
    with Watched(browser, report) as opened:
        page = opened.drawn()
        page.select_option(".answers .row", label=f"x {NASTY}")
        page.select_option(".answers .seed", "1")
        assert NASTY in page.locator(".answers .prompt").inner_text()
        lines = page.locator(".answers .times tbody tr").all_inner_texts()
        assert "before training" in lines[0] and "wrong" in lines[0] and NASTY in lines[0]
        page.select_option(".answers .probe-form", label="verbatim")
        assert len(page.locator(".answers .times tbody tr").all()) == 2
        assert page.evaluate("window.hacked") is None and page.locator("img").count() == 0


def test_every_curve_has_its_table(browser: Browser, report: Path) -> None:
    with Watched(browser, report) as opened:
        page = opened.drawn()
        page.click(".curves .values summary")
        page.wait_for_selector(".curves .values tbody tr")
        text = page.locator(".curves .values").inner_text()
        assert "as trained" in text and "shuffled" in text and "replay" in text


def test_a_loss_that_is_nan_leaves_the_other_values_in_their_lines(browser: Browser, tmp_path: Path) -> None:
    def diverges(ask: Ask, random: object) -> Answer:
        return Answer(ask.seen > 0, float("nan") if ask.loop == 0 and ask.seen == 1 else 1.0 + ask.step / 100)

    layout = Layout(loops=2, cycles=2, facts=1, rest=4, even=1)
    run = write_record(tmp_path / "r", diverges, layout, info=info())
    path = tmp_path / "page.html"
    rows = [Row("naive", {"scenario": "memory_loops"}, {0: run}, {}, "naive")]
    path.write_text(page("NaN", [part(rows)]), encoding="utf-8")
    with Watched(browser, path) as opened:
        drawn = opened.drawn()
        drawn.select_option(".curves .view", "series")
        opened.drawn()
        drawn.click(".curves .values summary")
        drawn.wait_for_selector(".curves .values tbody tr")
        lines = [line.split("\t") for line in drawn.locator(".curves .values tbody tr").all_inner_texts()]
    losses = {(curve, int(step)): loss for _, curve, step, _, _, loss, _ in lines}
    assert {curve for curve, _ in losses} == {"loop 0", "loop 1", "never-trained twins"}
    for (curve, step), loss in losses.items():
        if curve != "never-trained twins":
            lost = curve == "loop 0" and 10 <= step < 30  # until its second visit ends
            assert loss == ("–" if lost else f"{1 + step / 100:.2f}, one seed"), (curve, step)
    assert "–" in losses.values()


def test_a_value_of_fewer_seeds_says_so(browser: Browser, tmp_path: Path) -> None:
    runs = {
        seed: write_record(
            tmp_path / str(seed),
            lambda ask, random, bad=bad: Answer(False, float("nan") if bad and ask.rest_step else 1.0),
            Layout(loops=2, cycles=1, facts=1, rest=4, even=1),
            seed=seed,
            info=info(seed=seed),
        )
        for seed, bad in enumerate((False, False, True))
    }
    path = tmp_path / "page.html"
    rows = [Row("naive", {"scenario": "memory_loops"}, runs, {}, "naive")]
    path.write_text(page("NaN", [part(rows)]), encoding="utf-8")
    with Watched(browser, path) as opened:
        drawn = opened.drawn()
        drawn.click(".curves .values summary")
        drawn.wait_for_selector(".curves .values tbody tr")
        lines = [line.split("\t") for line in drawn.locator(".curves .values tbody tr").all_inner_texts()]
    seeds = {int(step): count for _, _, step, _, _, _, count in lines}
    assert seeds[0] == "3" and seeds[24] == "3, loss 2"


def test_names_of_an_enemy_do_nothing(browser: Browser, report: Path) -> None:
    with Watched(browser, report) as opened:
        page = opened.drawn()
        for view in ("series", "facts"):
            page.select_option(".curves .view", view)
            page.select_option(".curves .row", label=f"x {NASTY}")
            opened.drawn()
        assert page.evaluate("window.hacked") is None
        assert page.locator("img, iframe, body script:not([type]):not(:is(script))").count() == 0
        assert page.locator("script:not([type])").count() == 2


def test_the_page_of_a_suite_draws_its_size_trend(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page("A suite", [EmptyPart("later", "Not run yet.")], frame(NASTY)), encoding="utf-8")
    with Watched(browser, path) as opened:
        drawn = opened.drawn()
        assert drawn.locator("#sizes .chart svg path[aria-label]").count() == 2
        assert "100k" in (drawn.locator("#sizes .chart svg").text_content() or "")
        assert drawn.evaluate("window.hacked") is None and drawn.locator("img").count() == 0


def test_nothing_could_be_loaded_or_run(browser: Browser, report: Path) -> None:
    opened = Watched(browser, report)
    refused = opened.page.evaluate(
        """async () => {
          const events = [];
          document.addEventListener("securitypolicyviolation", (e) => events.push(e.effectiveDirective));
          await new Promise((done) => setTimeout(done, 10));  // out of reach of the driver's own permission
          try { eval("1") } catch { events.push("eval"); }
          const script = document.createElement("script"); script.textContent = "window.hacked = 1";
          document.body.append(script);
          await fetch("https://example.org/").catch(() => events.push("fetch"));
          await new Promise((done) => setTimeout(done, 100));
          return [events.includes("eval"), events.includes("fetch"), window.hacked === undefined];
        }"""
    )
    opened.context.close()
    assert refused == [True, True, True]


def test_dark_mode_and_print_change_the_colours(browser: Browser, report: Path) -> None:
    colours = """() => [
      getComputedStyle(document.body).backgroundColor,
      getComputedStyle(document.querySelector('.arms .chart svg path[stroke^="var"]')).stroke,
      getComputedStyle(document.querySelector('.arms .chart svg text')).fill]"""
    with Watched(browser, report, color_scheme="light") as opened:
        light = opened.drawn().evaluate(colours)
        opened.page.emulate_media(color_scheme="dark")
        dark = opened.page.evaluate(colours)
        opened.page.emulate_media(color_scheme="dark", media="print")
        printed = opened.page.evaluate(colours)
    assert all(a != b for a, b in zip(light, dark, strict=True)), (light, dark)
    assert printed == light and light[0] == "rgb(255, 255, 255)"


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast of two ``#rrggbb`` colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_curves_stand_out(browser: Browser, report: Path, scheme: str) -> None:
    words = ("ink", "soft", "link", "good", "bad")
    lines = (*(f"c{number}" for number in range(8)), "twins")
    with Watched(browser, report, color_scheme=scheme) as opened:
        found = opened.page.evaluate(
            """(names) => {
              const style = getComputedStyle(document.documentElement);
              const value = (name) => style.getPropertyValue("--" + name).trim();
              const hex = (c) => c.length === 4 ? "#" + [...c.slice(1)].map((d) => d + d).join("") : c;
              return Object.fromEntries(names.map((name) => [name, hex(value(name))]));
            }""",
            ["paper", "card", "goodbg", "badbg", *words, *lines],
        )
    for name in words:
        assert contrast(found[name], found["paper"]) >= 4.5, name
    assert contrast(found["soft"], found["card"]) >= 4.5
    assert contrast(found["good"], found["goodbg"]) >= 4.5 and contrast(found["bad"], found["badbg"]) >= 4.5
    for name in lines:
        assert contrast(found[name], found["paper"]) >= 3, name


def test_a_phone_scrolls_only_downwards(browser: Browser, report: Path) -> None:
    with Watched(browser, report, viewport={"width": 375, "height": 800}, has_touch=True) as opened:
        page = opened.drawn()
        assert page.evaluate("document.documentElement.scrollWidth") == 375
        for view in ("series", "facts"):
            page.select_option(".curves .view", view)
            opened.drawn()
            assert page.evaluate("document.documentElement.scrollWidth") == 375


def test_no_column_is_cut_off_in_print(browser: Browser, tmp_path: Path) -> None:
    """Sixteen rows are sixteen columns of the table of all measures; a landscape A4 page is 273 mm wide inside."""
    labels = ["naive", *(f"strategy_number_{i}" for i in range(15))]
    rows = [row(tmp_path / label, label, 0.5, 2) for label in labels]
    path = tmp_path / "page.html"
    path.write_text(page("wide", [part(rows)]), encoding="utf-8")
    with Watched(browser, path, viewport={"width": 1032, "height": 700}) as opened:
        opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        opened.page.emulate_media(media="print")
        wide = opened.page.evaluate(
            "[...document.querySelectorAll('.measures')].map(table => [table.scrollWidth, innerWidth])"
        )
        assert wide and all(table <= window for table, window in wide), wide


def test_last_bits_that_differ_between_machines_are_not_on_the_page(tmp_path: Path) -> None:
    rows = [
        row(tmp_path / label, label, strength, 3) for label, strength in (("naive", 0.4), ("replay", 0.7))
    ]
    values = re.findall(r'data-value="(-?[0-9.e-]+)"', page("values", [part(rows)]))
    assert any(len(value) > 8 for value in values)
    assert all(float(value) == float(f"{float(value):.10g}") for value in values)


def test_it_prints_on_several_pages_with_charts_and_all_sections(browser: Browser, report: Path) -> None:
    with Watched(browser, report) as opened:
        page = opened.drawn()
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert page.locator("details:not(.values):not([open])").count() == 0
        assert (
            page.locator(".arms .chart svg").first.is_visible()
            and page.locator("table.measures").is_visible()
        )
        assert not page.locator(".tools").first.is_visible() and not page.locator(".copy").is_visible()
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        printed = page.pdf(format="A4")
    assert (
        printed.startswith(b"%PDF") and printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") > 1
    )


def test_it_can_be_used_without_a_mouse(browser: Browser, report: Path) -> None:
    with Watched(browser, report) as opened:
        page = opened.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("select, input, button, [role=region]")].filter((e) =>
              !(e.labels && e.labels.length) && !e.textContent.trim() && !e.getAttribute("aria-label")).length"""
        )
        assert unnamed == 0
        assert page.get_attribute("html", "lang") == "en" and page.title() == "A report"
        opened.drawn()
        charts = page.locator(".chart").count()
        described = page.locator(
            ".chart [role=graphics-document][aria-label], .chart[role=graphics-document][aria-label]"
        )
        assert described.count() == charts > 0
        labels = [chart.get_attribute("aria-label") or "" for chart in described.all()]
        assert any("recall over optimizer steps, as trained: replay" in label for label in labels), labels


@pytest.fixture(scope="module")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of ten rows with five seeds each."""
    tmp_path = tmp_path_factory.mktemp("fifty")
    layout = Layout(loops=4, cycles=3, facts=8, rest=60, even=20)
    pairs = [
        {
            seed: write_record(
                tmp_path / name / str(seed), remembers(share), layout, seed=seed, info=info(name, seed)
            )
            for seed in range(5)
        }
        for name, share in (("even", 0.2), ("odd", 0.7))
    ]
    # two rows' records serve all ten rows
    labels = ["naive", *(f"strategy {number}" for number in range(1, 10))]
    facts = {"scenario": "memory_loops", "model": "tiny"}
    rows = [Row(label, facts, pairs[number % 2], {}, "naive") for number, label in enumerate(labels)]
    path = tmp_path / "report.html"
    path.write_text(page("Fifty runs", [part(rows)]), encoding="utf-8")
    return path


def test_fifty_runs_are_a_page_of_three_megabytes(browser: Browser, fifty: Path) -> None:
    assert fifty.stat().st_size <= 3_000_000
    with Watched(browser, fifty) as opened:
        assert opened.page.locator("table.main tbody tr").count() == 10


def milliseconds(browser: Browser, path: Path) -> float:
    with Watched(browser, path) as opened:
        opened.page.wait_for_function(PAINTED, timeout=PATIENCE)
        return float(opened.page.evaluate(OPENED))


@pytest.mark.slow
def test_fifty_runs_open_in_a_few_times_what_their_scripts_take(
    browser: Browser, fifty: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.html"
    bare.write_text(f"<!doctype html><p>Text</p><script>{charts_bundle()}</script>", encoding="utf-8")
    ratios = [milliseconds(browser, fifty) / milliseconds(browser, bare) for _ in range(5)]
    print(f"\nopens in {statistics.median(ratios):.1f} times a bare page with the same scripts")
    assert statistics.median(ratios) < 5
