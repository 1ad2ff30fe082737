"use strict";
// The page of a contact sheet. It runs from a disk, so its data come as scripts that call
// `sheetHead`, `sheetPage` and `sheetMesh`. Texts of people are only ever put in as text.
(() => {
  const FOLDER = "sheet/";
  const MOST_ROWS = 40;
  const pages = new Map();
  const waiting = new Map();
  const meshes = new Map();
  let head = null;
  let state = { view: "list", page: 0, onlyFailures: false, rows: 0, columns: 0, fixed: [], firstRow: 0 };

  window.sheetHead = (data) => { head = data; start(); };
  window.sheetPage = (number, entries) => pages.set(number - 1, entries);
  window.sheetMesh = (job, base64) => meshes.set(job, base64);

  // --- small helpers ---

  const $ = (id) => document.getElementById(id);

  function make(tag, properties, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in node && name !== "list") node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return node;
  }

  const button = (text, action, more) => make("button", { type: "button", onclick: action, ...more }, text);
  const link = (text, href) => make("a", { href, target: "_blank", rel: "noopener" }, text);

  function shown(value) {
    if (value === null || value === undefined) return "–";
    return typeof value === "string" ? value || "“”" : JSON.stringify(value);
  }

  let saidTimer = 0;
  function say(text) {
    $("said").textContent = text;
    clearTimeout(saidTimer);
    saidTimer = setTimeout(() => { $("said").textContent = ""; }, 4000);
  }

  function loadScript(name) {
    if (!waiting.has(name)) {
      waiting.set(name, new Promise((resolve, reject) => {
        const script = make("script", { src: FOLDER + name });
        script.onload = resolve;
        script.onerror = () => { waiting.delete(name); reject(new Error(`${FOLDER}${name} is not there any more`)); };
        document.head.append(script);
      }));
    }
    return waiting.get(name);
  }

  async function entryAt(index) {
    const page = Math.floor(index / head.pageSize);
    if (!pages.has(page)) await loadScript(`page-${page + 1}.js`);
    return pages.get(page)[index % head.pageSize];
  }

  const entriesAt = (indexes) => Promise.all(indexes.map(entryAt));

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", { value: text });
      ($("large").open ? $("large") : document.body).append(area);
      area.select();
      const isCopied = document.execCommand("copy");
      area.remove();
      if (!isCopied) { say("The browser does not allow it; the sidecar stands under “All about it”."); return; }
    }
    say("Copied. Save it as a .yaml with the image's name, beside the image.");
  }

  // --- pieces of an entry ---

  const isFailure = (entry) => Boolean(entry.failure);
  const films = (entry) => (entry.files || []).filter((file) => file[2] === "film");
  const pictures = (entry) => (entry.files || []).filter((file) => file[2] === "picture");
  const label = (entry) => `${entry.name}, number ${entry.n}`;

  function picture(entry, index, indexes) {
    if (!entry.thumbnail) {
      const text = entry.gone ? "no longer in the outbox" : isFailure(entry) ? entry.failure.code : entry.status;
      return make("button", { className: isFailure(entry) ? "picture empty alarm" : "picture empty", type: "button", onclick: () => open(index, indexes), "aria-label": `Show ${label(entry)}` }, text);
    }
    const img = make("img", { loading: "lazy", decoding: "async", alt: "", src: `${FOLDER}thumbnails/${entry.thumbnail}` });
    return make("button", { className: "picture", type: "button", onclick: () => open(index, indexes), "aria-label": `Enlarge ${label(entry)}` }, img);
  }

  function list(pairs) {
    const node = make("dl");
    for (const [key, value] of pairs) node.append(make("dt", {}, key), make("dd", { title: shown(value) }, shown(value)));
    return node;
  }

  function failure(entry) {
    const { code, message, detail, hint } = entry.failure;
    return make("div", { className: "failure" },
      make("p", {}, make("code", {}, code)),
      detail && make("p", {}, detail),
      make("p", {}, [message, hint].filter(Boolean).join(" ")));
  }

  function actions(entry, index, indexes, isLarge) {
    const node = make("div", { className: "actions" });
    if (entry.sidecar) node.append(button("Copy as sidecar", () => copy(entry.sidecar), { "aria-label": `Copy as sidecar: ${label(entry)}` }));
    if (isLarge) return node;
    if (films(entry).length) node.append(button("Play film", () => open(index, indexes, "film")));
    if (entry.mesh) node.append(button("Turn mesh", () => open(index, indexes, "mesh")));
    return node;
  }

  function links(entry) {
    const node = make("div", { className: "links" });
    if (head.server && entry.job) {
      const page = link("Page", `${head.server}/results/${entry.job}`);
      page.title = `On ${head.server}, where a server ran when this sheet was made`;
      node.append(page);
    }
    if (entry.gone) node.append(make("span", { className: "faint" }, "Its folder is not in the outbox any more."));
    if (!entry.folder) return node;
    node.append(link("Folder", entry.folder));
    if (entry.manifest) node.append(link(isFailure(entry) ? "Error" : "Manifest", entry.folder + entry.manifest));
    for (const [name, href, kind] of entry.files || []) if (kind !== "marks") node.append(link(name, href));
    return node;
  }

  // A key without its stage, where no other key ends alike.
  function brief(key, keys) {
    const last = (name) => name.slice(name.indexOf(".") + 1);
    return keys.filter((other) => last(other) === last(key)).length > 1 ? key : last(key);
  }

  const varying = (entry) => head.varying.filter((key) => key in (entry.params || {})).map((key) => [brief(key, head.varying), entry.params[key]]);

  function warnings(entry) {
    const texts = entry.warnings || [];
    if (!texts.length) return null;
    const count = texts.length === 1 ? "1 warning" : `${texts.length} warnings`;
    return make("details", {}, make("summary", {}, `⚠ ${count}`), ...texts.map((line) => make("p", { className: "small" }, line)));
  }

  function about(entry) {
    const details = make("details", {}, make("summary", {}, "All about it"));
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      const pairs = [["job", entry.job || null], ["status", entry.status], ["seconds", entry.seconds], ["tags", (entry.tags || []).join(", ") || null]];
      pairs.push(...Object.entries(entry.meta || {}).map(([key, value]) => [`meta.${key}`, value]));
      pairs.push(...Object.entries({ ...head.common, ...entry.params }));
      details.append(list(pairs.filter(([, value]) => value !== null && value !== undefined)));
      if (entry.sidecar) details.append(make("pre", {}, entry.sidecar));
    });
    return details;
  }

  function text(entry, index, indexes, isLarge) {
    const status = entry.status === "completed" ? "" : ` ${entry.status}`;
    return make("div", { className: "text" },
      make("h2", {}, entry.name, make("span", { className: isFailure(entry) ? "alarm" : "" }, ` #${entry.n}${status}`)),
      isFailure(entry) ? failure(entry) : null,
      list(varying(entry)), actions(entry, index, indexes, isLarge), links(entry), warnings(entry), about(entry));
  }

  // --- the list ---

  const chosen = () => state.onlyFailures ? head.failures : Array.from({ length: head.total }, (_, index) => index);
  const pageCount = () => Math.max(1, Math.ceil(chosen().length / head.pageSize));

  async function showList() {
    const all = chosen();
    const indexes = all.slice(state.page * head.pageSize, (state.page + 1) * head.pageSize);
    const entries = await entriesAt(indexes);
    const cards = make("div", { className: "cards" });
    entries.forEach((entry, at) => cards.append(make("article",
      { className: isFailure(entry) ? "card failed" : "card", id: `n${entry.n}`, tabIndex: -1 },
      picture(entry, indexes[at], all), text(entry, indexes[at], all))));
    $("main").replaceChildren(entries.length ? cards : make("p", {}, "There is nothing to show."));
    showPager();
  }

  function showPager() {
    const count = pageCount();
    if (state.view !== "list" || count < 2) { $("pager").replaceChildren(); return; }
    const options = Array.from({ length: count }, (_, page) => make("option", { value: page, selected: page === state.page }, `page ${page + 1} of ${count}`));
    $("pager").replaceChildren(
      button("← Back", () => turn(state.page - 1), { disabled: state.page === 0 }),
      make("select", { "aria-label": "Page", onchange: (event) => turn(Number(event.target.value)) }, ...options),
      button("Next →", () => turn(state.page + 1), { disabled: state.page === count - 1 }));
  }

  function turn(page) {
    state.page = Math.min(Math.max(page, 0), pageCount() - 1);
    show(true);
  }

  // --- the grid ---

  const axisName = (axis) => brief(head.axes[axis].name, head.axes.map((other) => other.name));

  const axisIndexes = () => head.axes.map((_, axis) => axis);

  function indexOf(places) {
    return head.axes.reduce((index, axis, at) => index * axis.values.length + places[at], 0);
  }

  async function showGrid() {
    const rowAxis = state.rows, columnAxis = state.columns;
    const rows = rowAxis === columnAxis ? [null] : head.axes[rowAxis].values;
    const columns = head.axes[columnAxis].values;
    const last = Math.min(rows.length, state.firstRow + MOST_ROWS);
    const places = [...state.fixed];
    const cells = [];
    for (let row = state.firstRow; row < last; row++) {
      for (let column = 0; column < columns.length; column++) {
        if (rows[0] !== null || rows.length > 1) places[rowAxis] = row;
        places[columnAxis] = column;
        cells.push(indexOf(places));
      }
    }
    const entries = await entriesAt(cells.map((index) => Math.min(index, head.total - 1)));
    const corner = rowAxis === columnAxis ? "" : `${axisName(rowAxis)} ↓ ${axisName(columnAxis)} →`;
    const body = make("tbody");
    for (let row = state.firstRow; row < last; row++) {
      const line = make("tr", {}, make("th", { scope: "row" }, make("div", {}, rowAxis === columnAxis ? axisName(columnAxis) : shown(rows[row]))));
      for (let column = 0; column < columns.length; column++) {
        const at = (row - state.firstRow) * columns.length + column;
        line.append(cells[at] < head.total ? cell(entries[at], cells[at], cells) : make("td"));
      }
      body.append(line);
    }
    const top = make("thead", {}, make("tr", {}, make("th", {}, corner), ...columns.map((value) => make("th", { scope: "col" }, make("div", {}, shown(value))))));
    $("main").replaceChildren(make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Grid" }, make("table", {}, top, body)));
    showRowPager(rows.length, last);
  }

  function cell(entry, index, indexes) {
    const words = isFailure(entry) ? (entry.thumbnail ? entry.failure.code : "") : head.axes.length > 1 ? "" : entry.name;
    return make("td", {}, picture(entry, index, indexes), words && make("p", { className: isFailure(entry) ? "name alarm" : "name" }, words));
  }

  function showRowPager(count, last) {
    if (count <= MOST_ROWS) { $("pager").replaceChildren(); return; }
    const move = (by) => { state.firstRow += by; show(true); };
    $("pager").replaceChildren(
      button("← Rows before", () => move(-MOST_ROWS), { disabled: state.firstRow === 0 }),
      make("span", {}, `rows ${state.firstRow + 1}–${last} of ${count}`),
      button("Rows after →", () => move(MOST_ROWS), { disabled: last === count }));
  }

  // --- head and tools ---

  function showHead() {
    document.title = head.title;
    const counts = Object.entries(head.counts).map(([status, count]) => `${count.toLocaleString("en")} ${status}`).join(", ");
    const made = new Date(head.made);
    const where = head.inbox ? `${head.inbox} · ` : "";
    const facts = make("p", { className: "faint" }, `${where}${counts} · ${made.toLocaleString([], { dateStyle: "medium", timeStyle: "short" })} `);
    if (head.report) facts.append("· ", link(head.report, head.report));
    const nodes = [make("h1", {}, head.title), facts];
    if (head.leftOff) nodes.push(make("p", { className: "alarm" }, `${head.leftOff.toLocaleString("en")} more have no place on this sheet.`));
    const common = Object.entries(head.common);
    if (common.length) nodes.push(make("details", { className: "common" }, make("summary", {}, head.total > 1 ? "The same in all" : "Parameters"), list(common)));
    $("head").replaceChildren(...nodes);
  }

  function showTools() {
    const nodes = [];
    if (head.axes.length) {
      for (const [view, name] of [["grid", "Grid"], ["list", "List"]]) {
        nodes.push(button(name, () => { state.view = view; show(true); }, { "aria-pressed": String(state.view === view) }));
      }
    }
    if (state.view === "grid") nodes.push(...gridTools());
    if (state.view === "list" && head.failures.length) {
      nodes.push(button(`Only the ${head.failures.length.toLocaleString("en")} that failed`,
        () => { state.onlyFailures = !state.onlyFailures; state.page = 0; show(); }, { "aria-pressed": String(state.onlyFailures) }));
    }
    $("tools").replaceChildren(...nodes);
  }

  function gridTools() {
    if (head.axes.length < 2) return [];
    const choose = (name, key) => make("label", {}, name, make("select", {
      onchange: (event) => {
        const other = key === "rows" ? "columns" : "rows";
        const value = Number(event.target.value);
        if (state[other] === value) state[other] = state[key];
        state[key] = value;
        state.firstRow = 0;
        show();
      },
    }, ...axisIndexes().map((axis) => make("option", { value: axis, selected: state[key] === axis }, axisName(axis)))));
    const nodes = [choose("Rows", "rows"), choose("Columns", "columns")];
    for (const axis of axisIndexes().filter((one) => one !== state.rows && one !== state.columns)) nodes.push(...axisPages(axis));
    return nodes;
  }

  function axisPages(axis) {
    const { values } = head.axes[axis];
    const name = axisName(axis);
    const go = (place) => { state.fixed[axis] = (place + values.length) % values.length; show(); };
    const cut = (value) => { const line = shown(value); return line.length > 50 ? `${line.slice(0, 49)}…` : line; };
    return [make("label", {}, name, make("select", { onchange: (event) => go(Number(event.target.value)) },
      ...values.map((value, place) => make("option", { value: place, selected: state.fixed[axis] === place }, cut(value))))),
      button("←", () => go(state.fixed[axis] - 1), { "aria-label": `${name}: the one before` }),
      button("→", () => go(state.fixed[axis] + 1), { "aria-label": `${name}: the next one` })];
  }

  // --- one entry, large ---

  let current = { index: 0, indexes: [], kind: "" };

  async function open(index, indexes, kind) {
    current = { index, indexes, kind: kind || "" };
    const dialog = $("large");
    if (!dialog.open) dialog.showModal();
    const entry = await entryAt(index);
    const stage = make("div", { className: "stage" });
    const choices = [
      ...pictures(entry).map((file, at) => ["picture", file[0], () => enlarge(stage, file), at]),
      ...films(entry).map((file) => ["film", "Film", () => play(stage, file)]),
      ...(entry.mesh ? [["mesh", "Mesh", () => turnMesh(stage, entry)]] : []),
    ];
    const place = indexes.indexOf(index);
    const bar = make("div", { className: "bar" },
      button("←", () => step(-1), { disabled: place <= 0, "aria-label": "The one before" }),
      button("→", () => step(1), { disabled: place >= indexes.length - 1, "aria-label": "The next one" }),
      make("span", { className: "faint" }, `${(place + 1).toLocaleString("en")} of ${indexes.length.toLocaleString("en")}`),
      make("span", { className: "space" }));
    const show = (choice, node) => {
      for (const other of bar.querySelectorAll("[data-choice]")) other.setAttribute("aria-pressed", String(other === node));
      current.kind = choice[0];
      choice[2]();
    };
    const buttons = choices.map((choice) => {
      const node = button(choice[1], () => show(choice, node), { "data-choice": choice[0], "aria-pressed": "false" });
      return node;
    });
    bar.append(...buttons, button("Close", () => dialog.close(), { autofocus: true }));
    dialog.setAttribute("aria-label", label(entry));
    dialog.replaceChildren(make("div", { className: "large" }, bar, stage, make("div", { className: "side" }, text(entry, index, indexes, true))));
    const best = bestChoice(entry, choices, kind);
    bar.querySelector("[autofocus]").focus();
    if (best >= 0) show(choices[best], buttons[best]);
    else if (entry.thumbnail) stage.append(make("img", { src: `${FOLDER}thumbnails/${entry.thumbnail}`, alt: entry.name }));
    else stage.append(make("p", {}, "There is no picture of it."));
  }

  function bestChoice(entry, choices, kind) {
    const wanted = choices.findIndex((choice) => choice[0] === kind);
    return wanted >= 0 ? wanted : Math.min(0, choices.length - 1);
  }

  function step(by) {
    const place = current.indexes.indexOf(current.index) + by;
    if (place >= 0 && place < current.indexes.length) open(current.indexes[place], current.indexes, current.kind);
  }

  const lost = (stage) => () => stage.replaceChildren(make("p", {}, "The file is not where it was when this sheet was made."));

  function enlarge(stage, file) {
    stage.replaceChildren(make("img", { src: file[1], alt: file[0], onerror: lost(stage) }));
  }

  function play(stage, file) {
    stage.replaceChildren(make("video", { src: file[1], controls: true, autoplay: true, loop: true, muted: true, playsInline: true, onerror: lost(stage) }));
  }

  async function turnMesh(stage, entry) {
    stage.replaceChildren(make("p", {}, "The mesh is being loaded …"));
    try {
      await Promise.all([loadScript("model-viewer-umd.min.js"), loadScript(`meshes/${entry.mesh}.glb.js`)]);
      const bytes = Uint8Array.from(atob(meshes.get(entry.mesh)), (letter) => letter.charCodeAt(0));
      const address = URL.createObjectURL(new Blob([bytes], { type: "model/gltf-binary" }));
      const viewer = document.createElement("model-viewer");
      const attributes = { "camera-controls": "", "touch-action": "none", "interaction-prompt": "none", "shadow-intensity": "0.6", alt: `Mesh of ${entry.name}; drag or use the arrow keys to turn it`, src: address };
      for (const [name, value] of Object.entries(attributes)) viewer.setAttribute(name, value);
      viewer.append(make("div", { slot: "progress-bar" }));
      viewer.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
      viewer.addEventListener("error", () => stage.replaceChildren(make("p", {}, "This browser cannot show the mesh (it needs WebGL).")));
      if (stage.isConnected) stage.replaceChildren(viewer);
    } catch (error) {
      stage.replaceChildren(make("p", {}, `The mesh cannot be shown: ${error.message}.`));
    }
  }

  // --- start ---

  async function show(toTop) {
    try {
      showTools();
      await (state.view === "grid" ? showGrid() : showList());
    } catch (error) {
      $("main").replaceChildren(make("p", { className: "alarm" }, `${error.message}. Make the sheet again: dna-pipeline sheet.`));
    }
    if (toTop) window.scrollTo(0, 0);
    document.documentElement.dataset.ready = "true";
  }

  function start() {
    const count = head.axes.length;
    if (count) {
      state = { ...state, view: "grid", columns: count - 1, rows: Math.max(count - 2, 0), fixed: head.axes.map(() => 0) };
    }
    $("large").addEventListener("close", () => $("large").replaceChildren());
    $("large").addEventListener("click", (event) => { if (event.target === $("large")) $("large").close(); });
    document.addEventListener("keydown", (event) => {
      const isTaken = event.target instanceof Element && event.target.closest("model-viewer, video, select, textarea, .scroll");
      if (isTaken || event.ctrlKey || event.altKey || event.metaKey) return;
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      if ($("large").open) step(by);
      else if (state.view === "list" && pageCount() > 1) turn(state.page + by);
    });
    showHead();
    show();
  }
})();
