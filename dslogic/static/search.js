// The search page: passes the query from the filters to each of its parts, and keeps it in the address.

import { read } from "./api.js";
import { Bundle } from "./bundle.js";
import { byId, element, show, write } from "./dom.js";
import { Filters } from "./filters.js";
import { countText, plural } from "./format.js";
import { Query } from "./query.js";
import { ResultCoverage } from "./result_coverage.js";
import { Results } from "./results.js";
import { SearchHistory } from "./search_history.js";
import { MOST, Selection } from "./selection.js";
import { askCaller, authenticated, learnCaller, may, onCaller } from "./session.js";

/** So long after the last change the datastore is asked. */
const QUIET_MS = 250;
/** Fields whose other values remain a choice when some are chosen. */
const CHOICES = ["facility", "detector", "channel", "batch"];

const selection = new Selection();
const results = new Results(selection);
const coverage = new ResultCoverage();
const history = new SearchHistory();
const bundle = new Bundle();
let query = Query.parse(location.search);
let current = new AbortController();
let timer = null;
const filters = new Filters(query, (next) => change(next, QUIET_MS));

/** Search for another query; answers to the one before are dropped. */
function change(next, wait = 0) {
  query = next;
  current.abort();
  clearTimeout(timer);
  window.history.replaceState(null, "", query.isEmpty ? location.pathname : `?${query.text}`);
  filters.take(query);
  showChosen();
  timer = setTimeout(search, wait);
}

async function search() {
  current = new AbortController();
  const { signal } = current;
  const asked = query;
  byId("result").setAttribute("aria-busy", "true");
  try {
    const [{ segments, facets }, ...choices] = await Promise.all([
      readFacets(asked, signal),
      ...CHOICES.filter((field) => asked.get(field).length).map((field) => ofField(asked, field, signal)),
      results.open(asked),
    ]);
    if (signal.aborted) return;
    const byName = new Map(facets.map((each) => [each.name, each]));
    showCount(segments);
    history.note(asked, segments);
    filters.show(new Map([...byName, ...choices.filter(Boolean)]));
    await coverage.show(asked, byName, signal);
  } catch (error) {
    if (signal.aborted) return;
    fail(error);
  } finally {
    if (!signal.aborted) byId("result").removeAttribute("aria-busy");
  }
}

const readFacets = (asked, signal) => read("facets", asked.parameters, "", { signal });

/** Return [field, its facet] of the query without this field: what else could be chosen. */
async function ofField(asked, field, signal) {
  const { facets } = await readFacets(asked.with(field, []), signal);
  return [field, facets.find(({ name }) => name === field)];
}

function showCount(segments) {
  show("failure", false);
  write("count", `${plural(segments, "segment")}`);
  show("empty", segments === 0);
  show("result-actions", segments > 0);
  show("found", segments > 0);
  const tooMany = segments > MOST;
  byId("select-all").disabled = tooMany;
  byId("select-all").title = tooMany ? `A selection has at most ${countText(MOST)} segments. Bundle the search instead.` : "";
}

function fail(error) {
  if (error.status === 401) {
    askCaller();
    return;
  }
  write("count", "No result");
  for (const id of ["result-actions", "found", "empty"]) show(id, false);
  show("failure");
  write("failure", error.message);
}

/** Show the filters of the query, each with a button that removes it. */
function showChosen() {
  const chosen = query.filters;
  byId("chosen").replaceChildren(...chosen.map(({ text, without }) => {
    const button = element("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${text}` }, text, element("span", { "aria-hidden": "true" }, "×"));
    button.addEventListener("click", () => {
      change(without);
      (byId("chosen").querySelector("button") ?? byId("main")).focus({ preventScroll: true });
    });
    return element("li", {}, button);
  }));
  show("clear-filters", chosen.length > 0);
  write("filters-count", chosen.length ? `(${chosen.length})` : "");
}

byId("clear-filters").addEventListener("click", () => change(new Query()));
byId("empty-clear").addEventListener("click", () => change(new Query()));
byId("select-all").addEventListener("click", async () => {
  history.settle();
  const button = byId("select-all");
  button.disabled = true;
  try {
    const left = await selection.addAll(query);
    if (left !== 0) write("selection-note", `The selection is full (${countText(MOST)} segments): ${left === null ? "the others" : plural(left, "segment")} of the search were not added.`);
  } catch (error) {
    fail(error);
  } finally {
    button.disabled = false;
  }
});
selection.onChange(() => {
  history.settle();
  write("selection-note", "");
});
byId("bundle-search").addEventListener("click", () => {
  history.settle();
  bundle.order({ query: query.json });
});
byId("bundle-selection").addEventListener("click", () => bundle.order({ names: selection.names }));
byId("filters-fold").open = !matchMedia("(max-width: 60rem)").matches;

onCaller(() => (!authenticated() || may("read")) && change(query));
learnCaller();
change(query);
