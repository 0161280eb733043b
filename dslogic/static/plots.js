// Plots by plotly, which is loaded once, after the first paint, in the colours of the page.

let library;

/** Load the library; the page does not wait for it. */
function loadPlotly() {
  library ??= new Promise((resolve, reject) => {
    // The library would add an inline style sheet for maps, which the policy forbids, unless an element has this id.
    const map = document.createElement("meta");
    map.id = "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53";
    const script = document.createElement("script");
    script.src = document.body.dataset.plotly;
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      library = undefined;
      reject(new Error("The plotting library could not be loaded."));
    });
    document.head.append(map, script);
  });
  return library;
}

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Return the number of the colour of the channel at this place of the list. */
export const channelNumber = (place) => (place % 6) + 1;

export const channelColour = (place) => token(`channel-${channelNumber(place)}`);

export const accent = () => token("accent");

export const mutedInk = () => token("muted");

/** The colours of energy, from none to loud. */
export const energyColours = () => [0, 0.2, 0.4, 0.6, 0.8, 1].map((stop, place) => [stop, token(`heat-${place}`)]);

const CONFIG = { displayModeBar: false, responsive: false, showTips: false, doubleClick: "reset", displaylogo: false };

function axis(own = {}) {
  return {
    gridcolor: token("line"),
    linecolor: token("line-strong"),
    zerolinecolor: token("line"),
    tickcolor: token("line-strong"),
    tickfont: { color: token("muted"), size: 12 },
    automargin: true,
    ...own,
    ...(own.title && { title: { text: own.title, font: { color: token("muted"), size: 12 }, standoff: 8 } }),
  };
}

/**
 * A plot in a container, drawn again when its data, its size or the colour scheme change, and never while it is hidden.
 *
 * `describe` returns {data, layout} in the current colours, or null for no plot.
 */
export class Plot {
  #describe;
  #due = false;
  #visible = false;

  constructor(container, describe) {
    this.container = container;
    this.#describe = describe;
    new ResizeObserver(() => this.draw()).observe(container);
    new IntersectionObserver((entries) => {
      this.#visible = entries.at(-1).isIntersecting;
      if (this.#visible && this.#due) this.draw();
    }, { rootMargin: "200px" }).observe(container);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Draw at the next frame, once for all calls until then. */
  draw() {
    const already = this.#due;
    this.#due = true;
    if (this.#visible && !(already && this.frame)) {
      this.frame = requestAnimationFrame(() => this.#drawNow());
    }
  }

  async #drawNow() {
    const plotly = await loadPlotly();
    this.frame = 0;
    this.#due = false;
    const { clientWidth: width, clientHeight: height } = this.container;
    const wanted = width && height ? this.#describe({ width, narrow: width < 560 }) : null;
    if (!wanted) return;
    const { xaxis, yaxis, yaxis2, ...rest } = wanted.layout;
    const layout = {
      width,
      height,
      margin: { l: 56, r: 12, t: 8, b: 44 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: token("text-font"), color: token("ink"), size: 12 },
      hoverlabel: { font: { family: token("text-font"), size: 12 } },
      showlegend: false,
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
      xaxis: axis(xaxis),
      yaxis: axis(yaxis),
      ...(yaxis2 && { yaxis2: axis(yaxis2) }),
      ...rest,
    };
    await plotly.react(this.container, wanted.data, layout, CONFIG);
    if (!this.container.dataset.drawn) {
      this.container.dataset.drawn = "yes";
      this.container.dispatchEvent(new CustomEvent("drawn"));
    }
  }
}
