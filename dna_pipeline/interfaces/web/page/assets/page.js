"use strict";
// Times in the viewer's zone, the live state, and keys. Everything else is the server's HTML.

function showTimes(root) {
  const today = new Date().toDateString();
  for (const tag of root.querySelectorAll("time[datetime]:not([data-shown])")) {
    const moment = new Date(tag.dateTime);
    const clock = { hour: "2-digit", minute: "2-digit" };
    const date = { year: "numeric", month: "short", day: "numeric" };
    tag.textContent = moment.toDateString() === today
      ? moment.toLocaleTimeString([], clock)
      : moment.toLocaleString([], { ...date, ...clock });
    tag.title = moment.toLocaleString();
    tag.dataset.shown = "";
  }
}

function followState(place) {
  const source = new EventSource(place.dataset.live);
  source.addEventListener("state", (event) => {
    if (place.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
    const active = place.contains(document.activeElement) ? document.activeElement : null;
    const focused = active?.getAttribute("href");
    const button = active?.id;
    place.innerHTML = event.data;
    showTimes(place);
    window.htmx?.process(place);
    if (button) document.getElementById(button)?.focus({ preventScroll: true });
    else if (focused) place.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  });
  addEventListener("pagehide", () => source.close());
}

// In place of the browser's mark for a picture that it cannot decode, of a damaged file say.
const ICON = new URL("icons/picture.svg", document.currentScript.src);

function replacePicture(image) {
  const figure = image.closest("figure.single");
  if (figure) figure.hidden = true;
  else if (image.closest(".box") && image.src !== ICON.href) image.src = ICON;
}

const VIEWS = { q: "/", r: "/results", d: "/drop", m: "/models" };
let lastKey = "";

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable], dialog, model-viewer")) return;
  const key = event.key;
  if (key === "?") document.getElementById("keys").showModal();
  else if (lastKey === "g" && VIEWS[key]) location.href = VIEWS[key];
  else if (key === "/") {
    event.preventDefault();
    const search = document.querySelector("input[type=search]");
    if (search) search.focus(); else location.href = "/results#search";
  } else if (key === "j" || key === "k") step(key === "j" ? 1 : -1);
  lastKey = key;
}

function step(way) {
  const link = document.querySelector(way > 0 ? "a[rel=next]" : "a[rel=prev]");
  if (link) { location.href = link.href; return; }
  const cells = [...document.querySelectorAll("[data-cell] a")];
  const at = cells.indexOf(document.activeElement);
  cells[Math.min(Math.max(at + way, 0), cells.length - 1)]?.focus();
}

function compare(box) {
  const slider = box.querySelector("input");
  const show = () => box.style.setProperty("--split", `${slider.value}%`);
  slider.addEventListener("input", show);
  show();
}

function filter(form) {
  const send = () => form.requestSubmit();
  for (const choice of form.querySelectorAll("select, input[type=date]")) choice.addEventListener("change", send);
  form.addEventListener("submit", () => {
    const { day, offset } = form.elements;
    offset.value = day.value ? -new Date(`${day.value}T00:00`).getTimezoneOffset() : "";
    // Left out of the address, which is short so.
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
  addEventListener("pageshow", () => { for (const field of form.elements) field.disabled = false; });
}

// What an error says: a text, or the message of the server's own checks.
function sentenceOf(answer) {
  let text = answer;
  try { text = JSON.parse(answer).message ?? answer; } catch { /* It is no JSON. */ }
  return text.slice(0, 300);
}

async function copy(event) {
  const text = document.getElementById(event.target.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    event.target.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(document.getElementById(event.target.dataset.copy));
    event.target.textContent = "Marked: press Ctrl+C";
  }
}

document.addEventListener("error", (event) => {
  if (event.target instanceof HTMLImageElement) replacePicture(event.target);
}, true);

document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.images) if (image.loading !== "lazy" && image.complete && !image.naturalWidth) replacePicture(image);
  for (const box of document.querySelectorAll("[data-compare]")) compare(box);
  for (const form of document.querySelectorAll("[data-filters]")) filter(form);
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", copy);
  showTimes(document);
  for (const place of document.querySelectorAll("[data-live]")) followState(place);
  document.getElementById("help").addEventListener("click", () => document.getElementById("keys").showModal());
  document.addEventListener("keydown", onKey);
  document.addEventListener("htmx:afterSwap", (event) => showTimes(event.target));
  document.addEventListener("htmx:responseError", (event) => {
    document.getElementById("notice").textContent = sentenceOf(event.detail.xhr.responseText);
  });
});
