// The filters of the search: one for each facet of what is found, and the fields of the time span.

import { byId, element, fillSelect, show, write } from "./dom.js";
import { countText, gpsOfUnix, gpsText, utcOfGps } from "./format.js";
import { conditionText, writable } from "./query.js";

/** Facets that are shown as lists of values. */
const LISTS = { facility: "Facility", site: "Site", instrument: "Instrument", detector: "Detector", channel: "Channel", batch: "Batch" };
/** Lists that are folded until one of their values is chosen, because they follow from the detector. */
const FOLDED = ["site", "instrument"];
const CONDITION = "conditions.";
/** Values that are shown before "more" is pressed. */
const SHOWN = 8;
const CONDITIONS_SHOWN = 6;
const FROM = [">=", ">"];
const TO = ["<=", "<"];
const EQUAL = ["="];

export class Filters {
  #query;
  #change;
  #lists;
  #conditions = new Map(); // by name, those of a list by its name and ".*"
  #allConditions = false;
  #times = ["start", "stop"].map((field) => new TimeField(field, (value) => this.#change(this.#query.with(field, value === "" ? [] : [value]), true)));

  /** `change` is called with the query that was made by a filter, and true while a text is typed. */
  constructor(query, change) {
    this.#query = query;
    this.#change = change;
    const places = byId("filter-lists");
    this.#lists = Object.entries(LISTS).map(([field, title]) => {
      const list = new ValueList(title, (value, chosen) => this.#change(chosen ? this.#query.with(field, [...this.#query.get(field), value]) : this.#query.without(field, value)));
      (FOLDED.includes(field) ? byId("filter-folded") : places).append(list.element);
      return [field, list];
    });
    const pattern = byId("channel-pattern");
    pattern.addEventListener("change", () => {
      if (pattern.value.trim()) this.#change(this.#query.with("channel", [...new Set([...this.#query.get("channel"), pattern.value.trim()])]));
      pattern.value = "";
    });
    this.#lists.find(([field]) => field === "channel")[1].element.append(byId("channel-pattern-label"));
    byId("filter-lists").children[0].after(byId("filter-folded"));
    byId("more-conditions").addEventListener("click", () => {
      this.#allConditions = !this.#allConditions;
      this.#foldConditions();
    });
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
  }

  /** Take the query that is searched for now. */
  take(query) {
    this.#query = query;
    for (const time of this.#times) time.take(query);
  }

  /** Show the facets of the query, by name; values that are known stay in their places if it is the same query (`live`). */
  show(facets, live) {
    const time = facets.get("time");
    for (const field of this.#times) field.offer(time);
    for (const [field, list] of this.#lists) list.show(facets.get(field), this.#query.get(field), live);
    if (FOLDED.some((field) => this.#query.get(field).length)) byId("filter-folded").open = true;
    const names = [...facets.keys()].filter((name) => name.startsWith(CONDITION)).map((name) => name.slice(CONDITION.length)).filter(writable)
      .sort((a, b) => facets.get(CONDITION + b).segments - facets.get(CONDITION + a).segments);
    const groups = grouped(names);
    for (const [key, { element: shown }] of this.#conditions) {
      if (groups.has(key) || shown.contains(document.activeElement)) continue;
      shown.remove();
      this.#conditions.delete(key);
    }
    for (const [key, some] of groups) this.#showConditions(key, some, facets);
    if (!live) this.#sortConditions([...groups.keys()]);
    write("no-conditions", this.#query.get("facility").length > 1 ? "None that all of the chosen facilities have." : "None.");
    show("no-conditions", !this.#conditions.size);
    this.#foldConditions();
  }

  /** Put the conditions in order, unless one of them has the focus. */
  #sortConditions(keys) {
    if (byId("conditions").contains(document.activeElement)) return;
    this.#conditions = new Map(keys.map((key) => [key, this.#conditions.get(key)]));
    byId("conditions").replaceChildren(...[...this.#conditions.values()].map((each) => each.element));
  }

  /** Hide the conditions after the first ones, unless all are wanted; one that is part of the query stays. */
  #foldConditions() {
    const all = [...this.#conditions.values()];
    const folded = all.slice(CONDITIONS_SHOWN).filter((each) => !each.used(this.#query));
    for (const { element: shown } of all) shown.hidden = false;
    if (!this.#allConditions) for (const { element: shown } of folded) shown.hidden = !shown.contains(document.activeElement);
    show("more-conditions", folded.length > 0);
    write("more-conditions", this.#allConditions ? "Show fewer conditions" : `Show all ${countText(all.length)} conditions`);
  }

  #showConditions(key, names, facets) {
    if (!this.#conditions.has(key)) {
      const make = (name) => new Condition(name, (operators, value) => this.#change(this.#query.withBound(name, operators, value), operators !== EQUAL));
      this.#conditions.set(key, names.length > 1 ? new ListCondition(make) : make(key));
      byId("conditions").append(this.#conditions.get(key).element);
    }
    this.#conditions.get(key).show(facets, this.#query, names);
  }
}

/** Return names of conditions by their keys: those of the values of a list, as `quality.0` and `quality.1`, have one. */
function grouped(names) {
  const listOf = (name) => /^(.+)\.\d+$/.exec(name)?.[1];
  const place = (name) => Number(/\d+$/.exec(name)[0]);
  const groups = new Map();
  for (const name of names) {
    const list = listOf(name);
    const some = list ? names.filter((each) => listOf(each) === list) : [];
    if (some.length > 1) groups.set(`${list}.*`, some.sort((a, b) => place(a) - place(b)));
    else groups.set(name, [name]);
  }
  return groups;
}

/** A list of values with their counts; several can be chosen. */
class ValueList {
  #options = element("div", { class: "options" });
  #more = element("button", { type: "button", class: "quiet small", hidden: true });
  #all = false;
  #shown = [undefined, []];
  #boxes = new Map(); // by value

  constructor(title, toggle) {
    this.element = element("fieldset", { class: "facet" }, element("legend", {}, title), this.#options, this.#more);
    this.#options.addEventListener("change", ({ target }) => toggle(target.value, target.checked));
    this.#more.addEventListener("click", () => {
      this.#all = !this.#all;
      this.show(...this.#shown);
    });
  }

  show(facet, chosen, live = true) {
    this.#shown = [facet, chosen];
    const values = [...(facet?.values ?? [])];
    if (live) values.sort(({ value: a }, { value: b }) => this.#place(a) - this.#place(b));
    const unlisted = chosen.filter((value) => !values.some((each) => each.value === value)).map((value) => ({ value, segments: null }));
    const all = [...values, ...unlisted];
    const listed = this.#all ? all : [...all.slice(0, SHOWN), ...all.slice(SHOWN).filter(({ value }) => chosen.includes(value))];
    this.#boxes = new Map(listed.map(({ value }) => [value, this.#boxes.get(value) ?? option(value)]));
    for (const each of listed) fillOption(this.#boxes.get(each.value), each, chosen, facet?.after > 0);
    this.#arrange([...this.#boxes.values()]);
    this.#more.hidden = all.length <= SHOWN;
    this.#more.textContent = this.#all ? "Show fewer" : `Show all ${countText(all.length)}${facet?.more ? `, of ${countText(all.length + facet.more)}` : ""}`;
    this.element.hidden = !all.length && !this.element.querySelector("#channel-pattern");
  }

  /** Return the place of a value in the list; new ones come last. */
  #place(value) {
    const place = [...this.#boxes.keys()].indexOf(value);
    return place < 0 ? this.#boxes.size : place;
  }

  /** Put the options in order; those that are there already keep the focus. */
  #arrange(options) {
    const shown = [...this.#options.children];
    if (options.length === shown.length && options.every((each, place) => each === shown[place])) return;
    const focused = this.#options.contains(document.activeElement) ? document.activeElement : null;
    this.#options.replaceChildren(...options);
    focused?.focus();
  }
}

const option = (value) => element("label", { class: "option", title: value }, element("input", { type: "checkbox", value }), element("span", { class: "value" }, value), element("span", { class: "count" }));

function fillOption(label, { value, segments }, chosen, cut) {
  label.querySelector("input").checked = chosen.includes(value);
  const count = segments === null ? "" : `${cut ? "more than " : ""}${countText(segments)}`;
  label.querySelector(".count").replaceChildren(count, element("span", { class: "visually-hidden" }, " segments"));
}

/** A condition: a range if it is a number, a choice if it is a text. */
class Condition {
  #set;
  #from;
  #to;
  #choice;
  #range;

  constructor(name, set) {
    this.#set = set;
    this.#from = this.#number("from", `${name}, from`, FROM);
    this.#to = this.#number("to", `${name}, to`, TO);
    this.#range = element("div", { class: "range" }, this.#from, element("span", { "aria-hidden": "true" }, "–"), this.#to);
    this.#choice = element("select", { "aria-label": name });
    this.#choice.addEventListener("change", () => set(EQUAL, this.#choice.value));
    this.element = element("fieldset", { class: "facet condition" }, element("legend", {}, name), this.#range, this.#choice);
    this.name = name;
  }

  /** Say whether the query has this condition. */
  used(query) {
    return query.bound(this.name, ...FROM, ...TO, "=") !== "";
  }

  #number(end, label, operators) {
    const field = element("input", { inputmode: "decimal", autocomplete: "off", "aria-label": label, class: end });
    field.addEventListener("input", () => {
      const value = field.value.trim();
      const wrong = value !== "" && !Number.isFinite(Number(value));
      field.setAttribute("aria-invalid", String(wrong));
      if (!wrong) this.#set(operators, value);
    });
    return field;
  }

  show(facets, query) {
    const { values = [], more = 0, low, high, after } = facets.get(CONDITION + this.name);
    const [from, to, chosen] = [query.bound(this.name, ...FROM), query.bound(this.name, ...TO), query.bound(this.name, "=")];
    this.#range.hidden = low === null && !from && !to;
    fill(this.#from, from, low);
    fill(this.#to, to, high);
    this.#choice.hidden = !values.length && !chosen;
    const texts = values.map(({ value, segments }) => ({ value: conditionText(value), text: `${value} (${after > 0 ? "more than " : ""}${countText(segments)})` }));
    if (chosen && !values.some(({ value }) => value === chosen)) texts.push({ value: conditionText(chosen), text: chosen });
    const options = [{ value: "", text: more ? `any; ${countText(more)} are not listed` : "any" }, ...texts];
    // A list that is open would close.
    if (this.#choice !== document.activeElement) fillSelect(this.#choice, options);
    this.#choice.value = chosen && conditionText(chosen);
  }
}

/** The conditions on the values of a list, folded until one of them is used. */
class ListCondition {
  #make;
  #conditions = new Map(); // by name
  #title = element("summary");

  constructor(make) {
    this.#make = make;
    this.element = element("details", { class: "folded" }, this.#title);
  }

  used(query) {
    return [...this.#conditions.values()].some((each) => each.used(query));
  }

  show(facets, query, names) {
    this.#title.textContent = `${names[0]} … ${names.at(-1)}`;
    for (const [name, { element: shown }] of this.#conditions) shown.hidden = !names.includes(name);
    for (const name of names) {
      if (!this.#conditions.has(name)) {
        this.#conditions.set(name, this.#make(name));
        this.element.append(this.#conditions.get(name).element);
      }
      this.#conditions.get(name).show(facets, query);
    }
    if (this.used(query)) this.element.open = true;
  }
}

function fill(field, value, limit) {
  if (field !== document.activeElement) {
    field.value = value;
    field.setAttribute("aria-invalid", "false");
  }
  field.placeholder = limit == null ? "" : String(Number(limit.toPrecision(6)));
}

/** A GPS time; a UTC date is changed into one. */
class TimeField {
  #name;
  #field;
  #hint;

  constructor(name, set) {
    this.#name = name;
    this.#field = byId(`filter-${name}`);
    this.#hint = byId(`filter-${name}-hint`);
    this.#field.addEventListener("input", () => {
      const gps = gpsOf(this.#field.value.trim());
      this.#field.setAttribute("aria-invalid", String(gps === null));
      this.#explain(gps);
      if (gps !== null) set(gps);
    });
    this.#field.addEventListener("blur", () => {
      const gps = gpsOf(this.#field.value.trim());
      if (gps !== null) this.#field.value = gps;
    });
  }

  take(query) {
    const [value = ""] = query.get(this.#name);
    if (this.#field === document.activeElement) return;
    this.#field.value = value;
    this.#explain(value);
    this.#field.setAttribute("aria-invalid", "false");
  }

  offer(time) {
    this.#field.placeholder = time ? gpsText(this.#name === "start" ? time.low : time.high) : "any";
  }

  #explain(gps) {
    this.#hint.textContent = gps === null ? "Neither GPS seconds nor a UTC date as 2015-09-14 09:50:45" : gps && `${utcOfGps(Number(gps))} UTC`;
  }
}

/** Return a GPS time in s as text, from GPS seconds or a UTC date; "" for "", null for anything else. */
function gpsOf(text) {
  if (text === "") return "";
  if (Number.isFinite(Number(text))) return text;
  if (!/^\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?Z?$/.test(text)) return null;
  const [date, time = "00:00"] = text.replace(/Z$/, "").split(/[ T]/);
  const unix = Date.parse(`${date}T${time}Z`) / 1000;
  return Number.isNaN(unix) ? null : String(gpsOfUnix(unix));
}
