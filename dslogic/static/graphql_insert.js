// Inserts fields into the text of a GraphQL document, at their places in its selections.

const TOKEN = /"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|#[^\n]*|\.\.\.|[A-Za-z_]\w*|[{}()[\]:!$@=|&]|-?\d[\w.+-]*/g;

/**
 * Return {text, at}: the document with a field, and the place after it.
 *
 * `root` is `query` or `mutation`; `path` are the fields that lead to it, each {name, args, leaves}: the text of its
 * required arguments, and the fields that are inserted with it if it has no other.
 */
export function insertField(text, root, path) {
  let within = operationOf(text, root);
  if (!within) {
    const before = text.trimEnd() && `${text.trimEnd()}\n\n`;
    const added = `${before}${root} {\n${written(path, 1)}`;
    return { text: `${added}\n}\n`, at: added.length };
  }
  for (let depth = 0; ; depth += 1) {
    const known = within.fields.find(({ name }) => name === path[depth].name);
    if (!known) return appended(text, within, path.slice(depth), depth + 1);
    if (depth === path.length - 1) return { text, at: known.end };
    if (!known.within) return spliced(text, known.end, ` {\n${written(path.slice(depth + 1), depth + 2)}`, `\n${indent(depth + 1)}}`);
    within = known.within;
  }
}

const indent = (depth) => "  ".repeat(depth);

/** Return the text of a path of fields, each in the selection of the one before. */
function written([{ name, args, leaves }, ...rest], depth) {
  const inner = rest.length ? written(rest, depth + 1) : leaves.map((leaf) => indent(depth + 1) + leaf).join("\n");
  return `${indent(depth)}${name}${args}${inner && ` {\n${inner}\n${indent(depth)}}`}`;
}

/** Append a path of fields to a selection. */
function appended(text, { end }, path, depth) {
  const last = text.slice(0, end).trimEnd().length;
  return spliced(text, last, `\n${written(path, depth)}`, text.slice(last, end).includes("\n") ? "" : `\n${indent(depth - 1)}`);
}

const spliced = (text, at, added, after) => ({ text: text.slice(0, at) + added + after + text.slice(at), at: at + added.length });

/** Return the selection of the first operation of a kind, or null. */
function operationOf(text, root) {
  const tokens = [...text.matchAll(TOKEN)].map(({ 0: word, index }) => ({ word, start: index, end: index + word.length })).filter(({ word }) => !word.startsWith("#"));
  let kind = null;
  for (let place = 0; place < tokens.length;) {
    const { word } = tokens[place];
    if (word === "{") {
      const [selection, next] = selectionAt(tokens, place, text.length);
      if ((kind ?? "query") === root) return selection;
      [kind, place] = [null, next];
    } else if (word === "(") {
      place = afterArguments(tokens, place);
    } else {
      kind ??= word;
      place += 1;
    }
  }
  return null;
}

/** Return the selection that begins at a token, {fields, end}, and the place after it; fields with an alias have no name. */
function selectionAt(tokens, opening, length) {
  const fields = [];
  let place = opening + 1;
  while (place < tokens.length && tokens[place].word !== "}") {
    const { word } = tokens[place];
    if (word === "{") {
      place = selectionAt(tokens, place, length)[1]; // of an inline fragment
    } else if (word === "(") {
      place = afterArguments(tokens, place);
    } else if (word === "@") {
      place += 2;
    } else if (word === "...") {
      place += tokens[place + 1]?.word === "on" ? 3 : tokens[place + 1]?.word.match(/^\w/) ? 2 : 1;
    } else {
      const aliased = tokens[place + 1]?.word === ":";
      const [field, next] = fieldAt(tokens, place + (aliased ? 2 : 0), length);
      fields.push(aliased ? { ...field, name: null } : field);
      place = next;
    }
  }
  return [{ fields, end: tokens[place]?.start ?? length }, place + 1];
}

/** Return the field at a token, {name, end, within}: `end` is before its selection `within`, or null. */
function fieldAt(tokens, start, length) {
  let place = start + 1;
  while (["(", "@"].includes(tokens[place]?.word)) place = tokens[place].word === "(" ? afterArguments(tokens, place) : place + 2;
  const field = { name: tokens[start]?.word, end: tokens[place - 1]?.end ?? length, within: null };
  if (tokens[place]?.word !== "{") return [field, place];
  const [within, next] = selectionAt(tokens, place, length);
  return [{ ...field, within }, next];
}

function afterArguments(tokens, opening) {
  let depth = 0;
  for (let place = opening; place < tokens.length; place += 1) {
    depth += { "(": 1, ")": -1 }[tokens[place].word] ?? 0;
    if (!depth) return place + 1;
  }
  return tokens.length;
}
