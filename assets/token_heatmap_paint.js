// Colour on text. A Painter holds the items of one pane (a source, or a response token: a run of units) and paints
// those in view, so that a hover costs the same in a prompt of 200 tokens and of 8,000.
//
// It uses the CSS Custom Highlight API, which colours ranges of text without touching an element; a browser
// without it gets a background on each unit in view.

const LEVELS = 24;
const MARGIN = 80; // px painted beyond the visible part, so that a slow scroll never shows bare text
const highlights = globalThis.CSS?.highlights;

// The registry is one per document, shared by all instances; the rules that give the names a colour are in
// each shadow root.
function highlight(name) {
  if (!highlights.has(name)) highlights.set(name, Object.assign(new Highlight(), { priority: name === "at2-pin" ? -1 : 0 }));
  return highlights.get(name);
}
const levelName = (level) => `at2-${level > 0 ? "for" : "against"}-${Math.abs(level)}`;
const levelColour = (level) =>
  `color-mix(in srgb, var(${level > 0 ? "--for" : "--against"}) ${Math.round((Math.abs(level) / LEVELS) * 100)}%, transparent)`;

// What a person picked: `on` pointed at, `pin` pinned in the response, `picked` the source pointed at or pinned.
const MARKS = ["on", "pin", "picked"];
const MARK_STYLES = [
  "text-decoration: underline 2px color-mix(in srgb, var(--picked) 70%, transparent)",
  "text-decoration: underline 2px var(--picked); background-color: var(--pin-fill)",
  "text-decoration: underline 2px var(--picked)",
];

function highlightRules() {
  const rules = MARKS.map((mark, k) => `::highlight(at2-${mark}) { ${MARK_STYLES[k]} } .${mark} { ${MARK_STYLES[k]} }`);
  for (let k = 1; k <= LEVELS; k++)
    for (const level of [k, -k]) rules.push(`::highlight(${levelName(level)}) { background-color: ${levelColour(level)}; }`);
  return rules.join("\n");
}

class Painter {
  constructor(scroller) {
    this.scroller = scroller;
    this.units = []; // one per display unit: {node: the text's element}
    this.setItems([]);
  }

  // items: [{first, last}] unit indices, in reading order
  setItems(items) {
    this.clear();
    this.items = items;
    this.painted = new Int8Array(items.length);
    this.ranges = new Array(items.length);
    this.levels = null;
    this.itemsBox = null;
  }

  moved() { this.tops = null; this.itemsBox = null; } // after anything that changes the layout

  // Where each item begins and ends, in px from the top of the scroller's content. One layout read per change.
  boxes() {
    if (this.itemsBox) return this.itemsBox;
    this.tops ??= Float64Array.from(this.units, (unit) => unit.node.offsetTop);
    const line = parseFloat(getComputedStyle(this.scroller).lineHeight) || 24;
    const top = new Float64Array(this.items.length), bottom = new Float64Array(this.items.length);
    this.items.forEach((item, i) => {
      top[i] = this.tops[item.first];
      bottom[i] = Math.max(this.tops[item.last] + line, i ? bottom[i - 1] : 0);
    });
    return (this.itemsBox = { top, bottom });
  }

  range(i) {
    if (!this.ranges[i]) {
      this.ranges[i] = rangeOf(this.units, this.items[i]);
    }
    return this.ranges[i];
  }

  paint(levels = this.levels) {
    this.levels = levels;
    if (!levels || !this.items.length) return;
    const { scrollTop, clientHeight } = this.scroller, { top, bottom } = this.boxes();
    const end = scrollTop + clientHeight + MARGIN;
    for (let i = lowerBound(bottom, scrollTop - MARGIN); i < top.length && top[i] < end; i++) this.set(i, levels[i]);
  }

  set(i, level) {
    const before = this.painted[i];
    if (level === before) return;
    this.painted[i] = level;
    if (!highlights) {
      for (let u = this.items[i].first; u <= this.items[i].last; u++)
        this.units[u].node.style.backgroundColor = level ? levelColour(level) : "";
      return;
    }
    if (before) highlight(levelName(before)).delete(this.range(i));
    if (level) highlight(levelName(level)).add(this.range(i));
  }

  // Mark one run of units (or none) in a pane; fewer style changes than a class on each.
  mark(name, item) {
    const before = (this.marks ??= {})[name];
    if (before?.first === item?.first && before?.last === item?.last) return;
    if (!highlights) {
      for (const [run, on] of [[before, false], [item, true]])
        if (run) for (let u = run.first; u <= run.last; u++) this.units[u].node.classList.toggle(name, on);
      this.marks[name] = item;
      return;
    }
    if (before) highlight(`at2-${name}`).delete(before.range);
    this.marks[name] = item && { ...item, range: rangeOf(this.units, item) };
    if (item) highlight(`at2-${name}`).add(this.marks[name].range);
  }

  close() {
    this.clear();
    for (const name of MARKS) this.mark(name, null);
  }
  clear() { this.painted?.forEach((level, i) => level && this.set(i, 0)); }

  inView(i) {
    const { top } = this.boxes(), { scrollTop, clientHeight } = this.scroller;
    return top[i] >= scrollTop && top[i] < scrollTop + clientHeight - 24;
  }
}

// The text of a run of units, without the space that its first token begins with.
function rangeOf(units, { first, last }) {
  const range = new Range(), head = units[first].node.firstChild, end = units[last].node;
  const blank = head?.data?.search(/\S/) ?? -1;
  if (blank > 0) range.setStart(head, blank);
  else range.setStart(units[first].node, 0);
  range.setEnd(end, end.childNodes.length);
  return range;
}

// A frame around a run of units that fades by itself: says "here" after a jump.
function flash(painter, item) {
  const { scroller, units } = painter, range = rangeOf(units, item), origin = scroller.getBoundingClientRect();
  scroller.querySelectorAll(".flash").forEach((e) => e.remove());
  for (const line of linesOf(range.getClientRects())) {
    const mark = document.createElement("div");
    mark.className = "flash";
    mark.style.cssText = `left:${line.left - origin.left + scroller.scrollLeft - 3}px; top:${line.top - origin.top + scroller.scrollTop - 2}px;
      width:${line.right - line.left + 6}px; height:${line.bottom - line.top + 4}px`;
    scroller.append(mark);
    setTimeout(() => mark.remove(), 1600);
  }
}
function linesOf(rects) {
  const lines = [];
  for (const { left, right, top, bottom } of rects) {
    const line = lines.find((known) => Math.abs(known.top - top) < 6); // a word that wraps comes back to a line
    if (line) Object.assign(line, { left: Math.min(line.left, left), right: Math.max(line.right, right), bottom: Math.max(line.bottom, bottom) });
    else if (right > left && lines.length < 60) lines.push({ left, right, top, bottom });
  }
  return lines;
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
