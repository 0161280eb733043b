// Elements: found by id, made from text (never from markup), and changed only where they differ.

export const byId = (id) => document.getElementById(id);

/** Make an element; children are elements or text, so that whatever a channel is called stays text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Write text into an element, unless it is there already: a screen reader is not told the same again. */
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

/** Fill a table with rows; cells that are the same stay, and with them what somebody has selected in them. */
export function fillRows(table, rows) {
  const [body] = table.tBodies;
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

/** Fill a select with options {value, text}; what was chosen stays chosen where it is still there. */
export function fillSelect(select, options) {
  const wanted = JSON.stringify(options);
  if (select.dataset.options === wanted) return;
  const chosen = select.value;
  select.dataset.options = wanted;
  select.replaceChildren(...options.map(({ value, text }) => element("option", { value }, text)));
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
}

/** Close a dialog by its own buttons; Escape does so by itself. */
export function closable(dialog) {
  for (const button of dialog.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => dialog.close());
  }
  return dialog;
}
