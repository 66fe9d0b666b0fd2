// Sources: whose words they are, which of them a scope takes, what they are called, and which a response cites.

const ROLES = ["context", "title", "query", "system", "user", "assistant", "history", "thought", "response"]; // as the rows of sources count them
const OWN = ["thought", "response"]; // in the response itself
const SCOPES = {
  context: ["Context", "Only the context, or the documents' texts"],
  prompt: ["Whole prompt", "Every part of the prompt: system message, earlier turns, titles, context and query"],
  thought: ["Thought", "Only what the model thought before its answer"],
  all: ["Prompt and earlier response", "Every part of the prompt, and of the response what stands before the target"],
};
const inScope = ({ role }, scope) => (scope === "context" || scope === "thought" ? role === scope : scope === "all" || !OWN.includes(role));
const reaches = (scope) => scope === "thought" || scope === "all"; // into the response

// Sources as items of a painter. Two that share a display unit are one: nobody can point at half a letter.
function sourcesOf(rows, unitOfToken) {
  const items = [], numbers = {};
  for (let i = 0; i < rows.length; i += 7) {
    const [start, end, tokenStart, tokenEnd, document, role, turn] = rows.subarray(i, i + 7), before = items.at(-1);
    if (tokenEnd <= tokenStart) continue;
    const first = Math.max(unitOfToken[tokenStart], before ? before.last + 1 : 0), last = unitOfToken[tokenEnd - 1];
    if (first > last) Object.assign(before, { end: Math.max(before.end, end), tokenEnd: Math.max(before.tokenEnd, tokenEnd) });
    else {
      const item = { start, end, tokenStart, tokenEnd, document, role: ROLES[role], turn, first, last }, group = `${item.role} ${turn}`;
      item.number = numbers[group] = (numbers[group] ?? 0) + 1; // among those of its role
      items.push(item);
    }
  }
  for (const item of items) item.alone = numbers[`${item.role} ${item.turn}`] === 1;
  return items;
}

// For every unit the item it belongs to, or -1.
function ownersOf(items, count) {
  const owners = new Int32Array(count).fill(-1);
  items.forEach(({ first, last }, i) => owners.fill(i, first, last + 1));
  return owners;
}

// What a source is called in a list, from its role, page and number. A whole document is on no page.
function nameOfSource(item, { titles, numbered, granularity, scope, thought, part, page = granularity === "document" ? null : pageOf(item, part) }) {
  const title = titles[item.document];
  const which = granularity === "document" || (item.alone && item.role !== "context") ? "" : ` · ${granularity} ${item.number}`;
  if (item.role === "title") return `Title${titles.length > 1 ? ` of doc ${item.document + 1}` : ""}`;
  if (item.role === "context") {
    const place = page ? (title ? `${excerpt(title, 32)}, p. ${page}` : `Page ${page}`) : title && excerpt(title, 40);
    if (titles.length > 1 && numbered) return title;
    if (titles.length > 1) return `Doc ${item.document + 1}${place ? ` · ${place}` : ""}`;
    if (!which) return (place || "Context") + (item.alone ? "" : ` · part ${item.number}`); // where control tokens cut it
    if (page) return place + which;
    return scope === "context" ? capital(which.slice(3)) : `Context${which}`; // where there is nothing else, its number says enough
  }
  const role = { thought: "Thought", response: thought ? "Answer" : "Response" }[item.role] ?? part?.role ?? capital(item.role);
  return role + which;
}

// [1] [2] behind each sentence of the response; numbers belong to sources, in the order in which they are first cited.
// Returns them by where the source starts.
function cite(view) {
  const items = view.itemsOf("sentence"), numbers = new Map();
  for (const box of view.boxes()) box.querySelectorAll("[data-cite]").forEach((mark) => { const node = mark.parentNode; mark.remove(); node.normalize(); });
  for (const sentence of view.sentences) {
    sentence.cites.replaceChildren();
    if (!/[\p{L}\p{N}]/u.test(sentence.text)) continue;
    const values = sourceSums(items, view.meanFor(view.tokensOf(sentence))), total = sumOfAbs(values);
    for (const s of citedSources(values)) {
      const item = items[s], share = percent(values[s] / total), place = placeOf(view, item);
      if (!numbers.has(item.start)) {
        numbers.set(item.start, numbers.size + 1);
        markSource(view.forward.units[item.first].node, numbers.get(item.start));
      }
      const number = numbers.get(item.start), mark = button("cite", `[${number}]`, () => view.jump(item));
      mark.title =
        `Source ${number}${place}: ${share} of this sentence's score\n“${view.textOf(item, 140)}”\n\nCited are sentences with at least ` +
        `${percent(citedFrom(items.length))} (an even split would be ${percent(1 / items.length)}) and at least half of the strongest one's ` +
        "share, three at most. A mark says what the model used, not that it is true; no mark does not mean unverified.";
      mark.setAttribute("aria-label", `Go to source ${number}${place}, ${share}`);
      sentence.cites.append(mark);
    }
  }
  return numbers;
}

// " (harbour, p. 2)" for a source of a document with pages.
function placeOf(view, item) {
  const page = pageOf(item, view.partOf(item));
  return page ? ` (${nameOfSource({ ...item, alone: true }, { titles: view.text.titles, granularity: "document", page })})` : "";
}

// The number of a cited source, right before its first letter: in front of the space it would seem to end the sentence before.
function markSource(node, number) {
  const text = [...node.childNodes].find((child) => child.data?.trim()), mark = el("i");
  mark.dataset.cite = number;
  if (!text) return node.prepend(mark);
  const blank = text.data.search(/\S/);
  mark.className = blank > 0 ? "" : "lead";
  (blank > 0 ? text.splitText(blank) : text).before(mark);
}
