// Two to four methods on one example: point at the response and every column shows what its method says of that part.
//
// The matrices are sent once. Hovering, pinning and the difference are sums and colours in the browser; only what a
// person chose (a pin, a switch) is reported to Python.

const SIDE = "stronger blue = more of the response came from here, red = it counted against; each method by its own strongest source";

export default function compare(mount) { return mounted(View, mount); }

class View {
  constructor(parent) { this.parent = parent; }

  update(data) {
    const keys = data.columns.map((column) => column.key).join(" ");
    if (data.id !== this.id || keys !== this.keys) this.open(data, keys);
    data.columns.forEach((column, k) => this.columns[k].load(column));
    this.ready = this.columns.filter((column) => column.ready);
    this.offerPair();
    this.keepPair(data.columns);
    this.again();
    this.fit();
  }

  // A new text, other sources or other methods: new elements. What was chosen stays as long as it is the same text.
  open(data, keys) {
    const settings = data.text_id === this.textId ? this.settings : { pin: null, unit: "sentence", difference: null, ...data.initial };
    this.close();
    Object.assign(this, { id: data.id, keys, textId: data.text_id, settings, pointed: { target: null, source: null } });
    const { prompt, parts, titles, numbered, sources, response, granularity } = data;
    this.text = { prompt, parts, titles, numbered, sources, pieces: int32(data.pieces) };
    Object.assign(this, { answer: response, granularity, count: sources.length, whole: data.whole, wholeName: data.whole_name });
    const offsets = int32(data.response_tokens);
    this.length = offsets.length / 2;
    this.build(data);
    const built = buildResponse(this.response, { response, sentences: data.sentences, offsets });
    this.sentences = built.sentences;
    this.reverse = new Painter(this.response);
    this.reverse.units = built.units;
    this.sentenceOfUnit = new Int32Array(built.units.length);
    built.sentences.forEach(({ first, last }, s) => this.sentenceOfUnit.fill(s, first, last + 1));
    const { pin } = settings;
    if (!Array.isArray(pin) || !(pin[0] >= 0 && pin[0] <= pin[1] && pin[1] < this.length)) settings.pin = null;
    this.useUnit();
    listenToResponse(this);
    for (const text of [...this.columns, this.difference]) listenToSources(this, text);
    this.deafen = watchPlace(this, [this.response, this.difference.box, ...this.columns.map((column) => column.box)], this.painters());
  }

  build(data) {
    const seen = {
      point: (source) => this.point(this.pointed.target, source),
      go: (source) => this.go(source),
      choose: (pair) => this.change({ difference: pair }),
    };
    this.root = el("div", "at2 compare");
    this.response = pane("response", "Response. Arrow keys move over its parts, Enter pins one, Escape lets go.");
    this.columns = data.columns.map((column) => new Column(this.text, column, seen));
    this.difference = new Difference(this.text, seen);
    this.controls = [
      choice("Target", "unit", [["token", "Token"], ["sentence", "Sentence"]], "What is picked in the response", (unit) => this.change({ unit })),
      choice("View", "mode", [["side", "Side by side"], ["difference", "Difference"]], "Difference shows one method's scores minus another's", (mode) => this.change({ difference: mode === "difference" ? this.bestPair() : null })),
    ];
    this.legend = legend();
    this.readout = el("div", "readout");
    this.clearButton = button("quiet", "Clear pin", () => this.clear());
    this.tip = tooltip();
    this.live = el("div", "unseen");
    this.live.setAttribute("aria-live", "polite");
    const bar = el("div", "bar", ...this.controls.map((c) => c.box), this.difference.choice, this.legend.box);
    bar.setAttribute("role", "toolbar");
    bar.setAttribute("aria-label", "What to compare");
    this.grid = el("div", "methods", ...this.columns.map((column) => column.section));
    this.grid.style.setProperty("--columns", this.columns.length);
    const answer = el("section", "pane answer", head("Response", count(this.length, "token")), el("div", "fill", this.response));
    this.root.append(bar, answer, el("div", "now", el("div", "line", this.readout), this.clearButton), this.grid, this.difference.section, this.tip.box, this.live);
    this.parent.append(this.root);
    this.root.addEventListener("keydown", (e) => {
      if (e.key !== "Escape") return;
      cursorOff(this);
      this.clear();
      e.stopPropagation();
    });
  }

  painters() { return [this.reverse, this.difference.painter, ...this.columns.map((column) => column.painter)]; }

  // Fill the window, but for a strip that shows that there is more below.
  fit() {
    this.root.style.setProperty("--height", `${Math.round(Math.max(460, roomBelow(this) - 56))}px`);
  }

  // ---------------------------------------------------------------- what is asked of it

  point(target, source) {
    this.pointed = { target, source };
    this.schedule();
  }
  pin(target, extend) {
    const { pin } = this.settings, [a, b] = [pin ?? target, target];
    const same = pin && pin[0] === target[0] && pin[1] === target[1];
    this.settings.pin = extend ? [Math.min(a[0], b[0]), Math.max(a[1], b[1])] : same ? null : target;
    this.pointed.target = null;
    this.changed();
  }
  clear() {
    this.settings.pin = null;
    this.pointed = { target: null, source: null };
    this.changed();
  }
  change(part) {
    Object.assign(this.settings, part);
    if ("unit" in part) this.useUnit();
    if ("difference" in part) this.offerPair();
    this.changed();
  }
  changed() {
    const { pin, unit } = this.settings;
    this.mount.setStateValue("view", { pin, unit, difference: this.pair });
    this.again();
  }
  useUnit() {
    cursorOff(this);
    this.reverse.setItems(this.settings.unit === "sentence" ? this.sentences : this.reverse.units.map((_, u) => ({ first: u, last: u })));
  }
  // Which two methods: those that were asked for where they have scores, else the first two that do.
  bestPair() {
    const keys = this.ready.map((column) => column.key), asked = (this.settings.difference ?? []).filter((key) => keys.includes(key));
    const pair = [...new Set([...asked, ...keys])].slice(0, 2);
    return pair.length === 2 ? pair : [];
  }
  offerPair() {
    const on = this.settings.difference !== null;
    this.pair = on ? this.bestPair() : null;
    if (on && !this.pair.length) this.pair = this.settings.difference.length ? this.settings.difference : [];
    for (const control of this.controls) control.show({ ...this.settings, mode: on ? "difference" : "side" });
    this.difference.offer(this.ready, this.pair ?? []);
    this.difference.choice.hidden = !on || this.ready.length < 2;
    this.difference.body.hidden = this.ready.length < 2;
    put(this.difference.note, this.ready.length < 2 ? "A difference needs two methods that have been computed." : "");
    this.difference.note.hidden = this.ready.length >= 2;
    if (this.difference.section.hidden === !on) return;
    this.difference.section.hidden = !on;
    this.grid.hidden = on;
    for (const painter of this.painters()) painter.moved();
  }

  // One of the two is compared no more: what is shown instead is what is chosen now, and Python is to know.
  keepPair(columns) {
    const asked = this.settings.difference;
    if (!asked || asked.every((key) => columns.some((column) => column.key === key))) return;
    this.settings.difference = this.bestPair();
    this.offerPair();
    setTimeout(() => { if (this.root) this.changed(); }); // not while it is being drawn
  }

  go(source) {
    for (const { painter } of this.texts()) {
      bringTo(painter, painter.items[source], "instant");
      flash(painter, painter.items[source]);
    }
  }
  // The texts that are on screen.
  texts() { return this.settings.difference ? (this.ready.length > 1 ? [this.difference] : []) : this.ready; }
  // Whoever is scrolled takes the others along; what they do then is not passed on again.
  scrolled(text) {
    text.painter.paint();
    if (this.leader && this.leader !== text) return;
    this.leader = text;
    clearTimeout(this.leading);
    this.leading = setTimeout(() => { this.leader = null; }, 150);
    const { scrollTop } = text.box;
    for (const other of this.texts()) if (other !== text && other.box.scrollTop !== scrollTop) other.box.scrollTop = scrollTop;
  }

  // ---------------------------------------------------------------- targets and sources in words

  tokensOf(item) { return [this.reverse.units[item.first].first, this.reverse.units[item.last].last]; }
  targetOf(u) { return this.tokensOf(this.settings.unit === "sentence" ? this.sentences[this.sentenceOfUnit[u]] : { first: u, last: u }); }
  runOf([first, last]) {
    const { units } = this.reverse, at = (token) => units.findIndex((unit) => unit.last >= token);
    return { first: at(first), last: at(last) };
  }
  targetText(target, length) {
    const { units } = this.reverse, run = this.runOf(target);
    return excerpt(this.answer.slice(units[run.first].start, units[run.last].end), length);
  }
  textOf(s, length) {
    const [piece] = this.text.sources[s], { pieces } = this.text;
    return excerpt(this.text.prompt.slice(pieces[2 * piece], pieces[2 * piece + 1]), length);
  }
  nameOf(s) {
    const { titles, numbered, sources } = this.text, document = sources[s][1];
    if (this.granularity === "word") return `“${this.textOf(s, 24)}”`;
    const page = this.pageOf(s);
    if (titles.length < 2) return capital(`${page ? `page ${page}, ` : ""}${this.granularity} ${s + 1}`);
    const before = sources.findIndex((source) => source[1] === document);
    return `${numbered ? titles[document] : `Doc ${document + 1}`}, ${page ? `p. ${page}, ` : ""}${this.granularity} ${s - before + 1}`;
  }
  pageOf(s) {
    const { parts, pieces, sources } = this.text, [piece] = sources[s];
    const part = parts.find(({ tokenStart, tokenEnd }) => tokenStart <= piece && piece < tokenEnd); // pieces, here
    return this.granularity === "document" ? null : pageOf({ start: pieces[2 * piece] }, part);
  }
  describe = (s) => ({ name: this.nameOf(s), text: this.textOf(s, 120) });

  // ---------------------------------------------------------------- drawing

  again() { this.drawn = null; this.schedule(); }
  schedule() { this.frame ??= requestAnimationFrame(() => this.draw()); }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.root) return;
    const { pin } = this.settings, target = this.pointed.target ?? pin, { source } = this.pointed;
    const next = { target: `${target}`, source, pin: `${pin}` }, before = this.drawn ?? {}, texts = this.texts();
    this.drawn = next;
    // The layout is read first, of all columns, before anything is written that would make it anew.
    if (this.count) for (const { painter } of texts) painter.boxes();
    this.reverse.mark("on", target && this.runOf(target));
    this.reverse.mark("pin", pin && this.runOf(pin));
    if (next.source !== before.source)
      for (const { painter } of texts) painter.mark("picked", source === null ? null : painter.items[source]);
    this.clearButton.disabled = !pin;
    if (next.target !== before.target) this.drawTarget(target);
  }

  drawTarget(target) {
    const { difference } = this.settings, said = target ? `for “${this.targetText(target, 48)}”` : `for ${this.wholeName}`;
    if (!this.length || !this.count) return this.readout.replaceChildren(this.length ? "The prompt has no context, so there are no sources." : "The response is empty, so there is nothing to compare.");
    for (const column of this.ready) {
      column.values = column.valuesFor(target, this.whole, this.count);
      if (!difference) column.show(column.values, this.describe);
    }
    if (difference && this.ready.length > 1) {
      const [one, other] = this.pair.map((key) => this.ready.find((column) => column.key === key));
      this.difference.show(one, other, said, this.describe);
      this.legend.show("each method by its own strongest source", "", true, 1, "1");
      this.readout.replaceChildren(...this.differenceInWords(one, other, target));
    } else {
      this.legend.show(SIDE, "", true, 1, "1");
      this.readout.replaceChildren(...this.agreementInWords(target));
    }
    this.readout.classList.toggle("rest", !target);
    clearTimeout(this.restLater); // what is in view is coloured in this frame; the rest follows when the pointer rests
    this.restLater = setTimeout(() => { for (const text of this.texts()) text.rest(); }, 80);
  }

  quote(target) { return target ? el("q", "target", this.targetText(target, 60)) : capital(this.wholeName); }
  // Which source each method names first.
  agreementInWords(target) {
    const firsts = new Map();
    for (const column of this.ready) {
      const [first] = firstOf(column.values, 1), key = column.values.some((v) => v) ? first : -1;
      firsts.set(key, [...(firsts.get(key) ?? []), column.name]);
    }
    if (!this.ready.length) return ["No method has scores yet."];
    const parts = [this.quote(target), ": "], list = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0]);
    if (firsts.size === 1 && !firsts.has(-1)) {
      const [s] = firsts.keys();
      parts.push(this.ready.length > 1 ? `${this.ready.length > 2 ? "all" : "both"} name ` : `${this.ready[0].name} names `, el("b", "", this.nameOf(s)), " first ");
      if (this.granularity !== "word") parts.push(el("q", "", this.textOf(s, 90)));
    } else
      [...firsts].forEach(([s, names], k) => {
        parts.push(k ? "; " : "", list(names));
        if (s < 0) parts.push(names.length > 1 ? " score all alike" : " scores all alike");
        else parts.push(names.length > 1 ? " name " : " names ", el("b", "", this.nameOf(s)), " first");
      });
    return target ? parts : [...parts, ". Hover or click the response for a part of it."];
  }
  differenceInWords(one, other, target) {
    const [s] = this.difference.order;
    if (s === undefined) return [this.quote(target), ": both methods score every source alike."];
    return [this.quote(target), ": they differ most on ", el("b", "", this.nameOf(s)), `, ${fixed(one.values[s])} by ${one.name} and ${fixed(other.values[s])} by ${other.name}`];
  }

  tell(s) {
    const drawn = this.ready.filter((column) => column.values); // one that has just come is drawn with the next frame
    if (s < 0 || !drawn.length) return this.tip.show(null);
    this.tip.show([
      el("b", "", this.nameOf(s)),
      ...drawn.map((column) => fact(column.name, `${fixed(column.values[s])} · rank ${placeOf(column.values, s)}`)),
      el("small", "", `of ${count(this.count, "source")}; 1.00 is each method's strongest`),
    ]);
  }
  // For screen readers: the source the cursor is on in all methods, else what the readout says.
  say(source) {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      const each = () => this.ready.filter((c) => c.values).map((c) => `${c.name} ${fixed(c.values[source])}, rank ${placeOf(c.values, source)}`).join("; ");
      put(this.live, source < 0 ? this.readout.textContent : `${this.nameOf(source)}: ${each()}`);
    }, 250);
  }

  close() {
    if (!this.root) return;
    this.deafen();
    for (const timer of [this.restLater, this.saying, this.leading]) clearTimeout(timer);
    cancelAnimationFrame(this.frame);
    this.root.remove();
    this.root = this.id = this.drawn = this.cursor = this.frame = this.leader = null;
  }
}
