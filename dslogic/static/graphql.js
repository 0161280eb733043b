// The GraphQL explorer: a query with its variables, its answer, and the schema.

import { order } from "./api.js";
import { byId, element, show, write } from "./dom.js";
import { plural, sizeText } from "./format.js";
import { EXAMPLES } from "./graphql_examples.js";
import { insertField } from "./graphql_insert.js";
import { showSchema } from "./graphql_schema.js";
import { askCaller, authenticated, learnCaller, may, onCaller } from "./session.js";

const query = byId("query");
const variables = byId("variables");
let turn = 0;

const ask = (text, values) => order("graphql", { query: text, ...(values && { variables: values }) });

async function run() {
  const values = readVariables();
  if (values === undefined) return;
  turn += 1;
  const own = turn;
  write("outcome", "Running");
  const began = performance.now();
  try {
    const answer = await ask(query.value, values);
    if (own !== turn) return; // another query was run meanwhile
    const text = JSON.stringify(answer, null, 2);
    showErrors(answer.errors ?? []);
    show("answer");
    write("answer", text);
    const wrong = answer.errors ? `${plural(answer.errors.length, "error")}, ` : "";
    write("outcome", `${wrong}${Math.round(performance.now() - began)} ms, ${sizeText(JSON.stringify(answer).length)}`);
  } catch (error) {
    if (own !== turn) return;
    if (error.status === 401) askCaller();
    show("answer", false);
    showErrors([{ message: error.message }]);
    write("outcome", "1 error");
  }
}

/** Return the variables, null if there are none, or undefined if their text is wrong. */
function readVariables() {
  const text = variables.value.trim();
  let [values, failure] = [null, ""];
  try {
    values = text ? JSON.parse(text) : null;
    if (values !== null && (typeof values !== "object" || Array.isArray(values))) failure = 'Variables are a JSON object, as {"first": 5}.';
  } catch (error) {
    failure = `The variables are not JSON: ${error.message}`;
  }
  variables.setAttribute("aria-invalid", String(failure !== ""));
  show("variables-failure", failure !== "");
  write("variables-failure", failure);
  return failure ? undefined : values;
}

function showErrors(errors) {
  show("errors", errors.length > 0);
  byId("errors").replaceChildren(...errors.map(({ message, locations, path }) => {
    const [at] = locations ?? [];
    const text = path ? `${path.join(".")}: ${message}` : message;
    if (!at) return element("li", {}, text);
    const button = element("button", { type: "button", class: "quiet small" }, `Line ${at.line}`);
    button.addEventListener("click", () => moveTo(at));
    return element("li", {}, text, " ", button);
  }));
}

/** Move the caret of the query to a line and column, which count from 1. */
function moveTo({ line, column }) {
  const before = query.value.split("\n").slice(0, line - 1);
  const place = before.reduce((sum, each) => sum + each.length + 1, 0) + column - 1;
  query.focus();
  query.setSelectionRange(place, place);
}

function insert(root, path) {
  const { text, at } = insertField(query.value, root, path);
  query.value = text;
  query.setSelectionRange(at, at);
  write("inserted", `The query has ${path.map(({ name }) => name).join(".")}.`);
}

/** Keep the indentation of the line in a new one. */
function breakLine(event) {
  const [indentation] = /^ */.exec(query.value.slice(0, query.selectionStart).split("\n").at(-1));
  if (!indentation) return;
  event.preventDefault();
  query.setRangeText(`\n${indentation}`, query.selectionStart, query.selectionEnd, "end");
}

function open({ query: text, variables: values }) {
  query.value = text;
  variables.value = values ? JSON.stringify(values, null, 2) : "";
}

let schemaShown = false;

async function readSchema() {
  if (schemaShown) return;
  schemaShown = true;
  try {
    await showSchema(byId("schema"), ask, insert);
    show("schema-failure", false);
  } catch (error) {
    schemaShown = false;
    show("schema-failure");
    write("schema-failure", `The schema cannot be read: ${error.message}`);
  }
}

byId("examples").append(element("option", { value: "" }, "Examples"), ...EXAMPLES.map(({ title }, place) => element("option", { value: place }, title)));
byId("examples").addEventListener("change", ({ target }) => {
  if (target.value) open(EXAMPLES[target.value]);
  target.value = "";
});
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
byId("ask").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    run();
  } else if (event.target === query) {
    breakLine(event);
  }
});

open(EXAMPLES[0]);
onCaller(() => (!authenticated() || may("read")) && readSchema());
learnCaller();
