// One matrix: `base` holds the picture and its axes, `over` the crosshair, the pinned rows and the drag.
class Panel {
  constructor(view) {
    this.view = view;
    this.section = el("section");
    const title = el("div", "title");
    this.name = el("b");
    this.note = el("span", "note");
    this.weight = el("span", "weight");
    title.append(this.name, this.note, this.weight);
    this.plot = el("div", "plot");
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "application");
    this.base = el("canvas");
    this.over = el("canvas");
    this.plot.append(this.base, this.over);
    this.section.append(title, this.plot);
    this.plot.addEventListener("pointermove", (e) => this.move(e));
    this.plot.addEventListener("pointerleave", () => { if (!this.drag) view.point(null); });
    this.plot.addEventListener("pointerdown", (e) => this.press(e));
    this.plot.addEventListener("pointerup", (e) => this.release(e));
    this.plot.addEventListener("pointercancel", () => { this.drag = null; this.overlay(); });
    this.plot.addEventListener("dblclick", () => view.show(view.full()));
    this.plot.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    this.plot.addEventListener("keydown", (e) => view.key(e));
  }

  take(head) {
    this.head = head;
    this.name.textContent = head.title;
    this.note.textContent = head.note;
  }

  describe(best) {
    const { response, prompt } = this.view;
    this.plot.setAttribute("aria-label", `${this.head.title}: attention of ${response.length} response tokens to ${prompt.length} prompt tokens. ` +
      (best ? `Strongest: before writing “${visible(response[best.r])}” it looked at “${visible(prompt[best.c])}”, ${weightText(best.w)}. ` : "") + "Arrow keys move the crosshair.");
  }

  layout(width) {
    const { window: w, panels } = this.view, rows = w.r1 - w.r0, columns = w.c1 - w.c0;
    this.width = Math.max(0, Math.floor(width) - LEFT);
    const most = panels.length > 2 ? 260 : 380, readable = rows * READABLE.row;
    this.height = clamp(rows * 15, Math.min(110, rows * 30), most);
    if (readable <= 1.4 * most) this.height = Math.max(this.height, readable); // a little taller, when that shows the tokens
    this.labels = this.width / columns >= READABLE.column ? LABELS : 0;
    this.total = STRIP + GAP + this.height + (this.labels ? GAP + this.labels : 0) + (this.view.zoomed() ? SCROLL + GAP : 0);
    this.plot.style.height = `${this.total}px`;
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round((this.width + LEFT) * ratio);
      canvas.height = Math.round(this.total * ratio);
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
  }

  x(c) { const { c0, c1 } = this.view.window; return LEFT + ((c - c0) / (c1 - c0)) * this.width; }
  y(r) { const { r0, r1 } = this.view.window; return STRIP + GAP + ((r - r0) / (r1 - r0)) * this.height; }
  cell(px, py) {
    const { c0, c1, r0, r1 } = this.view.window;
    return {
      c: clamp(Math.floor(c0 + ((px - LEFT) / this.width) * (c1 - c0)), c0, c1 - 1),
      r: clamp(Math.floor(r0 + ((py - STRIP - GAP) / this.height) * (r1 - r0)), r0, r1 - 1),
    };
  }

  draw() {
    const ink = this.base.getContext("2d"), { colours } = this.view;
    ink.clearRect(0, 0, this.width + LEFT, this.total);
    if (this.width < 10) return;
    ink.imageSmoothingEnabled = false;
    ink.drawImage(this.picture(), LEFT, STRIP + GAP, this.width, this.height);
    ink.strokeStyle = colours.border;
    ink.strokeRect(LEFT - 0.5, STRIP + GAP - 0.5, this.width + 1, this.height + 1);
    this.drawParts(ink);
    this.drawRowLabels(ink);
    if (this.labels) this.drawColumnLabels(ink);
    if (this.view.zoomed()) this.drawScrollbar(ink);
    this.overlay();
  }

  // The window's cells as an image of at most one pixel per device pixel; a pixel takes its cells' largest weight.
  picture() {
    const { window: w, scale, sink, colours, prompt } = this.view, ratio = window.devicePixelRatio || 1, n = prompt.length;
    const columns = w.c1 - w.c0, rows = w.r1 - w.r0, weights = this.head.weights, top = this.view.topOf(this.head), curve = SCALES[scale];
    const wide = Math.min(columns, Math.floor(this.width * ratio)), high = Math.min(rows, Math.floor(this.height * ratio));
    const image = el("canvas");
    image.width = wide;
    image.height = high;
    const pixels = new ImageData(wide, high), most = new Float32Array(wide * high);
    const column = Int32Array.from({ length: columns }, (_, c) => Math.floor((c * wide) / columns));
    for (let r = 0; r < rows; r++) {
      const out = Math.floor((r * high) / rows) * wide, at = (w.r0 + r) * n + w.c0;
      for (let c = !sink && w.c0 === 0 ? 1 : 0; c < columns; c++) {
        const value = weights[at + c], k = out + column[c];
        if (value > most[k]) most[k] = value;
      }
    }
    for (let k = 0; k < most.length; k++) {
      const level = 4 * Math.round(255 * clamp(curve(Math.min(1, most[k] / top)), 0, 1));
      pixels.data.set(colours.ramp.subarray(level, level + 4), 4 * k);
    }
    image.getContext("2d").putImageData(pixels, 0, 0);
    return image;
  }

  drawParts(ink) {
    const { parts, window: w, colours } = this.view;
    ink.font = `12px ${colours.font}`;
    ink.textBaseline = "middle";
    ink.fillStyle = colours.faint;
    ink.fillRect(LEFT, 0, this.width, STRIP - 2);
    for (const part of parts) {
      const a = Math.max(part.start, w.c0), b = Math.min(part.end, w.c1);
      if (a >= b) continue;
      const x0 = this.x(a), x1 = this.x(b);
      ink.fillStyle = colours[part.kind] ?? colours.other;
      ink.fillRect(x0 + 0.5, 0, Math.max(1, x1 - x0 - 1), STRIP - 2);
      ink.fillStyle = colours.text;
      const room = x1 - x0 - 8, text = part.names.find((name) => ink.measureText(name).width <= room) ?? fit(ink, part.names[0], room);
      if (text) ink.fillText(text, x0 + 4, STRIP / 2);
      ink.strokeStyle = colours.line;
      ink.setLineDash([2, 3]);
      ink.beginPath();
      for (const x of [x0, x1]) { if (x > LEFT + 1 && x < LEFT + this.width - 1) { ink.moveTo(Math.round(x) + 0.5, STRIP); ink.lineTo(Math.round(x) + 0.5, STRIP + GAP + this.height); } }
      ink.stroke();
      ink.setLineDash([]);
    }
    ink.textAlign = "right";
    ink.fillStyle = colours.dim;
    ink.fillText("prompt →", LEFT - 6, STRIP / 2);
    ink.textAlign = "left";
  }

  drawRowLabels(ink) {
    const { window: w, response, colours } = this.view, each = this.height / (w.r1 - w.r0);
    ink.textAlign = "right";
    ink.textBaseline = "middle";
    if (each >= READABLE.row) {
      ink.font = `${Math.min(12, each - 1)}px ${colours.font}`;
      ink.fillStyle = colours.text;
      for (let r = w.r0; r < w.r1; r++) ink.fillText(fit(ink, visible(response[r]), LEFT - 10), LEFT - 6, this.y(r + 0.5));
    } else { // too many rows for their texts: their numbers, now and then
      ink.font = `11px ${colours.font}`;
      ink.fillStyle = colours.dim;
      const step = [5, 10, 20, 50, 100, 200, 500, 1000].find((s) => s * each >= 22) ?? 2000;
      for (let r = Math.ceil(w.r0 / step) * step; r < w.r1; r += step) ink.fillText(`token ${r}`, LEFT - 6, this.y(r + 0.5));
    }
    ink.textAlign = "left";
  }

  drawColumnLabels(ink) {
    const { window: w, prompt, colours } = this.view, y = STRIP + GAP + this.height + GAP;
    ink.font = `11px ${colours.font}`;
    ink.fillStyle = colours.text;
    ink.textAlign = "right";
    ink.textBaseline = "middle";
    for (let c = w.c0; c < w.c1; c++) {
      ink.save();
      ink.translate(this.x(c + 0.5), y);
      ink.rotate(-Math.PI / 2.6);
      ink.fillText(fit(ink, visible(prompt[c]), LABELS), 0, 0);
      ink.restore();
    }
    ink.textAlign = "left";
  }

  drawScrollbar(ink) {
    const { window: w, prompt, colours } = this.view, n = prompt.length, y = this.total - SCROLL;
    ink.fillStyle = colours.faint;
    ink.fillRect(LEFT, y, this.width, SCROLL - 2);
    ink.fillStyle = colours.line;
    ink.fillRect(LEFT + (w.c0 / n) * this.width, y, Math.max(6, ((w.c1 - w.c0) / n) * this.width), SCROLL - 2);
  }

  overlay() {
    const ink = this.over.getContext("2d"), { cross, pin, colours, prompt, response, window: w } = this.view;
    ink.clearRect(0, 0, this.width + LEFT, this.total);
    if (!colours || this.width < 10) return;
    const top = STRIP + GAP, bottom = top + this.height, right = LEFT + this.width;
    if (pin) {
      const a = clamp(this.y(pin[0]), top, bottom), b = clamp(this.y(pin[1] + 1), top, bottom);
      if (b > a) {
        ink.fillStyle = ink.strokeStyle = colours.primary;
        ink.fillRect(LEFT - 4, a, 3, b - a);
        ink.lineWidth = 1;
        ink.strokeRect(LEFT + 0.5, a + 0.5, this.width - 1, Math.max(1, b - a - 1));
      }
    }
    if (cross && cross.c >= w.c0 && cross.c < w.c1 && cross.r >= w.r0 && cross.r < w.r1) {
      const x = this.x(cross.c + 0.5), y = this.y(cross.r + 0.5);
      const wide = Math.max(1, this.width / (w.c1 - w.c0)), high = Math.max(1, this.height / (w.r1 - w.r0));
      ink.fillStyle = colours.cross;
      ink.fillRect(x - wide / 2, top, wide, this.height);
      ink.fillRect(LEFT, y - high / 2, this.width, high);
      ink.strokeStyle = colours.primary;
      ink.lineWidth = 2;
      ink.strokeRect(x - Math.max(wide, 6) / 2, y - Math.max(high, 6) / 2, Math.max(wide, 6), Math.max(high, 6));
      this.tag(ink, visible(response[cross.r]), LEFT - 5, clamp(y, top + 8, bottom - 8), "right", LEFT - 8);
      this.tag(ink, visible(prompt[cross.c]), clamp(x, LEFT + 20, right - 20), STRIP / 2 - 1, "center", 160);
    }
    if (this.drag?.to) {
      const { from, to } = this.drag, x0 = clamp(Math.min(from.x, to.x), LEFT, right), x1 = clamp(Math.max(from.x, to.x), LEFT, right);
      const tall = Math.abs(from.y - to.y) >= 16, y0 = tall ? clamp(Math.min(from.y, to.y), top, bottom) : top, y1 = tall ? clamp(Math.max(from.y, to.y), top, bottom) : bottom;
      ink.fillStyle = colours.cross;
      ink.strokeStyle = colours.primary;
      ink.lineWidth = 1;
      ink.fillRect(x0, y0, x1 - x0, y1 - y0);
      ink.strokeRect(x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0);
    }
  }

  // A small label on an axis, readable over whatever is beneath.
  tag(ink, text, x, y, align, room) {
    ink.font = `600 12px ${this.view.colours.font}`;
    ink.textAlign = align;
    ink.textBaseline = "middle";
    const shown = fit(ink, text, room - 8), width = ink.measureText(shown).width + 8;
    ink.fillStyle = this.view.colours.primary;
    ink.fillRect(align === "right" ? x - width + 4 : x - width / 2, y - 9, width, 18);
    ink.fillStyle = this.view.colours.onPrimary;
    ink.fillText(shown, x, y + 0.5);
    ink.textAlign = "left";
  }

  at(e) { const box = this.plot.getBoundingClientRect(); return { x: e.clientX - box.left, y: e.clientY - box.top }; }
  zone({ x, y }) {
    if (x < LEFT) return "rows";
    if (y < STRIP) return "strip";
    return this.view.zoomed() && y >= this.total - SCROLL - GAP ? "scroll" : "matrix";
  }

  move(e) {
    const to = this.at(e);
    if (this.drag?.zone === "scroll") return this.scrollTo(to.x);
    if (this.drag?.zone === "matrix" && (this.drag.to || Math.hypot(to.x - this.drag.from.x, to.y - this.drag.from.y) > 5)) {
      this.drag.to = to;
      return this.overlay();
    }
    const zone = this.zone(to);
    this.plot.style.cursor = zone === "strip" || zone === "rows" ? "pointer" : zone === "scroll" ? "ew-resize" : "crosshair";
    this.view.point(zone === "matrix" || zone === "rows" ? { ...this.cell(to.x, to.y), ...(zone === "rows" && this.view.cross ? { c: this.view.cross.c } : {}) } : null);
  }

  press(e) {
    if (e.button) return;
    const from = this.at(e);
    this.drag = { from, to: null, zone: this.zone(from) };
    this.plot.setPointerCapture(e.pointerId);
    if (this.drag.zone === "scroll") this.scrollTo(from.x);
  }

  release(e) {
    const { drag, view } = this;
    this.drag = null;
    if (!drag) return;
    if (drag.zone === "strip") return this.zoomToPart(this.cell(drag.from.x, 0).c);
    if (drag.zone === "scroll") return;
    if (!drag.to) return view.choose(this.cell(drag.from.x, drag.from.y).r, e.shiftKey);
    const a = this.cell(drag.from.x, drag.from.y), b = this.cell(drag.to.x, drag.to.y), tall = Math.abs(drag.from.y - drag.to.y) >= 16;
    view.show({ c0: Math.min(a.c, b.c), c1: Math.max(a.c, b.c) + 1, r0: tall ? Math.min(a.r, b.r) : view.window.r0, r1: tall ? Math.max(a.r, b.r) + 1 : view.window.r1 });
  }

  // A part's name zooms to the part; a second click shows the whole prompt again.
  zoomToPart(c) {
    const { view } = this, part = view.parts[view.partOf[c]], { window: w } = view;
    if (!part) return;
    if (w.c0 === part.start && w.c1 === part.end) view.show(view.full());
    else view.show({ ...w, c0: part.start, c1: part.end });
  }

  scrollTo(x) {
    const { c0, c1, r0, r1 } = this.view.window, width = c1 - c0, left = ((x - LEFT) / this.width) * this.view.prompt.length - width / 2;
    this.view.show({ c0: left, c1: left + width, r0, r1 });
  }

  wheel(e) {
    const { view } = this, w = view.window;
    if (e.ctrlKey || e.metaKey) { // a plain wheel scrolls the page, as everywhere
      view.zoomBy(e.deltaY < 0 ? 0.8 : 1.25, this.cell(this.at(e).x, 0).c + 0.5);
      e.preventDefault();
    } else if ((e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) && view.zoomed()) {
      const by = ((e.deltaX || e.deltaY) / this.width) * (w.c1 - w.c0);
      view.show({ ...w, c0: w.c0 + by, c1: w.c1 + by });
      e.preventDefault();
    }
  }
}
