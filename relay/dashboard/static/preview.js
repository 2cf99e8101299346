// As somebody writes, the form's own preview button is pressed: the letter is posted into the sandboxed frame beside it.
// The frame is a new one each time: what loads in a frame that has a page already becomes a step of the browser's Back button.
"use strict";

const PAUSE = 400; // milliseconds after the last key

function preview(button) {
  const old = document.querySelector(`iframe[name="${button.formTarget}"]`);
  old.replaceWith(old.cloneNode());
  button.form.requestSubmit(button);
}

document.querySelectorAll("[data-preview]").forEach((button) => {
  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(preview, PAUSE, button); };
  button.form.addEventListener("input", soon);
  button.form.addEventListener("change", soon);
  preview(button);
});
