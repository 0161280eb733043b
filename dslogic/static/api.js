// The routes of the service that the page was loaded from; every address is relative to the page.

const routes = JSON.parse(document.body.dataset.routes);

/** An error that the datastore answered, or no answer at all (status 0). */
export class Refusal extends Error {
  constructor(status, problem, retryAfter = null) {
    super(problem.detail || problem.title || `the datastore answered ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.retryAfter = retryAfter;
  }
}

export const offers = (route) => route in routes;

/** Return the address of a route; `rest` is appended, query values that are null or empty are left out, lists repeated. */
export function address(route, rest = "", query = {}) {
  const values = Object.entries(query).flatMap(([name, value]) => [value].flat().map((each) => [name, each]));
  const asked = new URLSearchParams(values.filter(([, value]) => value != null && value !== ""));
  const url = new URL(routes[route] + rest, document.baseURI);
  url.search = asked.toString();
  return url.href;
}

export async function request(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, { detail: error.name === "TimeoutError" ? "The datastore does not answer." : "The datastore cannot be reached." });
  }
  if (answer.ok) return answer;
  throw new Refusal(answer.status, await problemOf(answer), Number(answer.headers.get("Retry-After")) || null);
}

async function problemOf(answer) {
  try {
    return await answer.json();
  } catch {
    return {};
  }
}

export const read = async (route, query = {}, rest = "", options = {}) => (await request(address(route, rest, query), options)).json();

/** Send an order; return the answer, decoded if it is JSON. */
export async function order(route, body, rest = "", method = "POST") {
  const headers = { "Content-Type": "application/json" };
  const answer = await request(address(route, rest), { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  return answer.headers.get("Content-Type")?.includes("json") ? JSON.parse(text) : text;
}
