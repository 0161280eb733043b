// The search page: passes the query from the filters to each of its parts, and keeps it in the address.

import { read } from "./api.js";
import { Bundle } from "./bundle.js";
import { byId, element, show, write } from "./dom.js";
import { Filters } from "./filters.js";
import { countText, plural, segmentsText } from "./format.js";
import { tryNow } from "./live.js";
import { Query } from "./query.js";
import { ResultCoverage } from "./result_coverage.js";
import { Results } from "./results.js";
import { SearchHistory } from "./search_history.js";
import { SearchLive } from "./search_live.js";
import { MOST, Selection } from "./selection.js";
import { askCaller, authenticated, learnCaller, may, onCaller } from "./session.js";

/** So long after the last key the datastore is asked. */
const QUIET_MS = 250;
/** Fields whose other values remain a choice when some are chosen. */
const CHOICES = ["facility", "site", "instrument", "detector", "channel", "batch"];

const selection = new Selection();
const results = new Results(selection);
const coverage = new ResultCoverage();
const history = new SearchHistory((next) => change(next));
const bundle = new Bundle();
let query = Query.parse(location.search);
let current = new AbortController();
let timer = null;
let searching = false;
const filters = new Filters(query, (next, typed = false) => change(next, typed ? QUIET_MS : 0));
const live = new SearchLive(renew);

/** Search for another query; answers to the one before are dropped. */
function change(next, wait = 0) {
  if (next !== query) show("unknown", false);
  query = next;
  searching = true;
  current.abort();
  clearTimeout(timer);
  live.take(query);
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
  announce(true);
  try {
    const [found] = await Promise.all([readFound(asked, signal), results.open(asked)]);
    if (signal.aborted) return;
    results.take(found);
    history.note(asked, found);
    await showFound(asked, found, signal);
  } catch (error) {
    if (signal.aborted) return;
    fail(error);
  } finally {
    if (!signal.aborted) {
      byId("result").removeAttribute("aria-busy");
      searching = false;
    }
  }
}

/** Read the result again, because stored segments have changed; a failure leaves it as it is. */
async function renew() {
  if (searching) return;
  const { signal } = current;
  const asked = query;
  try {
    const found = await readFound(asked, signal);
    if (signal.aborted) return;
    announce(false);
    await results.renew(found);
    if (signal.aborted) return;
    results.take(found);
    await showFound(asked, found, signal, true);
  } catch (error) {
    if (!signal.aborted) console.info(`the result was not renewed: ${error.message}`);
  }
}

/** Return what a query finds: {segments, whether that was cut, choices by name}. */
async function readFound(asked, signal) {
  const fields = CHOICES.filter((field) => asked.get(field).length);
  const [{ segments, after, facets }, ...choices] = await Promise.all([readFacets(asked, signal), ...fields.map((field) => ofField(asked, field, signal))]);
  const byName = new Map(facets.map((each) => [each.name, each]));
  return { segments, cut: after > 0, choices: new Map([...byName, ...choices]) };
}

async function showFound(asked, { segments, cut, choices }, signal, renewed = false) {
  showCount(segments, cut);
  filters.show(choices, renewed);
  await coverage.show(asked, signal);
}

/** Let screen readers speak what changes: after a search, but not each time that a segment arrives. */
function announce(spoken) {
  for (const id of ["count", "segments-note"]) byId(id).setAttribute("aria-live", spoken ? "polite" : "off");
}

const readFacets = (asked, signal) => read("facets", asked.parameters, "", { signal });

/** Return [field, its facet] of the query without this field: what else could be chosen. */
async function ofField(asked, field, signal) {
  const { facets } = await readFacets(asked.with(field, []), signal);
  return [field, facets.find(({ name }) => name === field)];
}

function showCount(segments, cut) {
  const some = segments > 0 || cut;
  show("failure", false);
  write("count", segmentsText(segments, cut));
  show("empty", !some);
  show("result-actions", some);
  show("found", some);
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

for (const id of ["clear-filters", "empty-clear"]) {
  byId(id).addEventListener("click", () => {
    change(new Query());
    byId("count").focus({ preventScroll: true }); // the button disappears
  });
}
byId("select-all").addEventListener("click", async () => {
  history.settle();
  const button = byId("select-all");
  button.disabled = true;
  try {
    const left = await selection.addAll(query);
    if (left !== 0) write("selection-note", `The selection is full (${countText(MOST)} segments): ${left === null ? "the other segments" : plural(left, "segment")} of the search were not added.`);
  } catch (error) {
    fail(error);
  } finally {
    button.disabled = false;
    if (document.activeElement === document.body) button.focus({ preventScroll: true });
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

onCaller(() => {
  if (authenticated() && !may("read")) return;
  tryNow();
  change(query);
});
const unknown = Query.unknown(location.search);
show("unknown", unknown.length > 0);
write("unknown", `Not searched for, because a query has no field of this name: ${unknown.join(", ")}`);
learnCaller();
change(query);
