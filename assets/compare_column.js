// One method: its name, what it costs, its first three sources, and the prompt coloured by its scores.
//
// Scores are (response, sources), one matrix a method. What is drawn is each method's score divided by its own largest
// absolute one, since methods do not share a scale.

const TOP = 3;

// A source is one element here, also when it runs over many lines: it ends where its element ends.
class SourcePainter extends Painter {
  boxes() {
    if (this.places && this.places.seen === this.layout()) return this.places;
    if (this.places) this.moved();
    const { units, items } = this, tops = Float64Array.from(units, (unit) => unit.node.offsetTop);
    const top = new Float64Array(items.length), bottom = new Float64Array(items.length);
    items.forEach(({ first }, i) => {
      top[i] = tops[first];
      bottom[i] = Math.max(tops[first] + units[first].node.offsetHeight, i ? bottom[i - 1] : 0);
    });
    return (this.places = { tops, top, bottom, seen: this.layout() });
  }
}

// The prompt in an element of its own, ready to be coloured by source.
function sourceText(label, { prompt, parts, titles, numbered, pieces, sources }) {
  const box = pane("prompt", label), painter = new SourcePainter(box);
  painter.units = buildPrompt(box, { prompt, parts, titles, numbered, offsets: pieces });
  const unitOfPiece = new Int32Array(pieces.length / 2), sourceOfUnit = new Int32Array(painter.units.length).fill(-1);
  painter.units.forEach((unit, u) => unitOfPiece.fill(u, unit.first, unit.last + 1));
  painter.setItems(sources.map(([piece], s) => {
    const unit = unitOfPiece[piece];
    if (sourceOfUnit[unit] < 0) sourceOfUnit[unit] = s;
    painter.units[unit].node.classList.add("source");
    return { first: unit, last: unit };
  }));
  return { box, painter, sourceOfUnit };
}

class Column {
  // seen: {point(source or null), go(source)} says what a person did in the header
  constructor(text, { key, name }, seen) {
    this.key = key;
    Object.assign(this, sourceText(`Prompt by ${name}. Arrow keys move over the sources.`, text));
    this.title = el("h3");
    this.cost = el("p", "cost");
    this.about = el("p", "about");
    this.note = el("p", "nothing");
    this.rows = Array.from({ length: TOP }, (_, k) => topRow(k + 1, seen));
    this.top = el("ol", "top", ...this.rows.map((row) => row.box));
    this.fill = el("div", "fill", this.box);
    this.section = el("section", "pane method", el("header", "", this.title, this.cost, this.about, this.top), this.fill, this.note);
    this.scoresId = null;
  }

  load({ name, about, cost, note, scores, scores_id }) {
    Object.assign(this, { name, ready: scores !== null });
    put(this.title, name);
    put(this.cost, cost);
    put(this.about, about);
    put(this.note, note);
    this.title.title = name;
    this.cost.title = cost;
    this.about.title = about;
    this.top.hidden = this.fill.hidden = !this.ready;
    this.note.hidden = this.ready;
    if (scores_id === this.scoresId) return;
    this.scoresId = scores_id;
    this.scores = this.ready ? float32(scores) : null; // (response, sources), row-major
    this.whole = null;
    this.painter.moved();
  }

  // What the target takes from each source, by the method's own largest: (sources), from -1 to 1.
  // whole: the runs that are looked at where there is no target.
  valuesFor(target, whole, count) {
    if (!target && this.whole) return this.whole;
    const out = meanOfRows(this.scores, count, target ? [target] : whole, new Float64Array(count));
    let most = 0;
    for (const v of out) most = Math.max(most, Math.abs(v));
    if (most) for (let s = 0; s < count; s++) out[s] /= most;
    if (!target) this.whole = out;
    return out;
  }

  show(values, describe) {
    this.values = values;
    this.painter.paint(Int8Array.from(values, (v) => Math.round(LEVELS * v)), 0);
    const best = firstOf(values, TOP);
    this.rows.forEach((row, k) => row.show(k < best.length ? best[k] : null, values, describe));
  }
  rest() { if (this.ready) this.painter.paint(undefined, MARGIN, true); }
}

function topRow(rank, seen) {
  const text = el("span", "what"), value = el("span", "value"), meter = el("span", "meter");
  let source = null;
  const press = button("", "", () => source !== null && seen.go(source));
  press.append(el("span", "rank", String(rank)), text, value, el("span", "track", meter));
  text.dir = "auto";
  for (const event of ["pointerenter", "focus"]) press.addEventListener(event, () => seen.point(source));
  for (const event of ["pointerleave", "blur"]) press.addEventListener(event, () => seen.point(null));
  return {
    box: el("li", "", press),
    show(which, values, describe) {
      source = which;
      press.parentNode.hidden = which === null;
      if (which === null) return;
      const { name, text: said } = describe(which);
      put(text, said);
      press.title = `${name}: ${said}`;
      put(value, fixed(values[which]));
      meter.style.transform = `scaleX(${Math.abs(values[which])})`;
      press.classList.toggle("against", values[which] < 0);
    },
  };
}

// The k highest values, highest first; of equal ones the earlier source.
function firstOf(values, k) {
  const best = [];
  for (let i = 0; i < values.length; i++) {
    if (best.length === k && values[i] <= values[best[k - 1]]) continue;
    let at = Math.min(best.length, k - 1);
    for (; at > 0 && values[best[at - 1]] < values[i]; at--) best[at] = best[at - 1];
    best[at] = i;
  }
  return best;
}
function placeOf(values, index) {
  let place = 1;
  for (const v of values) if (v > values[index]) place++;
  return place;
}
const fixed = (value) => `${value < -0.004 ? "−" : ""}${Math.abs(value).toFixed(2)}`;
const plus = (value) => (value > 0.004 ? `+${fixed(value)}` : fixed(value));
