// A rule, or a row of it, that comes anew keeps what was changed in it since it was asked for, also where a removed row has given the others new names.
"use strict";

const asked = new WeakMap(); // of each request: the values that its fields had
let kept = [];

function fields(part) {
  return [...part.querySelectorAll("input:not([type=hidden]), select")];
}

// What a field is called once the row or group at `gone` is: those after it move up, those in it have no name.
function renamed(name, gone) {
  const at = gone.lastIndexOf(".") + 1, place = gone.slice(0, at);
  if (!gone || !name.startsWith(place)) return name;
  const [number, ...rest] = name.slice(at).split(".");
  if (!rest.length || Number(number) < Number(gone.slice(at))) return name;
  return number === gone.slice(at) ? "" : `${place}${[number - 1, ...rest].join(".")}`;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const { target, xhr } = event.detail;
  if (target.matches(".condition, #rule")) asked.set(xhr, new Map(fields(target).map((field) => [field.name, field.value])));
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr, requestConfig } = event.detail, before = asked.get(xhr);
  kept = [];
  if (!before || !document.contains(target)) return; // a row that came too late: the whole rule has come since
  const [act, gone] = (requestConfig.elt.value || "").split(":");
  const changed = fields(target).filter((field) => before.get(field.name) !== field.value);
  kept = changed.map((field) => [renamed(field.name, act === "less" ? gone : ""), field.value]);
});

document.addEventListener("htmx:afterSettle", () => {
  const found = kept.map(([name, value]) => [document.getElementById(`f-${name}`), value]).filter(([field, value]) => field && field.value !== value);
  kept = [];
  for (const select of [false, true]) { // a choice asks for its row anew, with what is typed in it
    for (const [field, value] of found.filter(([each]) => each.matches("select") === select)) {
      const was = field.value;
      field.value = value;
      if (field.value !== value) { field.value = was; continue; } // no option any more
      field.dispatchEvent(new Event("input", { bubbles: true }));
      if (select) field.dispatchEvent(new Event("change", { bubbles: true }));
    }
  }
});
