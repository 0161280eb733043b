// The schema of GraphQL as a tree; each field of it can be inserted into the query.

import { element } from "./dom.js";

const INTROSPECTION = `{
  __schema {
    queryType { name }
    mutationType { name }
    types {
      kind name description
      fields { name description args { ...Input } type { ...Type } }
      inputFields { ...Input }
      enumValues { name description }
    }
  }
}
fragment Input on __InputValue { name description defaultValue type { ...Type } }
fragment Type on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }`;

/** Read the schema by `ask`, which answers a query, into a tree; `insert` is called with the kind of operation and a path of fields. */
export async function showSchema(container, ask, insert) {
  const { data, errors } = await ask(INTROSPECTION);
  if (!data) throw new Error(errors[0].message);
  const { queryType, mutationType, types } = data.__schema;
  const schema = new Schema(types, insert);
  container.replaceChildren(
    ...[["query", queryType], ["mutation", mutationType]].filter(([, type]) => type).flatMap(([root, { name }]) => [element("h3", {}, name), schema.fieldsOf(name, root, [])]),
    schema.inputs(),
  );
}

class Schema {
  #types;
  #insert;

  constructor(types, insert) {
    this.#types = new Map(types.map((type) => [type.name, type]));
    this.#insert = insert;
  }

  /** Return the list of the fields of a type, which are inserted after a path of fields. */
  fieldsOf(type, root, path) {
    return element("ul", {}, ...this.#types.get(type).fields.map((field) => this.#itemOf(field, root, path)));
  }

  /** Return the list of the types of arguments. */
  inputs() {
    const types = [...this.#types.values()].filter(({ kind, name }) => !name.startsWith("__") && (kind === "INPUT_OBJECT" || kind === "ENUM"));
    return element("details", {}, element("summary", {}, "Types of arguments"), ...types.flatMap(({ name, description, inputFields, enumValues }) => [
      element("h3", {}, name),
      description && element("p", { class: "hint" }, description),
      element("ul", {}, ...(inputFields ?? enumValues).map((each) => element("li", {}, element("span", { class: "type" }, each.type ? inputText(each) : each.name), hint(each)))),
    ]));
  }

  #itemOf(field, root, before) {
    const type = this.#types.get(named(field.type).name);
    const path = [...before, this.#stepOf(field, type)];
    const name = element("button", { type: "button", class: "name" }, element("span", { class: "visually-hidden" }, "Insert "), field.name);
    name.addEventListener("click", () => this.#insert(root, path));
    const args = field.args.length ? `(${field.args.map(inputText).join(", ")})` : "";
    const item = element("li", {}, name, element("span", { class: "type" }, `${args}: ${typeText(field.type)}`), hint(field));
    if (type.fields) item.prepend(toggle(field.name, () => this.fieldsOf(type.name, root, path), item));
    return item;
  }

  /** Return what is inserted for a field: its name, its required arguments, and those fields of it that are no objects. */
  #stepOf({ name, args }, type) {
    const required = args.filter(({ type: { kind }, defaultValue }) => kind === "NON_NULL" && defaultValue === null);
    const plain = (type.fields ?? []).filter((each) => !this.#types.get(named(each.type).name).fields && !each.args.length);
    return {
      name,
      args: required.length ? `(${required.map((each) => `${each.name}: ${named(each.type).kind === "SCALAR" ? '""' : "{}"}`).join(", ")})` : "",
      leaves: type.fields && !plain.length ? ["__typename"] : plain.map((each) => each.name),
    };
  }
}

/** Return a button that shows and hides a list in an item; `make` makes it when it is shown first. */
function toggle(name, make, item) {
  const button = element("button", { type: "button", class: "quiet toggle", "aria-expanded": "false", "aria-label": `Fields of ${name}` }, element("span", { "aria-hidden": "true" }, "▶"));
  let list = null;
  button.addEventListener("click", () => {
    const opened = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(opened));
    if (!list) item.append(list = make());
    list.hidden = !opened;
  });
  return button;
}

const hint = ({ description }) => (description ? element("p", { class: "hint" }, description) : null);

const inputText = ({ name, type, defaultValue }) => `${name}: ${typeText(type)}${defaultValue === null ? "" : ` = ${defaultValue}`}`;

function typeText({ kind, name, ofType }) {
  if (kind === "NON_NULL") return `${typeText(ofType)}!`;
  return kind === "LIST" ? `[${typeText(ofType)}]` : name;
}

const named = (type) => (type.ofType ? named(type.ofType) : type);
