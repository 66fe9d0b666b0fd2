// What a removal did: what was taken away, how much less likely that made the words, what the model says now.
// And what a check found: predicted against measured, a point for each ablation. Above both, what is at work.
// Every text is a text node. All of it is one component, so that what is watched while it runs is one element of the page.
const PLOT = { width: 400, height: 230, left: 46, right: 10, top: 10, bottom: 40 };

export default function verify(mount) { return mounted(View, mount); }

class View {
  constructor(parent) {
    this.lines = new Map();
    this.removal = new Removal();
    this.check = el("div");
    this.above = el("div", "lines");
    this.live = el("div", "unseen");
    this.live.setAttribute("role", "status");
    this.root = el("div", "vf", this.above, this.removal.box, this.check, this.live);
    parent.append(this.root);
  }

  // A theme needs nothing, its colours are variables; what has not changed stays as it is, with its scrolling and selection.
  update(data) {
    this.tell(data.lines);
    this.removal.update(data.removal);
    redraw(this.check, data.check, check);
    const { drop, answers } = data.removal, said = [drop?.headline, answers && !answers.after.streaming ? answers.headline : "", data.check?.headline];
    put(this.live, said.filter(Boolean).join(" "));
  }
  close() { this.root.remove(); }

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
      put(line.text, text);
      if (kind !== "progress") continue;
      line.bar.style.width = `${part * 100}%`;
      line.button.disabled = stopping;
      line.button.textContent = stopping ? "Stopping…" : "Stop";
    }
  }

  progress(name) {
    const text = el("span"), bar = el("span", "done"), button = el("button", "stop");
    button.type = "button";
    button.addEventListener("click", () => this.mount.setTriggerValue("stop", name));
    return { box: el("div", "", text, button, el("div", "going", bar)), text, bar, button };
  }
}

// ------------------------------------------------------------------------------------------------- a removal

// An answer comes word by word: its elements stay, so that what is read, scrolled or marked in it does too.
class Removal {
  constructor() {
    this.away = el("section", "card");
    this.headline = said();
    this.before = new Answer();
    this.after = new Answer();
    this.note = el("p", "note");
    this.texts = el("div", "texts", this.before.box, this.after.box);
    this.hint = el("p", "note");
    this.right = el("section");
    this.box = el("div", "", el("div", "removal", this.away, this.right));
  }
  update({ removed, drop, answers, hint }) {
    redraw(this.away, { removed, drop }, away);
    put(this.hint, hint);
    if (!!answers !== this.answered) this.right.replaceChildren(...(answers ? [this.headline, this.texts, this.note] : [this.hint]));
    this.answered = !!answers;
    this.right.className = answers ? "card answers" : "card empty";
    if (!answers) return;
    put(this.headline, answers.headline);
    this.headline.classList.toggle("changed", answers.changed);
    this.before.update(answers.before);
    this.after.update(answers.after);
    put(this.note, answers.note);
  }
}

class Answer {
  constructor() {
    this.title = el("h4");
    this.text = el("div", "text");
    this.note = el("p", "note");
    this.box = el("div", "answer", this.title, this.text, this.note);
    this.runs = []; // of words with the same fate: {shape, nodes}
  }
  update({ title, note, words, streaming }) {
    put(this.title, title);
    put(this.note, note);
    this.text.classList.toggle("streaming", streaming);
    const shapes = words.map((run) => JSON.stringify(run)), { runs } = this, end = this.text.scrollHeight - this.text.clientHeight;
    const following = this.text.scrollTop >= end - 4; // who has scrolled back reads
    let same = 0;
    while (same < runs.length && runs[same].shape === shapes[same]) same += 1;
    if (same === runs.length && same === words.length) return;
    for (const { nodes } of runs.splice(same)) for (const node of nodes) node.remove();
    for (let k = same; k < words.length; k += 1) {
      const nodes = word(words[k]);
      this.text.append(...nodes);
      runs.push({ shape: shapes[k], nodes });
    }
    if (streaming && following) this.text.scrollTop = this.text.scrollHeight;
  }
}

// Anew where it is something else.
function redraw(box, shown, draw) {
  const shape = JSON.stringify(shown);
  if (box.shape === shape) return;
  box.shape = shape;
  box.replaceChildren(...(shown ? draw(shown) : []));
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function away({ removed, drop }) {
  const taken = [el("h4", "", removed.title, el("span", "note", removed.note)), list(removed.items)];
  return drop ? [...taken, said(drop.headline), bars(drop.bars), el("p", "note", drop.note)] : taken;
}

function list(items) {
  return el("ol", "", ...items.map((item) => el("li", "", el("span", "name", item.name), el("span", "share", item.share), el("q", "", item.text))));
}

function said(text = "") {
  return el("p", "said", text);
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

// The nodes of a run.
function word([text, kind, pinned]) {
  const name = [kind, pinned ? "pinned" : ""].filter((c) => c && c !== "same").join(" ");
  if (!name) return [document.createTextNode(text)];
  const ends = text.length - text.trimEnd().length; // a mark ends with its last letter
  const tag = kind === "gone" ? "del" : kind === "new" ? "ins" : "span";
  return [el(tag, name, text.slice(0, text.length - ends)), document.createTextNode(text.slice(text.length - ends))];
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
