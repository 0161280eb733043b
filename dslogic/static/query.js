// A query: what is searched for, written like the parameters of a URL (docs/api.md, Queries).

import { gpsText, secondsOf } from "./format.js";

const LISTS = ["facility", "site", "instrument", "detector", "channel", "batch"];
const SINGLE = ["start", "stop", "run", "status", "last"];
const FIELDS = [...LISTS, ...SINGLE, "condition"];
const CONDITION = /^([^<>=!]+)(<=|>=|!=|<|>|=)(.*)$/s;
const OPERATORS = { "<": "lt", "<=": "le", ">": "gt", ">=": "ge", "=": "eq", "!=": "ne" };
const SYMBOLS = { "<=": "≤", ">=": "≥", "!=": "≠" };
const NUMBER = /^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i;

/** A query does not change; each method that changes something returns another one. */
export class Query {
  #values; // by field: texts

  constructor(values = {}) {
    this.#values = Object.fromEntries(FIELDS.filter((field) => values[field]?.length).map((field) => [field, values[field]]));
  }

  /** Return the query in the parameters of a URL; other parameters are ignored. */
  static parse(search) {
    const parameters = new URLSearchParams(search);
    return new Query(Object.fromEntries(FIELDS.map((field) => [field, [...new Set(parameters.getAll(field))].filter(Boolean)])));
  }

  /** Return the names of the parameters of a URL that are no fields of a query. */
  static unknown(search) {
    return [...new Set(new URLSearchParams(search).keys())].filter((name) => !FIELDS.includes(name));
  }

  get(field) {
    return this.#values[field] ?? [];
  }

  with(field, values) {
    return new Query({ ...this.#values, [field]: values });
  }

  without(field, value) {
    return this.with(field, this.get(field).filter((each) => each !== value));
  }

  /** Return the value that a condition compares with by one of these operators, or "". */
  bound(name, ...operators) {
    const found = this.#conditions().find((each) => each.name === name && operators.includes(each.operator));
    return found ? String(valueOf(found.value)) : "";
  }

  /** Replace the conditions of a name with one of these operators by one with the first of them; "" by none. */
  withBound(name, operators, value) {
    const others = this.#conditions().filter((each) => each.name !== name || !operators.includes(each.operator)).map(({ text }) => text);
    return this.with("condition", value === "" ? others : [...others, `${name}${operators[0]}${value}`]);
  }

  #conditions() {
    return this.get("condition").map((text) => {
      const [, name = text, operator = "=", value = ""] = CONDITION.exec(text) ?? [];
      return { text, name, operator, value };
    });
  }

  get isEmpty() {
    return !Object.keys(this.#values).length;
  }

  get fields() {
    return Object.keys(this.#values);
  }

  /** Return the values by field, for the address of a route. */
  get parameters() {
    return { ...this.#values };
  }

  /** Return the parameters as text; it is the same for the same query. */
  get text() {
    return new URLSearchParams(this.fields.flatMap((field) => this.get(field).map((value) => [field, value]))).toString();
  }

  /** Say whether the query looks at the records of segments, which can change. */
  get needsRecords() {
    return ["condition", "run", "status", "last"].some((field) => this.get(field).length);
  }

  /** Say whether a segment may be selected; facilities and conditions are not known here. */
  maySelect(segment) {
    const [channel, stop] = [segment.channel ?? "", segment.t0 + secondsOf(segment)];
    const fits = {
      detector: (value) => channel.startsWith(`${value}:`),
      channel: (value) => patternOf(value).test(channel),
      batch: (value) => segment.batch === value,
      start: (value) => stop > Number(value),
      stop: (value) => segment.t0 < Number(value),
    };
    return Object.entries(fits).every(([field, fit]) => !this.get(field).length || this.get(field).some(fit));
  }

  /** Return the query as JSON has it. */
  get json() {
    const lists = LISTS.filter((field) => field in this.#values).map((field) => [field, this.get(field)]);
    const single = SINGLE.filter((field) => field in this.#values).map((field) => [field, timed(field) ? Number(this.get(field)[0]) : this.get(field)[0]]);
    const conditions = {};
    for (const { name, operator, value } of this.#conditions()) conditions[name] = { ...conditions[name], [OPERATORS[operator]]: valueOf(value) };
    return { ...Object.fromEntries([...lists, ...single]), ...(this.get("condition").length && { conditions }) };
  }

  /** Return each filter as {text, without}: a text for people, and the query without it. */
  get filters() {
    return this.fields.flatMap((field) => this.get(field).map((value) => ({ text: textOf(field, value), without: this.without(field, value) })));
  }

  /** Return the query as a text for people. */
  get title() {
    return this.filters.map(({ text }) => text).join(", ") || "all segments";
  }
}

const timed = (field) => field === "start" || field === "stop";

const patternOf = (channel) => new RegExp(`^${channel.split("*").map((part) => part.replace(/\W/g, "\\$&")).join(".*")}$`, "s");

function textOf(field, value) {
  if (timed(field)) return `${field === "start" ? "from" : "to"} GPS ${Number.isFinite(Number(value)) ? gpsText(Number(value)) : value}`;
  if (field === "condition") {
    const [, name, operator, compared] = CONDITION.exec(value) ?? [null, value, "", ""];
    return `${name} ${SYMBOLS[operator] ?? operator} ${compared}`.trim();
  }
  return field === "channel" || field === "detector" || field === "facility" ? value : `${field} ${value}`;
}

/** Return the value that the text of a condition means: a number, or a text, which may be in quotes. */
function valueOf(text) {
  if (NUMBER.test(text)) return Number(text);
  if (!text.startsWith('"')) return text;
  try {
    return String(JSON.parse(text));
  } catch {
    return text;
  }
}

/** Return a text as a condition has it: in quotes if it would be read as something else. */
export const conditionText = (text) => (NUMBER.test(text) || text.startsWith('"') || text === "" ? JSON.stringify(text) : text);

/** Say whether the name of a condition can be written in a URL. */
export const writable = (name) => /^[^<>=!]+$/.test(name);
