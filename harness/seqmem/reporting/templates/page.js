"use strict";
// The tables are in the page already; this sorts them, draws the charts and answers choices. No framework:
// one function per section of a part, each reading the JSON that the page carries.
(() => {
  const parse = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = parse("specs");
  const data = parse("data");
  const look = specs.look;

  // ---- small helpers -------------------------------------------------------------------------------------
  function element(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }
  function fill(select, labels, values) {
    const before = select.value;
    select.replaceChildren(...labels.map((label, i) => element("option", label, { value: values ? values[i] : i })));
    if ([...select.options].some((option) => option.value === before)) select.value = before;
  }
  function table(head, rows) {
    const made = element("table");
    const top = made.createTHead().insertRow();
    for (const text of head) top.append(element("th", text, { scope: "col" }));
    const body = made.createTBody();
    for (const cells of rows) {
      const line = body.insertRow();
      for (const cell of cells) line.append(cell instanceof Node ? cell : element("td", cell));
    }
    return made;
  }
  const fraction = (value) => value.toFixed(2).replace(/^(-?)0\./, "$1.");
  const nats = (value) => value.toFixed(2);
  const phaseAt = (phases, step) => {
    // an answer at a boundary was given after the phase that ends there
    const found = phases.find(([from, to]) => step > from && step <= to);
    return found ? `${found[2]}, step ${step - found[0]} of ${found[1] - found[0]}` : "before training";
  };

  // ---- charts --------------------------------------------------------------------------------------------
  const RANGES = { stroke: "colour", fill: "colour", strokeDash: "dash", shape: "shape" };
  const touch = window.matchMedia("(pointer: coarse)").matches;
  // A copy of a specification with the series at hand, each with its colour, dash and marker.
  function prepare(name, series, domain, legend) {
    const spec = structuredClone(specs[name]);
    for (const layer of spec.layer) {
      for (const [channel, encoding] of Object.entries(layer.encoding)) {
        if (encoding.field === "series" && RANGES[channel]) {
          encoding.scale = { domain: series.map((s) => s.name), range: series.map((s) => s[RANGES[channel]]) };
          encoding.legend = legend;
        }
        if (channel === "x" && domain && encoding.scale) encoding.scale.domain = domain;
      }
      // on a touch screen a drag scrolls the page; steps can be typed
      if (touch && layer.params) layer.params = layer.params.filter((param) => param.name !== "zoom");
    }
    return spec;
  }
  async function draw(place, spec, datasets, description) {
    spec.description = description;
    spec.datasets = datasets;
    try {
      const old = place.view;
      const made = await window.vegaEmbed(place, spec, {
        renderer: "svg", actions: false, ast: true, tooltip: { disableDefaultStyle: true },
      });
      if (old) old.finalize();
      place.view = made;
    } catch (error) {
      place.textContent = "This chart could not be drawn; its values are in the tables.";
      console.error(error);
    }
  }
  function style(names) {
    return names.map((name, i) => name.twins
      ? { name: name.name, ...look.twins }
      : { name: name.name, colour: look.colours[i % 8], dash: look.dashes[(i + Math.floor(i / 8)) % 8], shape: look.shapes[i % 8] });
  }
  // From the lowest value to the highest, with room above for the phases' names.
  function padded(values) {
    const low = values.reduce((a, b) => Math.min(a, b), Infinity);
    const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    const room = high - low || 1;
    return Number.isFinite(low) ? [low - 0.03 * room, high + 0.12 * room] : [0, 1];
  }
  // Phases as shaded stretches; a name is written where it has room, else its number, else nothing.
  function shades(phases, domain, width) {
    const [low, high] = domain;
    return phases.filter(([from, to]) => to > low && from < high).map(([from, to, name], i) => {
      const room = (width * (Math.min(to, high) - Math.max(from, low))) / (high - low);
      const number = (name.match(/\d+$/) || [""])[0];
      const label = room > name.length * 6.2 ? name : room > number.length * 7 + 4 ? number : "";
      const fill = name.startsWith("rest") ? "var(--rest)" : i % 2 ? "transparent" : "var(--shade)";
      return { from, to, fill, label, middle: (Math.max(from, low) + Math.min(to, high)) / 2 };
    });
  }
  // Charts are drawn when they come near the screen, and the rest when the browser has nothing else to do.
  const waiting = new Map();
  function later(place, work) {
    waiting.set(place, work);
    watcher.observe(place);
  }
  function now(place) {
    const work = waiting.get(place);
    if (!work) return null;
    waiting.delete(place);
    watcher.unobserve(place);
    return work();
  }
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) now(entry.target);
  }, { rootMargin: "300px" });
  async function drawWaiting() {
    const next = waiting.keys().next();
    if (next.done) return;
    await now(next.value);
    idle(drawWaiting);
  }
  const idle = (work) => (window.requestIdleCallback ? window.requestIdleCallback(work, { timeout: 4000 }) : setTimeout(work, 200));

  // ---- the results ---------------------------------------------------------------------------------------
  function results(place) {
    const found = JSON.parse(place.querySelector("script").textContent);
    const spec = structuredClone(specs.results);
    spec.layer[1].encoding.x.title = found.title;
    spec.height = 26 * found.rows.length;
    const narrow = place.clientWidth < 500;
    for (const layer of spec.layer) {
      const y = layer.encoding.y;
      if (y && y.axis) y.axis.labelLimit = narrow ? 110 : 320;
      const legend = { columns: narrow ? 2 : 4, values: [...new Set(found.rows.map((row) => row.finding))] };
      for (const channel of ["stroke", "fill", "shape"]) {
        if (layer.encoding[channel] && layer.encoding[channel].field) layer.encoding[channel].legend = legend;
      }
    }
    return draw(place, spec, { rows: found.rows, reference: found.reference }, found.description);
  }

  // ---- what is kept over what a row must go on learning ---------------------------------------------------
  function trade(place) {
    const found = JSON.parse(place.querySelector("script").textContent);
    const longest = Math.min(260, 6.5 * Math.max(...found.series.map((name) => name.length)));
    const columns = Math.max(1, Math.floor(place.clientWidth / (longest + 50)));
    const spec = prepare("trade", style(found.series.map((name) => ({ name }))), null, { columns, symbolSize: 110 });
    for (const layer of spec.layer) Object.assign(layer.encoding.x, { title: found.x }) && Object.assign(layer.encoding.y, { title: found.y });
    for (const channel of found.turned) for (const layer of spec.layer) layer.encoding[channel].sort = "descending";
    return draw(place, spec, { points: found.points, front: found.front }, found.description);
  }

  // ---- measures over model size --------------------------------------------------------------------------
  function sizes(place) {
    const found = JSON.parse(place.querySelector("script").textContent);
    const longest = Math.min(260, 6.5 * Math.max(...found.series.map((name) => name.length)));
    const columns = Math.max(1, Math.floor(place.clientWidth / (longest + 50)));
    const spec = prepare("sizes", style(found.series.map((name) => ({ name }))), null, { columns, symbolSize: 110 });
    const values = [...new Set(found.points.map((point) => point.size))];
    for (const layer of spec.layer) layer.encoding.x.axis.values = values;
    return draw(place, spec, { points: found.points, lines: found.lines }, found.description);
  }

  // ---- the sortable table --------------------------------------------------------------------------------
  function sortable(part) {
    const main = part.querySelector("table.main");
    const more = part.querySelector(".more");
    function sort(head) {
      const column = head.cellIndex;
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of main.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...main.tBodies[0].rows].map((row, i) => [row, row.cells[column].dataset.value, i]);
      const numbers = rows.every(([, value]) => value === undefined || (value !== "" && !Number.isNaN(Number(value))));
      rows.sort(([, a, i], [, b, j]) => {
        if (a === undefined || b === undefined) return (a === undefined) - (b === undefined) || i - j;
        const order = numbers ? a - b : a < b ? -1 : a > b ? 1 : 0;
        return (down ? -order : order) || i - j;
      });
      main.tBodies[0].append(...rows.map(([row]) => row));
    }
    main.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) sort(button.closest("th"));
    });
    more.addEventListener("change", () => {
      for (const old of main.querySelectorAll(".added")) old.remove();
      if (!more.value) return;
      const cells = new Map();
      let unit = "";
      for (const listed of part.querySelectorAll("table.measures")) {
        const labels = [...listed.tHead.rows[0].cells].map((cell) => cell.textContent);
        const line = [...listed.tBodies[0].rows].find((row) => row.dataset.measure === more.value);
        if (!line) continue;
        unit = line.cells[0].querySelector("small").textContent;
        [...line.cells].forEach((cell, i) => cells.set(labels[i], cell));
      }
      const head = element("th", null, { scope: "col", class: "n added" });
      head.append(element("button", more.value, { type: "button" }), element("small", unit));
      main.tHead.rows[0].append(head);
      for (const row of main.tBodies[0].rows) {
        const cell = cells.get(row.querySelector("th").dataset.value);
        const copy = cell ? cell.cloneNode(true) : element("td", "–", { class: "n" });
        copy.classList.add("added");
        row.append(copy);
      }
    });
  }

  // ---- curves --------------------------------------------------------------------------------------------
  function points(curve, style, key, given, phases) {
    const steps = given.steps[curve.t];
    const share = key === "r";
    return steps.map((step, i) => {
      const mean = curve[key][i];
      if (mean === null) return null;
      const half = curve[key + "h"] ? curve[key + "h"][i] || 0 : 0;
      const clip = (value) => Math.max(0, share ? Math.min(1, value) : value);
      const low = clip((mean - half) / 1000);
      const high = clip((mean + half) / 1000);
      const write = share ? fraction : nats;
      const counts = share || curve.ln === undefined ? curve.n : curve.ln;
      const n = Array.isArray(counts) ? counts[i] : counts;
      const shown = n > 1 ? `${write(mean / 1000)} [${write(low)}, ${write(high)}]` : `${write(mean / 1000)}, one seed`;
      return { series: style.name, step, mean: mean / 1000, low, high, n, shown, phase: phaseAt(phases, step) };
    }).filter(Boolean);
  }
  function curves(section, given) {
    if (!given) { section.hidden = true; return; }
    const at = (name) => section.querySelector(name);
    const [view, row, of, from, to] = [".view", ".row", ".of", ".from", ".to"].map(at);
    const place = at(".arms");
    const labels = given.rows.map((one) => one.label);
    fill(row, labels);
    const boxes = labels.map((label, i) => {
      const wrap = element("label");
      const box = element("input", null, { type: "checkbox", value: i });
      box.checked = labels.length <= 8 || i < 5 || given.rows[i].reference;
      wrap.append(box, label);
      at("fieldset").append(wrap);
      return box;
    });
    if (!given.rows.some((one) => one.arms.some((arm) => arm.series))) {
      view.querySelector("[value=series]").textContent = "one row, its facts and twins";
    }
    if (labels.length < 2) { view.querySelector("[value=all]").remove(); }
    const last = Math.max(...given.steps.map((steps) => steps[steps.length - 1]), 1);

    // What is to be drawn of an arm: [curve, name, twins?].
    function wanted(name) {
      const arm = (one) => one.arms.find((a) => a.name === name);
      if (view.value === "all") {
        return boxes.filter((box) => box.checked).map((box) => given.rows[box.value])
          .filter((one) => arm(one)).map((one) => ({ name: one.label, curve: arm(one).all, phases: arm(one).phases }));
      }
      const found = arm(given.rows[row.value]);
      if (!found) return [];
      const one = (curve, twins) => ({ name: curve.name, curve, twins, phases: found.phases });
      const twins = found.twins ? [one(found.twins, true)] : [];
      if (view.value === "series") return [...(found.series || [found.all]).map((c) => one(c)), ...twins];
      const facts = found.facts.filter((fact) => !of.value || fact.of === of.value).slice(0, 8);
      return facts.length ? [...facts.map((c) => one(c)), ...twins] : [];
    }
    async function show() {
      at(".pick").hidden = view.value === "all";
      at("fieldset").hidden = view.value !== "all";
      at(".only").hidden = view.value !== "facts";
      if (view.value === "facts") {
        const groups = [...new Set(given.rows[row.value].arms[0].facts.map((fact) => fact.of))];
        fill(of, groups, groups);
      }
      const low = from.value === "" ? 0 : Number(from.value);
      const high = to.value === "" ? last : Number(to.value);
      const domain = high > low ? [low, high] : [0, last];
      const names = [...new Set(given.rows.flatMap((one) => one.arms.map((arm) => arm.name)))];
      const arms = names.map((name) => ({ name, lines: wanted(name) })).filter((arm) => arm.lines.length);
      const keys = given.documents ? [["l", "loss"]] : [["r", "recall"], ["l", "loss"]];
      const extent = {};
      for (const arm of arms) {
        arm.styles = style(arm.lines);
        for (const [key] of keys) {
          arm[key] = arm.lines.flatMap((line, i) => points(line.curve, arm.styles[i], key, given, given.phases[line.phases]));
          extent[key] = [...(extent[key] || []), ...arm[key].flatMap((p) => [p.low, p.high])];
        }
      }
      const shown = arms.filter((arm) => keys.every(([key]) => arm[key].length)); // a NaN draws nothing
      const panels = shown.map((arm) => {
        const panel = element("div", null, { class: "arm" });
        const title = arm.name ? `Control: ${arm.name}` : "As trained";
        panel.append(element("h4", title), ...keys.map(() => element("div", null, { class: "chart" })));
        return panel;
      });
      for (const old of place.querySelectorAll(".chart")) if (old.view) old.view.finalize();
      place.replaceChildren(...panels);
      const work = [];
      shown.forEach((arm, i) => keys.forEach(([key, name], j) => {
        const target = panels[i].querySelectorAll(".chart")[j];
        const longest = Math.min(260, 6.5 * Math.max(...arm.lines.map((line) => line.name.length)));
        const columns = Math.max(1, Math.floor(target.clientWidth / (longest + 50)));
        const spec = prepare(name, arm.styles, domain, j === keys.length - 1 ? { columns, symbolSize: 110 } : null);
        for (const layer of spec.layer) {
          const y = layer.encoding.y;
          if (y && y.scale && key === "l") y.scale = { domain: padded(extent[key]), zero: false };
          if (y && y.title && given.documents) y.title = "document loss (nats per token)";
        }
        const stretch = shades(given.phases[arm.lines[0].phases], domain, target.clientWidth - 60);
        const chance = key === "r" && given.chance ? [{ level: given.chance, label: `guessing, ${given.chance.toPrecision(2)}` }] : [];
        const what = `${name} over optimizer steps, ${arm.name ? `control ${arm.name}` : "as trained"}: ${arm.lines.map((l) => l.name).join(", ")}. Values in the table below.`;
        work.push(draw(target, spec, { points: arm[key], phases: stretch, levels: chance }, what));
      }));
      await Promise.all(work);
      section.shown = { arms: shown, keys };
      if (at(".values").open) list();
    }
    function list() {
      if (!section.shown) return;
      const { arms, keys } = section.shown;
      const rows = arms.flatMap((arm) => {
        const first = arm[keys[0][0]];
        if (!keys[1]) return first.map((p) => [arm.name || "as trained", p.series, p.step, p.phase, p.shown, p.n]);
        const at = (p) => JSON.stringify([p.series, p.step]);
        const second = new Map(arm[keys[1][0]].map((p) => [at(p), p])); // a loss that is NaN is in no list
        return first.map((p) => {
          const q = second.get(at(p));
          const n = q && q.n !== p.n ? `${p.n}, ${keys[1][1]} ${q.n}` : p.n;
          return [arm.name || "as trained", p.series, p.step, p.phase, p.shown, q ? q.shown : "–", n];
        });
      });
      const head = ["run", "curve", "step", "during", ...keys.map(([, name]) => name), "seeds"];
      at(".values .box").replaceChildren(table(head, rows));
    }
    const redraw = () => { waiting.delete(place); show(); };
    for (const one of [view, row, of, from, to, at("fieldset")]) one.addEventListener("change", redraw);
    at(".reset").addEventListener("click", () => { from.value = ""; to.value = ""; redraw(); });
    at(".values").addEventListener("toggle", () => { if (at(".values").open) list(); });
    from.placeholder = "0";
    to.placeholder = last;
    at(".pick").hidden = view.value === "all";
    at(".only").hidden = true;
    later(place, show);
  }

  // ---- answers -------------------------------------------------------------------------------------------
  function answers(section, given, drawn) {
    if (!given) { section.hidden = true; return; }
    const at = (name) => section.querySelector(name);
    const [row, seed, fact, form] = [".row", ".seed", ".fact", ".probe-form"].map(at);
    const text = (number) => given.texts[number];
    const rows = [...new Set(given.runs.map((run) => run.row))];
    const asked = (entry) => {
      const [place, twin, kind, prompt, answer, chance] = given.questions[entry[0]];
      return { place, twin, kind: text(kind), prompt: text(prompt), answer: text(answer), chance };
    };
    const times = (entry, name, phases) => given.steps[entry[1]].map((step, i) => {
      const right = drawn.documents || entry[2][i] === "1"; // nobody is asked to say a document
      const said = entry[4] && entry[4][i] >= 0 ? text(entry[4][i]) : "";
      const value = entry[3][i] === null ? null : entry[3][i] / 100;
      return { series: name, step, value, right: right ? "right" : "wrong", said: right ? asked(entry).answer : said || "not kept", phase: phaseAt(phases, step) };
    });
    fill(row, rows.map((i) => drawn.rows[i].label), rows);

    function options() {
      const runs = given.runs.filter((run) => run.row === Number(row.value));
      fill(seed, runs.map((run) => run.seed), runs.map((run) => run.seed));
      const run = runs.find((one) => one.seed === Number(seed.value));
      const own = run.answers.map((entry) => [entry, asked(entry)]);
      const first = new Map();
      for (const [, q] of own) if (!q.twin && !first.has(q.place)) first.set(q.place, q);
      fill(fact, [...first].map(([place, q]) => `${given.facts[place]}: ${q.prompt || q.answer}`.slice(0, 80)), [...first.keys()]);
      const listed = own.filter(([, q]) => q.place === Number(fact.value));
      const kinds = [...new Set(listed.filter(([, q]) => !q.twin).map(([, q]) => q.kind))];
      fill(form, kinds, kinds);
      return { run, listed };
    }
    function show() {
      const { run, listed } = options();
      const phases = given.phases[run.phases];
      const find = (twin) => listed.find(([, q]) => q.twin === twin && q.kind === form.value);
      const [own, twin] = [find(0), find(1)];
      if (!own) return null;
      const made = element("dl");
      const said = (name, value, kind) => made.append(element("dt", name), element("dd", value, kind ? { class: kind } : {}));
      if (own[1].prompt) said("Asked", own[1].prompt, "prompt");
      said(own[1].prompt ? "Right answer" : "Document", own[1].answer);
      if (own[1].chance) said("Guessing gives", String(own[1].chance).replace(/^0\./, "."));
      if (twin) said("Its twin, never trained", `${twin[1].prompt} ${twin[1].answer}`.trim());
      at(".asked").replaceChildren(made);
      const noun = drawn.documents ? "this document" : "this fact";
      const lines = times(own[0], noun, phases);
      const twins = twin ? times(twin[0], "its twin, never trained", phases) : [];
      const all = [...lines, ...twins].filter((one) => one.value !== null);
      const rows = lines.map((one) => [
        one.step, one.phase,
        ...(drawn.documents ? [] : [element("td", one.right === "right" ? "✓ right" : "✗ wrong", { class: one.right }), one.said]),
        one.value === null ? "–" : nats(one.value),
      ]);
      const head = ["step", "during", ...(drawn.documents ? [] : ["", "what it answered"]), "log-probability (nats)"];
      at(".times").replaceChildren(table(head, rows));
      const series = style([{ name: noun }, ...(twin ? [{ name: "its twin, never trained", twins: true }] : [])]);
      if (!all.length) return at(".chart").replaceChildren();
      const steps = all.map((one) => one.step);
      const domain = [Math.min(0, ...steps), Math.max(1, ...steps)];
      const place = at(".chart");
      const spec = prepare("answer", series, domain, { columns: place.clientWidth < 500 ? 1 : 2, symbolType: "stroke", symbolSize: 300 });
      for (const layer of spec.layer) {
        const y = layer.encoding.y;
        if (drawn.documents && layer.encoding.shape) layer.encoding.shape.legend = null;
        if (y && y.scale) y.scale = { domain: padded(all.map((one) => one.value)), zero: false };
      }
      const stretch = shades(phases, domain, place.clientWidth - 60);
      return draw(place, spec, { points: all, phases: stretch }, `Log-probability of the right answer over optimizer steps; the same values as in the table below.`);
    }
    for (const one of [row, seed, fact, form]) one.addEventListener("change", () => { waiting.delete(at(".chart")); show(); });
    later(at(".chart"), show);
  }

  // ---- copy, print ---------------------------------------------------------------------------------------
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      window.getSelection().selectAllChildren(code);
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch { // the text is selected, the reader can copy it
        button.textContent = "Selected";
      }
    });
  }
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open]):not(.values)")];
    for (const one of closed) one.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });

  // ---- begin ---------------------------------------------------------------------------------------------
  for (const part of document.querySelectorAll(".part")) {
    const own = data[Number(part.dataset.part)];
    sortable(part);
    for (const place of part.querySelectorAll(".chart.results")) later(place, () => results(place));
    for (const place of part.querySelectorAll(".chart.trade")) later(place, () => trade(place));
    curves(part.querySelector(".curves"), own.curves);
    answers(part.querySelector(".answers"), own.answers, own.curves);
  }
  for (const place of document.querySelectorAll(".chart.sizes")) later(place, () => sizes(place));
  idle(drawWaiting);
})();
