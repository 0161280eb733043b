// Elements: found by id, made from text (never from markup), and changed only if they differ.

export const byId = (id) => document.getElementById(id);

/** Make an element; children are elements or text, so that the name of a channel is never markup. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Write text into an element, unless it is there already: a screen reader would read it again. */
export function write(id, text) {
  const target = byId(id);
  if (target.textContent !== text) target.textContent = text;
}

export function show(id, shown = true) {
  byId(id).hidden = !shown;
}

/** Make a row of a table; a cell is text, an element, or {text, numeric, hint}. */
export function row(cells, attributes = {}) {
  return element("tr", attributes, ...cells.map(cell));
}

function cell(content) {
  if (content instanceof Node || typeof content === "string") return element("td", {}, content);
  return element("td", { class: content.numeric ? "n" : null, title: content.hint }, content.text);
}

/** Fill a table or a part of it with rows; equal cells stay, with the text selected in them. */
export function fillRows(table, rows) {
  const body = table.tBodies?.[0] ?? table;
  if (body.rows.length !== rows.length) {
    body.replaceChildren(...rows);
    return;
  }
  rows.forEach((fresh, place) => {
    [...fresh.cells].forEach((cell, column) => {
      const shown = body.rows[place].cells[column];
      if (shown.outerHTML !== cell.outerHTML) shown.replaceWith(cell);
    });
  });
}

/** Fill a select with options {value, text}; the chosen one stays chosen if it is still there. */
export function fillSelect(select, options) {
  const wanted = JSON.stringify(options);
  if (select.dataset.options === wanted) return;
  const chosen = select.value;
  select.dataset.options = wanted;
  select.replaceChildren(...options.map(({ value, text }) => element("option", { value }, text)));
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
}

/** Let the buttons of a dialog close it; Escape does so anyway. */
export function closable(dialog) {
  for (const button of dialog.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => dialog.close());
  }
  return dialog;
}

/** Return a button that copies the text which `text` returns; `what` names it for screen readers. */
export function copyButton(what, text) {
  const button = element("button", { type: "button", class: "quiet small copy" }, "Copy", element("span", { class: "visually-hidden" }, ` ${what}`));
  button.addEventListener("click", async () => {
    await copy(text(), button);
    button.firstChild.textContent = "Copied";
    setTimeout(() => { button.firstChild.textContent = "Copy"; }, 2000);
  });
  return button;
}

/** Browsers have a clipboard only on https and localhost; elsewhere a selection is copied. */
async function copy(text, place) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = element("textarea", { class: "visually-hidden", "aria-hidden": "true" });
  field.value = text;
  place.after(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  place.focus();
}
