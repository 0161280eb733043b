// Data that a page keeps in this browser, separately for each datastore, because several can share a host.

const PREFIX = `glitchflow ${new URL(".", document.baseURI).pathname} `;

/** Return what is kept under a name, or `otherwise`. */
export function kept(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? otherwise;
  } catch {
    return otherwise; // the browser keeps nothing, or something else has written it
  }
}

/** Keep a value; it is lost with the page if the browser has no space for it. */
export function keep(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    console.info(`this browser does not keep the ${name}`);
  }
}

/** Call `listener` when another tab has changed what is kept under a name. */
export function onKept(name, listener) {
  addEventListener("storage", ({ key }) => key === PREFIX + name && listener());
}
