// The chain of steps as a graph: arrows lead from a step to those that come after it, from left to right.

import { countText } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 184;
const HEIGHT = 78;
const GAP = 56;
const BETWEEN = 18;
const MARGIN = 6;
const LONGEST_NAME = 21;
/** Steps of batches that the datastore performs itself. */
const OWN = ["sealed", "archived"];

/** Draw the declared steps, and those that they come after, into an svg element. */
export function drawGraph(svg, steps) {
  const graph = place(steps);
  const right = Math.max(...graph.map(({ x }) => x + WIDTH)) + MARGIN;
  const bottom = Math.max(...graph.map(({ y }) => y + HEIGHT)) + MARGIN;
  for (const [name, value] of Object.entries({ width: right, height: bottom, viewBox: `0 0 ${right} ${bottom}` })) svg.setAttribute(name, value);
  const at = new Map(graph.map((node) => [node.name, node]));
  const edges = graph.flatMap((node) => node.before.map((name) => edge(at.get(name), node)));
  svg.replaceChildren(make("title", {}, "Chain of steps"), make("desc", {}, describe(steps)), arrowHead(), ...edges, ...graph.map(drawn));
}

/** Say in words what the graph shows. */
function describe(steps) {
  return steps.map(({ name, after, ...counts }) => `${name}${after.length ? ` after ${after.join(" and ")}` : ""}: ${words(counts).flat().map(([count, word]) => `${countText(count)} ${word}`).join(", ")}.`).join(" ");
}

const words = ({ waiting, running, done, failed }) => [[[waiting, "waiting"], [running, "running"]], [[done, "done"], [failed, "failed"]]];

/** Return the nodes, each one column to the right of the last step before it, close to the rows of those. */
function place(steps) {
  const known = new Map(steps.map((step) => [step.name, { name: step.name, step, after: step.after }]));
  for (const name of steps.flatMap(({ after }) => after)) if (!known.has(name)) known.set(name, { name, step: null, after: [] });
  const settle = (name) => {
    const node = known.get(name);
    if (node.ancestors) return node;
    const direct = node.after.map(settle);
    const further = new Set(direct.flatMap(({ ancestors }) => [...ancestors]));
    node.ancestors = new Set([...node.after, ...further]);
    node.before = node.after.filter((each) => !further.has(each)); // what others lead to already has no arrow
    node.column = Math.max(-1, ...direct.map(({ column }) => column)) + 1;
    return node;
  };
  for (const name of known.keys()) settle(name);
  const columns = [];
  for (const node of known.values()) {
    const next = [...known.values()].filter(({ before }) => before.includes(node.name)).map(({ column }) => column);
    if (!node.before.length && next.length) node.column = Math.min(...next) - 1; // no arrow crosses other steps
    (columns[node.column] ??= []).push(node);
  }
  const longest = Math.max(...columns.map(({ length }) => length));
  columns.forEach((nodes) => {
    const height = ({ before }) => (before.length ? before.reduce((total, name) => total + known.get(name).y, 0) / before.length : Infinity);
    nodes.sort((a, b) => height(a) - height(b) || a.name.localeCompare(b.name));
    const top = MARGIN + ((longest - nodes.length) * (HEIGHT + BETWEEN)) / 2;
    nodes.forEach((node, row) => Object.assign(node, { x: MARGIN + node.column * (WIDTH + GAP), y: top + row * (HEIGHT + BETWEEN) }));
  });
  return [...known.values()];
}

function edge(from, to) {
  const [x1, y1, x2, y2] = [from.x + WIDTH, from.y + HEIGHT / 2, to.x - 2, to.y + HEIGHT / 2];
  const bend = (x2 - x1) / 2;
  return make("path", { class: "edge", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, "marker-end": "url(#chain-arrow)" });
}

function arrowHead() {
  const head = make("marker", { id: "chain-arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" });
  head.append(make("path", { class: "arrow", d: "M0 0 8 4 0 8z" }));
  return head;
}

function drawn({ name, step, x, y }) {
  const group = make("g", { class: `node ${step ? stateOf(step) : "outside"}`, transform: `translate(${x} ${y})` });
  const shown = name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name;
  group.append(make("title", {}, name), make("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 10 }));
  group.append(make("rect", { class: "bar", y: 14, width: 4, height: HEIGHT - 28, rx: 2 }), make("text", { class: "step-name", x: 18, y: 25 }, shown));
  const lines = step ? words(step) : [[[null, OWN.includes(name) ? "by the datastore" : "not declared"]]];
  lines.forEach((line, row) => {
    const text = make("text", { x: 18, y: 46 + 18 * row });
    line.forEach(([count, word], number) => {
      if (number) text.append(" · ");
      text.append(make("tspan", { class: count ? word : "none" }, count === null ? word : `${countText(count)} ${word}`));
    });
    group.append(text);
  });
  return group;
}

const stateOf = ({ failed, running, waiting }) => (failed ? "failed" : running ? "running" : waiting ? "waiting" : "done");

function make(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}
