// A row of a rule that comes anew keeps what was typed in it since it was asked for, and tells the preview of it.
"use strict";

const sent = new WeakMap(); // of each field: its value when its row was asked for
let typed = [];

function boxes(part) {
  return [...part.querySelectorAll(".condition input:not([type=hidden])"), ...(part.matches(".condition") ? part.querySelectorAll("input:not([type=hidden])") : [])];
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target.matches(".condition, #rule")) boxes(event.detail.target).forEach((box) => sent.set(box, box.value));
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const target = event.detail.target;
  typed = [];
  if (!target.matches(".condition, #rule") || (event.detail.requestConfig.elt.value || "").startsWith("less:")) return; // what follows a removed row has other names
  typed = boxes(target).filter((box) => sent.has(box) && sent.get(box) !== box.value).map((box) => [box.name, box.value]);
});

document.addEventListener("htmx:afterSettle", () => {
  const kept = typed;
  typed = [];
  for (const [name, value] of kept) {
    const box = document.getElementById(`f-${name}`);
    if (!(box instanceof HTMLInputElement)) continue;
    box.value = value;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }
});
