// The time that the result of a search covers, and its gaps.

import { read } from "./api.js";
import { CoveragePlot, placesOf } from "./coverage_plot.js";
import { byId, element, row, show, write } from "./dom.js";
import { channelText, countText, durationText, gpsText, plural } from "./format.js";
import { channelNumber } from "./plots.js";

/** Maximum number of spans of a channel; the datastore ignores the smallest gaps beyond. */
const SPANS = 800;
const CHANNELS = 24;

export class ResultCoverage {
  #plot = new CoveragePlot();

  /** Read and show the coverage of a query. */
  async show(query, signal) {
    const { channels: runs, more } = await read("coverage", { ...query.parameters, limit: SPANS }, "", { signal });
    if (signal.aborted) return;
    const span = spanOf(query);
    const places = placesOf(runs).slice(0, CHANNELS);
    const shown = runs.filter(({ channel }) => places.includes(channel)).map((run) => clipped(run, span)).filter(({ spans }) => spans.length)
      .sort((a, b) => places.indexOf(a.channel) - places.indexOf(b.channel));
    const hidden = placesOf(runs).length - places.length + more;
    const closed = Math.max(0, ...shown.map((each) => each.closed_gaps));
    write("coverage-note", [closed && `gaps up to ${durationText(closed)} not shown`, hidden && `${plural(hidden, "more channel")} not shown`].filter(Boolean).join(", "));
    this.#plot.show(shown, query.text, span.every(Number.isFinite) ? span : null);
    show("coverage-empty", !shown.length);
    show("gaps-region", shown.length > 0);
    byId("gaps").tBodies[0].replaceChildren(...shown.map((run) => gapsRow(run, places.indexOf(run.channel), span)));
  }
}

function spanOf(query) {
  const [[start = -Infinity], [stop = Infinity]] = [query.get("start"), query.get("stop")];
  return [Number(start), Number(stop)];
}

function clipped(run, [from, to]) {
  const spans = run.spans.map(([start, stop, segments]) => [Math.max(start, from), Math.min(stop, to), segments]).filter(([start, stop]) => start < stop);
  return { ...run, spans };
}

/** Return the gaps between the spans, and to the ends of the time that is searched. */
function gapsOf({ spans, dt }, [from, to]) {
  const stops = [from, ...spans.map(([, stop]) => stop)];
  const starts = [...spans.map(([start]) => start), to];
  return stops.map((stop, place) => [stop, starts[place]]).filter(([stop, start]) => Number.isFinite(start - stop) && start - stop > dt / 2);
}

function gapsRow(run, place, span) {
  const gaps = gapsOf(run, span);
  const seconds = (spans) => spans.reduce((sum, [start, stop]) => sum + stop - start, 0);
  const longest = gaps.toSorted((a, b) => b[1] - b[0] - a[1] + a[0])[0];
  return row([
    element("span", {}, element("span", { class: `swatch of-${channelNumber(place)}`, "aria-hidden": "true" }), channelText(run.channel)),
    { text: durationText(seconds(run.spans)), numeric: true },
    { text: gaps.length ? countText(gaps.length) : "none", numeric: true },
    { text: gaps.length ? durationText(seconds(gaps)) : "", numeric: true },
    longest ? `GPS ${gpsText(longest[0])} – ${gpsText(longest[1])}` : "",
  ]);
}
