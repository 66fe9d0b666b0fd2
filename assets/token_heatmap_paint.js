// Colour behind text. A Painter holds the items of one pane (a source, or a part of the response: a run of units)
// and draws those in view, so that a hover costs the same in a prompt of 200 tokens and of 8,000.
//
// The colour is an SVG under the text, one path per item; a change of colour then leaves the text alone. Measured in
// Chromium at 8,000 tokens with every sentence coloured, a change takes 2.6 ms so, 5.5 ms with the Custom Highlight
// API (which paints the text again) and 40 ms with a background on every token.

const LEVELS = 24;
const MARGIN = 300; // px drawn beyond the visible part once the pointer rests, so that scrolling shows no bare text
const AHEAD = 200; // so many shapes at most are made before they are needed, while the pointer rests
const MARKS = ["pin", "on", "picked", "cursor"]; // pinned, pointed at; the source pointed at or pinned; where the keyboard is

class Painter {
  constructor(scroller) {
    this.scroller = scroller;
    this.units = []; // one per display unit: {node: the text's element}
    this.sheet = svg("svg", "heat");
    this.marks = Object.fromEntries(MARKS.map((name) => [name, { fill: svg("path", `${name} fill`), rule: svg("path", name), item: null }]));
    this.heat = svg("g", "scores");
    this.sheet.append(this.heat, ...MARKS.flatMap((name) => [this.marks[name].fill, this.marks[name].rule]));
    scroller.prepend(this.sheet);
    this.setItems([]);
  }

  // items: [{first, last}] unit indices, in reading order
  setItems(items) {
    this.items = items;
    this.levels = null;
    this.moved();
  }

  // After anything that changes the layout: where things were drawn says nothing any more.
  moved() {
    this.places = null;
    this.heat.replaceChildren();
    this.paths = new Array(this.items.length);
    this.painted = new Int8Array(this.items.length);
    for (const name of MARKS) this.marks[name].drawn = undefined;
  }

  // Where each item begins and ends, in px from the top of the scroller's content. One layout read per change.
  boxes() {
    if (this.places && this.places.seen === this.layout()) return this.places;
    if (this.places) this.moved();
    const { units, items } = this, line = parseFloat(getComputedStyle(this.scroller).lineHeight) || 24;
    const tops = Float64Array.from(units, (unit) => unit.node.offsetTop);
    const top = new Float64Array(items.length), bottom = new Float64Array(items.length);
    items.forEach((item, i) => {
      top[i] = tops[item.first];
      bottom[i] = Math.max(tops[item.last] + line, i ? bottom[i - 1] : 0);
    });
    return (this.places = { tops, top, bottom, seen: this.layout() });
  }
  layout() {
    const { scroller, units } = this, last = units.at(-1)?.node;
    return `${scroller.clientWidth} ${scroller.scrollHeight} ${last?.offsetLeft} ${last?.offsetTop}`;
  }

  // ahead: also make the shapes of what has no colour yet, where they are few; the hover that needs them finds them then.
  paint(levels = this.levels, margin = MARGIN, ahead = false) {
    this.levels = levels;
    if (!levels || !this.items.length) return;
    const { scrollTop, clientHeight } = this.scroller, { top, bottom } = this.boxes();
    const first = lowerBound(bottom, scrollTop - margin), end = scrollTop + clientHeight + margin;
    const fresh = [], last = lowerBound(top, end), every = ahead && last - first <= AHEAD;
    for (let i = first; i < last; i++)
      if ((levels[i] || every) && !this.paths[i]) fresh.push([i, this.shape(this.items[i])]); // read all, then write all
    for (const [i, shape] of fresh) {
      this.paths[i] = svg("path");
      this.paths[i].setAttribute("d", shape);
      this.paths[i].style.fillOpacity = 0;
      this.heat.append(this.paths[i]);
    }
    for (let i = first; i < last; i++) if (this.painted[i] !== levels[i]) this.set(i, levels[i]);
    if (margin) for (const name of MARKS) this.drawMark(this.marks[name]);
  }

  set(i, level) {
    const path = this.paths[i];
    path.style.fillOpacity = Math.abs(level) / LEVELS;
    if (level < 0 !== this.painted[i] < 0) path.classList.toggle("against", level < 0);
    this.painted[i] = level;
  }

  shape(item, underline = false) {
    const origin = this.scroller.getBoundingClientRect(), { scrollLeft, scrollTop } = this.scroller;
    return linesOf(rangeOf(this.units, item).getClientRects())
      .map((box) => (underline ? line : roundedBox)(box.left - origin.left + scrollLeft, box.top - origin.top + scrollTop, box.right - box.left, box.bottom - box.top))
      .join("");
  }

  // Mark one run of units (or none) as what a person picked.
  mark(name, item) {
    const mark = this.marks[name];
    if (mark.item?.first === item?.first && mark.item?.last === item?.last) return;
    mark.item = item;
    mark.drawn = undefined; // not null: that is what no run is drawn as
    this.drawMark(mark);
  }
  drawMark(mark) {
    const run = mark.item && this.inSight(mark.item), drawn = run && `${run.first}-${run.last} ${this.boxes().seen}`;
    if (drawn === mark.drawn) return;
    mark.drawn = drawn;
    const [fill, rule] = run ? [this.shape(run), this.shape(run, true)] : ["", ""];
    mark.fill.setAttribute("d", fill);
    mark.rule.setAttribute("d", rule);
  }
  // Of a long run (a document), the part that can be seen or is near.
  inSight({ first, last }) {
    if (last - first < 400) return { first, last };
    const { tops } = this.boxes(), { scrollTop, clientHeight } = this.scroller;
    const from = Math.max(first, lowerBound(tops, scrollTop - 2 * MARGIN)), to = Math.min(last, lowerBound(tops, scrollTop + clientHeight + 2 * MARGIN) - 1);
    return from <= to ? { first: from, last: to } : null;
  }

  inView(i) {
    const { top } = this.boxes(), { scrollTop, clientHeight } = this.scroller;
    return top[i] >= scrollTop && top[i] < scrollTop + clientHeight - 24;
  }
}

function svg(tag, cls) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  if (cls) e.setAttribute("class", cls);
  return e;
}
const r1 = (x) => Math.round(x * 10) / 10;
function roundedBox(x, y, w, h) {
  const r = Math.min(3, w / 2), a = (dx, dy) => `a${r} ${r} 0 0 1 ${dx} ${dy}`;
  return `M${r1(x - 1 + r)} ${r1(y - 1)}h${r1(w + 2 - 2 * r)}${a(r, r)}v${r1(h + 2 - 2 * r)}${a(-r, r)}h${r1(2 * r - w - 2)}${a(-r, -r)}v${r1(2 * r - h - 2)}${a(r, -r)}z`;
}
const line = (x, y, w, h) => `M${r1(x)} ${r1(y + h - 1)}h${r1(w)}v2h${r1(-w)}z`;

// The text of a run of units, without the space that its first token begins with and a citation's mark.
function rangeOf(units, { first, last }) {
  const range = new Range(), mark = units[first].node.querySelector("[data-cite]"), head = units[first].node.firstChild, end = units[last].node;
  const blank = head?.data?.search(/\S/) ?? -1;
  if (mark) range.setStartAfter(mark);
  else if (blank > 0) range.setStart(head, blank);
  else range.setStart(units[first].node, 0);
  range.setEnd(end, end.childNodes.length);
  return range;
}

// A range's boxes, joined where they touch on a line. In mixed directions a line may keep several.
function linesOf(rects) {
  const lines = [];
  for (const { left, right, top, bottom } of rects) {
    if (right <= left) continue;
    const known = lines.findLast((l) => Math.abs(l.top - top) < 6 && left <= l.right + 1 && right >= l.left - 1);
    if (known) Object.assign(known, { left: Math.min(known.left, left), right: Math.max(known.right, right), bottom: Math.max(known.bottom, bottom) });
    else lines.push({ left, right, top, bottom });
  }
  return lines;
}

// A frame around a run of units that fades by itself: says "here" after a jump.
function flash(painter, item) {
  const { scroller, units } = painter, origin = scroller.getBoundingClientRect();
  scroller.querySelectorAll(".flash").forEach((e) => e.remove());
  for (const line of linesOf(rangeOf(units, item).getClientRects()).slice(0, 60)) {
    const mark = document.createElement("div");
    mark.className = "flash";
    mark.style.cssText = `left:${line.left - origin.left + scroller.scrollLeft - 3}px; top:${line.top - origin.top + scroller.scrollTop - 2}px;
      width:${line.right - line.left + 6}px; height:${line.bottom - line.top + 4}px`;
    scroller.append(mark);
    setTimeout(() => mark.remove(), 1600);
  }
}

// The whole prompt beside its scroll bar: where colour is, also out of view. Click to go there.
function drawRuler(canvas, painter, levels, style) {
  const scale = devicePixelRatio || 1, { clientWidth: w, clientHeight: h } = canvas;
  if (canvas.width !== w * scale || canvas.height !== h * scale) Object.assign(canvas, { width: w * scale, height: h * scale });
  const pen = canvas.getContext("2d"), full = Math.max(painter.scroller.scrollHeight, 1);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, w, h);
  const strongest = new Int8Array(h + 1), { top, bottom } = painter.boxes();
  for (let i = 0; i < levels.length; i++) {
    if (!levels[i]) continue;
    const first = Math.floor((top[i] / full) * h), last = Math.min(h, Math.max(first + 2, Math.floor((bottom[i] / full) * h)));
    for (let y = first; y < last; y++) if (Math.abs(levels[i]) > Math.abs(strongest[y])) strongest[y] = levels[i];
  }
  for (let y = 0; y < h; y++) {
    if (!strongest[y]) continue;
    pen.globalAlpha = 0.15 + 0.85 * (Math.abs(strongest[y]) / LEVELS);
    pen.fillStyle = style.getPropertyValue(strongest[y] > 0 ? "--for-strong" : "--against-strong");
    pen.fillRect(0, y, w, 1);
  }
}

function lowerBound(sorted, value) {
  let lo = 0, hi = sorted.length;
  while (lo < hi) { const mid = (lo + hi) >> 1; if (sorted[mid] < value) lo = mid + 1; else hi = mid; }
  return lo;
}
