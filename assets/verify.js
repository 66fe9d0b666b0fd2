// What a removal did: what was taken away, how much less likely that made the words, what the model says now.
// And what a check found: predicted against measured, a point for each ablation. Above both, what is at work.
// Every text is a text node. All of it is one component, so that what is watched while it runs is one element of the page.
const views = new WeakMap(); // parentElement -> View; the exported function runs again on new data or theme
const PLOT = { width: 400, height: 230, left: 46, right: 10, top: 10, bottom: 40 };

export default function verify({ data, parentElement, setTriggerValue }) {
  let view = views.get(parentElement);
  if (!view) views.set(parentElement, (view = new View(parentElement)));
  view.stop = (name) => setTriggerValue("stop", name);
  view.update(data);
  return () => { view.root.remove(); views.delete(parentElement); };
}

class View {
  constructor(parent) {
    this.lines = new Map();
    this.parts = { removal: el("div"), check: el("div") };
    this.above = el("div", "lines");
    this.root = el("div", "vf", this.above, this.parts.removal, this.parts.check);
    this.shown = {};
    parent.append(this.root);
  }

  // A theme needs nothing, its colours are variables; what has not changed stays as it is, with its scrolling and selection.
  update(data) {
    this.tell(data.lines);
    for (const [name, draw] of [["removal", removal], ["check", check]]) {
      const shape = JSON.stringify(data[name]), part = this.parts[name];
      if (this.shown[name] === shape) continue;
      const scrolled = [...part.querySelectorAll(".text")].map((text) => text.scrollTop);
      part.replaceChildren(...(data[name] ? draw(data[name]) : []));
      part.querySelectorAll(".text").forEach((text, i) => {
        text.scrollTop = text.classList.contains("streaming") ? text.scrollHeight : (scrolled[i] ?? 0);
      });
      this.shown[name] = shape;
    }
  }

  // The same nodes again: a button must not be exchanged under the pointer.
  tell(lines) {
    const names = new Set(lines.map((line) => line.name));
    for (const [name, line] of this.lines) if (!names.has(name)) { line.box.remove(); this.lines.delete(name); }
    for (const { name, kind, text, part, stopping } of lines) {
      let line = this.lines.get(name);
      if (line?.kind !== kind) {
        line?.box.remove();
        this.lines.set(name, (line = kind === "progress" ? this.progress(name) : { box: el("p") }));
        line.kind = kind;
        line.box.classList.add("line", kind);
        line.text ??= line.box;
        this.above.append(line.box);
      }
      if (line.text.textContent !== text) line.text.textContent = text;
      if (kind !== "progress") continue;
      line.bar.style.width = `${part * 100}%`;
      line.button.disabled = stopping;
      line.button.textContent = stopping ? "Stopping…" : "Stop";
    }
  }

  progress(name) {
    const text = el("span"), bar = el("span", "done"), button = el("button", "stop");
    button.type = "button";
    button.addEventListener("click", () => this.stop(name));
    return { box: el("div", "", text, button, el("div", "going", bar)), text, bar, button };
  }
}

// ------------------------------------------------------------------------------------------------- a removal

function removal({ removed, drop, answers, hint }) {
  const away = el("section", "card", el("h4", "", removed.title, el("span", "note", removed.note)), list(removed.items));
  if (drop) away.append(said(drop.headline), bars(drop.bars), el("p", "note", drop.note));
  const right = el("section", answers ? "card answers" : "card empty");
  if (answers) {
    right.append(said(answers.headline, answers.changed), el("div", "texts", answer(answers.before), answer(answers.after)));
    if (answers.note) right.append(el("p", "note", answers.note));
  } else right.append(el("p", "note", hint));
  return [el("div", "removal", away, right)];
}

function list(items) {
  return el("ol", "", ...items.map((item) => el("li", "", el("span", "name", item.name), el("span", "share", item.share), el("q", "", item.text))));
}

function said(text, changed) {
  const node = el("p", changed ? "said changed" : "said", text);
  node.setAttribute("role", "status");
  return node;
}

// Rows from the same zero; where something became likelier, the zero stands inside.
function bars(rows) {
  const values = rows.flatMap((row) => [row.value, ...(row.draws ?? [])]);
  const low = Math.min(0, ...values), high = Math.max(0, ...values), span = high - low || 1;
  const at = (value) => `${((value - low) / span) * 100}%`;
  return el("div", "bars", ...rows.map((row) => {
    const bar = el("span", "bar"), track = el("div", "track", bar);
    bar.style.left = at(Math.min(0, row.value));
    bar.style.width = `${(Math.abs(row.value) / span) * 100}%`;
    for (const draw of row.draws ?? []) {
      const dot = el("span", "dot");
      dot.style.left = at(draw);
      track.append(dot);
    }
    const zero = el("span", "zero");
    zero.style.left = at(0);
    track.append(zero);
    return el("div", `row ${row.kind}`, el("span", "label", row.label), el("span", "value", row.text), track);
  }));
}

function answer({ title, note, words, streaming }) {
  const text = el("div", streaming ? "text streaming" : "text", ...words.map(word));
  return el("div", "answer", el("h4", "", title), text, el("p", "note", note));
}

function word([text, kind, pinned]) {
  const name = [kind, pinned ? "pinned" : ""].filter((c) => c && c !== "same").join(" ");
  if (!name) return document.createTextNode(text);
  const ends = text.length - text.trimEnd().length; // a mark ends with its last letter
  const tag = kind === "gone" ? "del" : kind === "new" ? "ins" : "span";
  const node = el(tag, name, text.slice(0, text.length - ends));
  const all = document.createDocumentFragment();
  all.append(node, text.slice(text.length - ends));
  return all;
}

// --------------------------------------------------------------------------------------------------- a check

function check({ headline, meaning, points, across, up, about }) {
  const words = el("div", "words", said(headline), ...meaning.map((sentence) => el("p", "", sentence)), el("p", "note", about));
  return [el("section", "card checked", words, el("div", "plot", scatter(points, across, up)))];
}

function scatter(points, across, up) {
  const { width, height, left, right, top, bottom } = PLOT, svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", `${points.length} points: ${up}, against ${across}`);
  const x = scale(points.map((p) => p[0]), left, width - right), y = scale(points.map((p) => p[1]), height - bottom, top);
  svg.append(node("path", { class: "axis", d: `M${left},${top}V${height - bottom}H${width - right}` }));
  for (const value of x.ends) svg.append(label(x(value), height - bottom + 14, short(value), "middle"));
  for (const value of y.ends) svg.append(label(left - 5, y(value) + 4, short(value), "end"));
  svg.append(label((left + width - right) / 2, height - 6, across, "middle", "title"));
  const title = label(0, 0, up, "middle", "title");
  title.setAttribute("transform", `translate(11 ${(top + height - bottom) / 2}) rotate(-90)`);
  svg.append(title);
  for (const [a, b] of points) svg.append(node("circle", { cx: x(a), cy: y(b), r: 4 }));
  return svg;
}

function scale(values, from, to) {
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || 1) * 0.06;
  const at = (value) => from + ((value - low + room) / (high - low + 2 * room || 1)) * (to - from);
  return Object.assign(at, { ends: low === high ? [low] : [low, high] });
}

function short(value) {
  const size = Math.abs(value);
  return (size && size < 1e-3 ? value.toExponential(0) : size < 0.1 ? value.toFixed(3) : size < 10 ? value.toFixed(2) : value.toFixed(0)).replaceAll("-", "−");
}

function label(x, y, text, anchor, name = "tick") {
  const made = node("text", { x, y, "text-anchor": anchor, class: name });
  made.textContent = text;
  return made;
}

function node(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function el(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children.filter((child) => child != null));
  return made;
}
