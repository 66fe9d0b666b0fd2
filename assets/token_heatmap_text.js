// Text to elements. Everything here ends in textContent: a prompt, a title or a response is text, never markup.

function el(tag, cls, ...children) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  e.append(...children.filter((c) => c !== "" && c != null)); // append() makes text nodes of strings
  return e;
}

// Control characters would be invisible (an ANSI code begins with one): show the pictures Unicode has for them. Those
// that turn the direction of what follows have none: show their names, and the text as it stands in the prompt.
const TURNS = { "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI" };
const readable = (text) => text.replace(/[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]/g, (c) => {
  if (c in TURNS) return `‹${TURNS[c]}›`;
  return c === "\r" ? c : c === "\x7f" ? "␡" : String.fromCharCode(0x2400 + c.charCodeAt(0));
});
const PILED = /\p{M}{5}/u; // more marks on one letter than a line has room for
const oneLine = (text) => readable(text).trim().replace(/\s*\n\s*/g, " ↵ ").replace(/[\t ]+/g, " ");
const blanks = { "\n": "↵", "\t": "⇥" };
const excerpt = (text, length) => {
  if (!text.trim()) return [...text.slice(0, length)].map((c) => blanks[c] ?? "␣").join(""); // white space can be a source too
  const line = oneLine(text.slice(0, length * 3)), letters = [...line];
  return letters.length > length || text.length > length * 3 ? letters.slice(0, length).join("").trimEnd() + "…" : line;
};

// Display units of tokens from..to (exclusive): tokens that share a character, or that split what a reader sees as
// one (an emoji with a skin tone, a letter with its accent), are drawn, hovered and scored as one.
function cutUnits(text, offsets, from, to, units) {
  const inside = insideGraphemes(text), begin = units.length;
  for (let t = from; t < to; t++) {
    const start = offsets[2 * t], end = offsets[2 * t + 1], last = units.length > begin ? units.at(-1) : null;
    if (last && (start < last.end || end === start || last.start === last.end || inside?.[start])) {
      last.end = Math.max(last.end, end);
      last.last = t;
    } else units.push({ start, end, first: t, last: t });
  }
  return units.length - begin;
}
// A token mostly begins with the space before its word: it belongs to the sentence of the word.
function visibleStart(text, { start, end }) {
  const blank = text.slice(start, end).search(/\S/);
  return start + Math.max(0, blank);
}
const graphemes = new Map(); // text -> marks; two texts at a time: a prompt and a response
function insideGraphemes(text) {
  if (!/[^\x00-\u02ff\u2010-\u2027]/.test(text) || !Intl.Segmenter) return null;
  if (!graphemes.has(text)) {
    if (graphemes.size > 1) graphemes.clear();
    const marks = new Uint8Array(text.length + 1).fill(1);
    for (const { index } of new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text)) marks[index] = 0;
    marks[text.length] = 0;
    graphemes.set(text, marks);
  }
  return graphemes.get(text);
}

// Append characters start..end as the elements of units[from..]; what no token covers is plain text between them.
function fillText(parent, text, start, end, units, from) {
  let at = start;
  for (let u = from; u < units.length; u++) {
    const unit = units[u];
    if (unit.start > at) parent.append(readable(text.slice(at, unit.start)));
    // A token may begin with a space that the template owns: it is not drawn twice.
    unit.node = unitElement(text.slice(Math.max(unit.start, start), Math.min(unit.end, end)), u);
    parent.append(unit.node);
    at = Math.max(at, unit.end);
  }
  if (at < end) parent.append(readable(text.slice(at, end)));
}
function unitElement(text, u) {
  const node = el("span", PILED.test(text) ? "u piled" : "u");
  node.unit = u;
  if (!text.includes("\n")) node.textContent = readable(text);
  else
    for (const piece of text.split(/(\n)/)) // a line break is a token too: give it something to point at
      if (piece === "\n") node.append(el("i", "nl", "↵"), "\n");
      else if (piece) node.append(readable(piece));
  return node;
}

// The prompt: documents as cards, other parts with their role, and the template between them (hidden by default).
// numbered: the titles say by themselves which document is which.
function buildPrompt(pane, { prompt, parts, offsets, titles, numbered }) {
  const units = [];
  let card = null, token = 0, char = 0;
  const add = (box, start, end, from, to) => {
    const first = units.length;
    cutUnits(prompt, offsets, from, to, units);
    fillText(box, prompt, start, end, units, first);
  };
  const template = (box, end, to) => {
    if (end <= char && to <= token) return;
    const gap = el("div", "template");
    add(gap, char, Math.max(char, end), token, to);
    box.append(gap);
  };
  for (const part of parts) {
    const belongs = card && part.document != null && card.document === part.document;
    template(belongs ? card.box : pane, part.start, part.tokenStart);
    if (!belongs) {
      card = part.document == null ? null : { document: part.document, box: el("section", "doc"), name: el("span", "name") };
      if (card) {
        const bare = titles.length < 2 || numbered; // one context needs no number
        card.box.append(el("header", "", ...(bare ? [] : [el("b", "badge", `Doc ${part.document + 1}`)]), card.name));
        card.box.setAttribute("aria-label", numbered ? titles[part.document] : `Document ${part.document + 1}`);
        pane.append(card.box);
      }
    }
    if (part.kind === "title" && card) add(card.name, part.start, part.end, part.tokenStart, part.tokenEnd);
    else {
      const body = el("div", "body");
      const first = units.length;
      add(body, part.start, part.end, part.tokenStart, part.tokenEnd);
      markPages(part, units.slice(first));
      if (card && part.kind === "context") {
        if (!card.name.hasChildNodes()) card.name.append(readable(titles[part.document] || "Context"));
        card.box.append(body);
      } else pane.append(el("section", `turn ${part.kind}`, el("header", "", part.role), body));
    }
    token = part.tokenEnd;
    char = part.end;
  }
  template(pane, prompt.length, offsets.length / 2);
  return units;
}

// The page on which a source begins, if its document has pages (see `page_of` in at2_core/sources.py).
const pageOf = (item, part) => part?.pages?.findLast(([start]) => start <= item.start)?.[1];

// The number of each page above its first line; no text, so that it is nothing to point at.
function markPages(part, units) {
  for (const [start, number] of part.pages) {
    const mark = el("i", "page"), unit = units.find(({ end }) => end > start);
    mark.dataset.page = number;
    unit?.node.before(mark);
  }
}

// The response: sentences of units; each with a place for its citations, before the white space that ends it.
// kinds: for every sentence "a" (answer), "t" (thought) or "m" (a thought's marker); thought: the pane of the last two.
function buildResponse(pane, { response, sentences, offsets, kinds, thought }) {
  const units = [], spans = [], kindOfUnit = [];
  cutUnits(response, offsets, 0, offsets.length / 2, units);
  units.forEach((unit, u) => { unit.node = unitElement(response.slice(unit.start, unit.end), u); });
  let u = 0;
  for (const [k, [, end]] of (sentences.length ? sentences : [[0, response.length]]).entries()) {
    const first = u;
    while (u < units.length && (visibleStart(response, units[u]) < end || end === sentences.at(-1)?.[1])) u++;
    if (u > first) spans.push({ first, last: u - 1, end, kind: kinds?.[k] ?? "a" });
    kindOfUnit.push(...Array(u - first).fill(spans.at(-1)?.kind));
  }
  let at = 0, body = null, rest = null; // rest: of a unit that a border runs through, what belongs behind it
  for (const [k, span] of spans.entries()) {
    const box = el("span", span.kind === "m" ? "sentence marker" : "sentence"), cites = el("span", "cites");
    const home = span.kind === "a" || !thought ? pane : thought;
    if (body?.parentNode !== home) home.append((body = el("div", "body")));
    let last = span.last;
    while (last > span.first && !response.slice(units[last].start, units[last].end).trim()) last--;
    if (rest) box.append(rest);
    rest = null;
    for (let i = span.first; i <= span.last; i++) {
      const unit = units[i], border = spans[k + 1]?.kind !== span.kind && k + 1 < spans.length ? span.end : unit.end;
      const text = response.slice(unit.start, Math.min(unit.end, border));
      if (unit.end > border) {
        unit.node = unitElement(text, i);
        rest = unitElement(response.slice(border, unit.end), i);
      }
      if (unit.start > at) box.append(readable(response.slice(at, unit.start)));
      at = Math.max(at, unit.end);
      const bare = text.trimEnd();
      if (i === last && bare && bare !== text) { // ".\n\n": the mark goes behind the full stop
        unit.node = unitElement(bare, i);
        box.append(el("span", "tail", unit.node, cites), unitElement(text.slice(bare.length), i));
      } else box.append(i === last ? el("span", "tail", unit.node, cites) : unit.node);
    }
    Object.assign(span, { box, cites, text: response.slice(units[span.first].start, units[span.last].end) });
    body.append(box);
  }
  if (!body) pane.append((body = el("div", "body")));
  if (rest) body.append(rest);
  if (at < response.length) body.append(readable(response.slice(at)));
  return { units, kindOfUnit, sentences: spans.filter((span) => span.kind !== "m") };
}
