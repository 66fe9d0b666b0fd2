// Attention of one or several heads as matrices, response tokens down and prompt tokens across.
//
// The weights come once, as float32. Everything after that happens here: hovering moves a crosshair through all
// matrices at once and says both tokens and the weight; a drag zooms, so do the part strip and the keyboard.
// Where a pixel holds several tokens it shows the largest weight, so a single bright token never disappears.
// Only a click on a row (the pinned span) and the first-token switch are told to Python.
const LEFT = 76, STRIP = 19, GAP = 3, LABELS = 66, SCROLL = 10; // px around the matrix
const READABLE = { row: 11, column: 12 }; // px a token needs to have its text beside it
const SCALES = { linear: (t) => t, root: Math.sqrt, log: (t) => Math.max(0, 1 + Math.log10(t) / 4) };
const SCALE_NAMES = { linear: "linear", root: "square root", log: "logarithm" };

export default function headMatrix(mount) { return mounted(View, mount); }

class View {
  constructor(parent) {
    this.scale = "root";
    this.root = el("div", "hm");
    this.toolbar();
    this.readout = el("div", "readout");
    this.readout.setAttribute("aria-live", "polite");
    this.panelBox = el("div", "panels");
    this.legend = el("div", "legend");
    this.words = el("details");
    this.root.append(this.bar, this.panelBox, this.readout, this.legend, this.words);
    parent.append(this.root);
    this.resized = new ResizeObserver(() => this.layout());
    this.resized.observe(this.root);
  }

  toolbar() {
    this.bar = el("div", "bar");
    const scales = group("Scale");
    this.scaleButtons = Object.keys(SCALES).map((name) => {
      const b = button({ linear: "linear", root: "√", log: "log" }[name], `Colour follows the ${SCALE_NAMES[name]} of the weight`);
      b.addEventListener("click", () => { this.scale = name; this.draw(); });
      scales.append(b);
      return [name, b];
    });
    this.sinkBox = checkbox("Show first-token sink");
    this.sinkBox.input.addEventListener("change", () => { this.sink = this.sinkBox.input.checked; this.mount.setStateValue("sink", this.sink); this.cross = null; this.draw(); });
    this.sameBox = checkbox("Same scale for all");
    this.sameBox.input.addEventListener("change", () => { this.same = this.sameBox.input.checked; this.draw(); });
    const zoom = group("Zoom");
    this.zoomIn = button("+", "Zoom in");
    this.zoomOut = button("−", "Zoom out");
    this.whole = button("Whole prompt", "Show the whole prompt");
    this.zoomIn.addEventListener("click", () => this.zoomBy(0.5));
    this.zoomOut.addEventListener("click", () => this.zoomBy(2));
    this.whole.addEventListener("click", () => this.show(this.full()));
    zoom.append(this.zoomIn, this.zoomOut, this.whole);
    const save = button("Save picture", "Save these matrices as a PNG file");
    save.classList.add("push");
    save.addEventListener("click", () => this.save());
    this.bar.append(scales, this.sinkBox, this.sameBox, zoom, save);
  }

  update(data) {
    if (data.example !== this.example) { // another prompt or response: nothing on screen refers to it any more
      this.example = data.example;
      this.prompt = data.prompt;
      this.response = data.response;
      this.parts = data.parts;
      this.partOf = new Int16Array(data.prompt.length).fill(-1);
      data.parts.forEach((part, k) => this.partOf.fill(k, part.start, part.end));
      this.window = this.full();
      this.cross = null;
      this.decoded = new Map();
      this.round = null;
    }
    if (data.round !== this.round) { // first, or chosen elsewhere on the page: else what was chosen in here stays
      this.round = data.round;
      this.pin = data.pin;
      this.sink = this.sinkBox.input.checked = data.sink;
    }
    this.heads = data.heads.map((head) => ({ ...head, ...this.decode(head) }));
    this.decoded = new Map(this.heads.map((head) => [head.id, { weights: head.weights, top: head.top }]));
    this.sameBox.hidden = this.heads.length < 2;
    this.sameBox.style.display = this.heads.length < 2 ? "none" : "";
    while (this.panels?.length > this.heads.length) this.panels.pop().section.remove();
    this.panels ??= [];
    while (this.panels.length < this.heads.length) {
      const panel = new Panel(this);
      this.panels.push(panel);
      this.panelBox.append(panel.section);
    }
    this.heads.forEach((head, k) => this.panels[k].take(head));
    this.layout();
    this.tellWords();
    this.say();
  }

  // Weights, and where the colours end with and without the first token; kept while the head stays on screen.
  decode(head) {
    const kept = this.decoded.get(head.id);
    if (kept) return kept;
    const weights = float32(head.weights), n = this.prompt.length, rows = this.response.length;
    return { weights, top: { all: bright(weights, n, rows, 0), rest: bright(weights, n, rows, 1) } };
  }

  full() { return { c0: 0, c1: this.prompt.length, r0: 0, r1: this.response.length }; }
  zoomed() { const f = this.full(), w = this.window; return w.c0 !== f.c0 || w.c1 !== f.c1 || w.r0 !== f.r0 || w.r1 !== f.r1; }

  show({ c0, c1, r0, r1 }) {
    const n = this.prompt.length, T = this.response.length, columns = clamp(Math.round(c1 - c0), Math.min(n, 4), n), rows = clamp(Math.round(r1 - r0), Math.min(T, 1), T);
    const left = clamp(Math.round(c0), 0, n - columns), top = clamp(Math.round(r0), 0, T - rows);
    this.window = { c0: left, c1: left + columns, r0: top, r1: top + rows };
    this.layout();
  }

  zoomBy(factor, at) {
    const { c0, c1, r0, r1 } = this.window, centre = at ?? (this.cross ? this.cross.c + 0.5 : (c0 + c1) / 2);
    this.show({ c0: centre - (centre - c0) * factor, c1: centre + (c1 - centre) * factor, r0, r1 });
  }

  // Largest weight the colours reach, for one head.
  topOf(head) {
    const top = (h) => (this.sink ? h.top.all : h.top.rest);
    return (this.same ? Math.max(...this.heads.map(top)) : top(head)) || 1;
  }

  layout() {
    if (!this.panels || !this.root.clientWidth) return;
    const width = this.root.clientWidth, count = this.panels.length, columns = count === 1 ? 1 : width >= 1500 ? count : 2;
    this.root.style.setProperty("--columns", columns);
    this.root.classList.toggle("single", count === 1); // one head has its title above the component already
    for (const panel of this.panels) panel.layout((width - 18 * (columns - 1)) / columns);
    this.draw();
  }

  draw() {
    if (!this.panels?.length) return;
    this.colours = palette(this.root);
    for (const [name, b] of this.scaleButtons) b.setAttribute("aria-pressed", name === this.scale);
    this.whole.disabled = this.zoomOut.disabled = !this.zoomed();
    for (const panel of this.panels) panel.draw();
    this.tellLegend();
    this.root.dataset.heads = this.heads.map((head) => head.id).join(); // says that these are drawn
    this.root.dataset.window = Object.values(this.window).join();
  }

  point(cross, announce = false) {
    this.cross = cross;
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      for (const panel of this.panels) panel.overlay();
      this.say(announce);
    });
  }

  // The crosshair in words: both tokens where they stand, and each head's weight beside its title.
  say() {
    const { cross } = this;
    for (const panel of this.panels) panel.weight.textContent = cross ? weightText(panel.head.weights[cross.r * this.prompt.length + cross.c]) : "";
    if (!cross) {
      const hint = el("div", "dim", "Point at a cell to read it. Click a row to pin its response token, shift-click to extend the span. Drag to zoom.");
      this.readout.replaceChildren(hint, el("div", "dim", "By keyboard: arrow keys move, + and − zoom, 0 shows everything, Enter pins the row."));
      return;
    }
    const part = this.parts[this.partOf[cross.c]], first = line(`before writing token ${cross.r}  `, this.response, cross.r);
    if (this.panels.length === 1) first.prepend(el("b", "", this.panels[0].weight.textContent));
    this.readout.replaceChildren(
      first,
      line(`it looked at prompt token ${cross.c} (${part?.names[0] || "template"})  `, this.prompt, cross.c),
    );
  }

  choose(r, extend) {
    const [a, b] = this.pin ?? [-1, -1];
    this.pin = extend && this.pin ? [Math.min(a, r), Math.max(b, r)] : a === r && b === r ? null : [r, r];
    this.mount.setStateValue("pin", { span: this.pin, round: this.round }); // what was sent before is no news, unless in another round
    for (const panel of this.panels) panel.overlay();
    this.tellWords();
  }

  tellLegend() {
    const ramp = el("canvas", "ramp");
    ramp.width = 110; ramp.height = 1;
    ramp.style.position = "static";
    ramp.style.width = "110px";
    const pixels = new ImageData(110, 1);
    for (let x = 0; x < 110; x++) pixels.data.set(this.colours.ramp.subarray(4 * Math.round((x / 109) * 255), 4 * Math.round((x / 109) * 255) + 4), 4 * x);
    ramp.getContext("2d").putImageData(pixels, 0, 0);
    const tops = this.heads.map((head) => weightText(this.topOf(head)));
    const each = new Set(tops).size === 1 ? tops[0] : `${tops.join(" / ")}`;
    this.legend.replaceChildren(
      el("span", "", "no attention"), ramp,
      el("span", "", `${each} and more: share of the attention that one prompt token gets before a response token is written; colour follows its ${SCALE_NAMES[this.scale]}.`),
      el("span", "", this.sink ? "" : this.sinkShare()),
    );
  }

  sinkShare() {
    const n = this.prompt.length, T = this.response.length;
    const shares = this.heads.map(({ weights }) => { let s = 0; for (let r = 0; r < T; r++) s += weights[r * n]; return `${Math.round((100 * s) / T)} %`; });
    return `The first token is left out of the colours; it takes ${shares.join(", ")} of the attention.`;
  }

  // The strongest cells of each matrix as a list of buttons: the picture for whoever cannot see or hover it.
  tellWords() {
    const open = this.words.open, box = el("div");
    for (const head of this.heads) {
      const list = el("ol");
      for (const { r, c, w } of this.strongest(head, 5)) {
        const item = el("li"), b = button(`before writing “${visible(this.response[r])}” it looked at “${visible(this.prompt[c])}” (${this.parts[this.partOf[c]]?.names[0] || "template"}, token ${c}): ${weightText(w)}`);
        b.addEventListener("click", () => { this.reveal(r, c); this.point({ r, c }); });
        item.append(b);
        list.append(item);
      }
      const section = el("section");
      section.append(el("b", "", head.title), list);
      box.append(section);
    }
    this.words.replaceChildren(el("summary", "", this.pin ? "In words: the strongest cells of the pinned span" : "In words: the strongest cells"), box);
    this.words.open = open;
    this.heads.forEach((head, k) => this.panels[k].describe(this.strongest(head, 1)[0]));
  }

  strongest(head, count) {
    const n = this.prompt.length, found = [], [first, last] = this.pin ?? [0, this.response.length - 1];
    for (let r = first; r <= last; r++) {
      for (let c = this.sink ? 0 : 1; c < n; c++) {
        const w = head.weights[r * n + c];
        if (found.length === count && w <= found[count - 1].w) continue;
        let k = found.length;
        while (k && found[k - 1].w < w) k--;
        found.splice(k, 0, { r, c, w });
        if (found.length > count) found.pop();
      }
    }
    return found;
  }

  // Pan so that a cell is in view.
  reveal(r, c) {
    const w = this.window, move = (lo, hi, i) => (i < lo ? i - lo : i >= hi ? i - hi + 1 : 0);
    const dc = move(w.c0, w.c1, c), dr = move(w.r0, w.r1, r);
    if (dc || dr) this.show({ c0: w.c0 + dc, c1: w.c1 + dc, r0: w.r0 + dr, r1: w.r1 + dr });
  }

  key(e) {
    const step = e.shiftKey ? 10 : 1, by = { ArrowLeft: [0, -step], ArrowRight: [0, step], ArrowUp: [-step, 0], ArrowDown: [step, 0] }[e.key];
    if (by) {
      const from = this.cross ?? { r: this.window.r0, c: this.window.c0 };
      const r = clamp(from.r + by[0], 0, this.response.length - 1), c = clamp(from.c + by[1], 0, this.prompt.length - 1);
      this.reveal(r, c);
      this.point({ r, c });
    } else if (e.key === "+" || e.key === "=") this.zoomBy(0.5);
    else if (e.key === "-") this.zoomBy(2);
    else if (e.key === "0") this.show(this.full());
    else if (e.key === "Enter" && this.cross) this.choose(this.cross.r, e.shiftKey);
    else if (e.key === "Escape") this.point(null);
    else return;
    e.preventDefault();
  }

  save() {
    const ratio = window.devicePixelRatio || 1, title = 26 * ratio, width = Math.max(...this.panels.map((p) => p.base.width));
    const canvas = el("canvas"), ink = canvas.getContext("2d");
    canvas.width = width;
    canvas.height = this.panels.reduce((h, p) => h + p.base.height + title, 0);
    ink.fillStyle = this.colours.background;
    ink.fillRect(0, 0, canvas.width, canvas.height);
    ink.fillStyle = this.colours.text;
    ink.font = `${14 * ratio}px ${this.colours.font}`;
    let y = 0;
    for (const panel of this.panels) {
      ink.fillText(`${panel.head.title}   ${panel.head.note}`, 4 * ratio, y + 18 * ratio);
      ink.drawImage(panel.base, 0, y + title);
      y += panel.base.height + title;
    }
    canvas.toBlob((blob) => {
      const link = el("a");
      link.href = URL.createObjectURL(blob);
      link.download = `attention-${this.heads.map((head) => head.id).join("-")}.png`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  close() {
    this.resized.disconnect();
    cancelAnimationFrame(this.frame);
    this.root.remove();
  }
}
