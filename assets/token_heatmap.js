// Prompt and response side by side: point at one to see what it has to do with the other.
//
// The matrix of token scores is sent once. Hovering, pinning, granularity, sign, intensity and threshold are sums
// and colours in the browser; only what a person chose (a click, a switch) is reported to Python.
// Prompt and response are coloured independently: the prompt by the target (what is pointed at in the response, else
// the pin, else all of it), the response by the source pointed at or pinned in the prompt.

const views = new WeakMap(); // parentElement -> View: the exported function runs again on new data and new themes
const ROWS = [10, 25, 50];
const GRANULARITIES = ["token", "word", "sentence", "paragraph", "document"];
const DEFAULTS = { pin: null, source: null, granularity: "sentence", unit: "sentence", signed: false, intensity: 1, threshold: 0, template: false, sink: false };

const WORDS = {
  attribution: {
    forward: "darker = more of the response came from here",
    signed: "blue = the response relied on it, red = it counted against",
    reverse: "darker = the source was used more here",
    raw: "raw score",
    rest: "Showing the whole response. Hover the response to see where a part came from, or the prompt to see where it was used. Click keeps, Shift-click extends, Esc clears.",
  },
  attention: {
    forward: "darker = more attention from the response to here",
    signed: "blue = positive, red = negative",
    reverse: "darker = more attention from here to the source",
    raw: "attention",
    rest: "Showing the whole response. Hover the response to see where this head looks from there, or the prompt to see what looks at it. Click keeps, Shift-click extends, Esc clears.",
  },
};

export default function tokenHeatmap({ data, parentElement, setStateValue }) {
  let view = views.get(parentElement);
  if (!view) views.set(parentElement, (view = new View(parentElement)));
  view.report = (state) => setStateValue("view", state);
  view.update(data);
  return () => { view.close(); views.delete(parentElement); };
}

class View {
  constructor(parent) {
    this.parent = parent;
    this.settings = { ...DEFAULTS };
  }

  update(data) {
    if (data.id !== this.id) this.open(data);
    if (data.scores_id !== this.scoresId) this.load(data);
    this.style = getComputedStyle(this.root); // the theme may have changed
    this.drawn = null;
    this.schedule();
    this.fit();
  }

  // A new text: new elements, settings from the address.
  open(data) {
    this.close();
    this.id = data.id;
    this.compact = data.compact;
    this.settings = { ...DEFAULTS, ...data.initial };
    this.rows = ROWS[0];
    this.build(data);
    const promptOffsets = int32(data.prompt_tokens), responseOffsets = int32(data.response_tokens);
    this.width = promptOffsets.length / 2;
    this.length = responseOffsets.length / 2;
    const { units } = buildPrompt(this.prompt, { prompt: data.prompt, parts: data.parts, offsets: promptOffsets, titles: data.titles });
    const response = buildResponse(this.response, { response: data.response, sentences: data.sentences, offsets: responseOffsets });
    this.text = { prompt: data.prompt, response: data.response, titles: data.titles };
    this.sentences = response.sentences;
    this.forward = new Painter(this.prompt);
    this.reverse = new Painter(this.response);
    this.forward.units = units;
    this.reverse.units = response.units;
    this.unitOfToken = new Int32Array(this.width);
    units.forEach((unit, u) => this.unitOfToken.fill(u, unit.first, unit.last + 1));
    this.sentenceOfUnit = new Int32Array(response.units.length);
    this.sentences.forEach((s, k) => this.sentenceOfUnit.fill(k, s.first, s.last + 1));
    this.perToken = new Float64Array(this.width);
    this.sources = Object.fromEntries(Object.entries(data.sources).map(([name, rows]) => [name, sourcesOf(int32(rows), this.unitOfToken)]));
    this.checkSettings();
    this.useGranularity();
    this.useUnit();
    this.listen();
  }

  // New scores for the same text (another method): pin and settings stay.
  load(data) {
    this.scoresId = data.scores_id;
    this.scores = float32(data.scores); // (response, prompt), row-major
    this.words = WORDS[data.measure];
    put(this.rawName, this.words.raw);
    this.cite();
  }

  // What comes from an address is only a wish.
  checkSettings() {
    const s = this.settings, within = (span, count) => (Array.isArray(span) && span[0] >= 0 && span[0] <= span[1] && span[1] < count ? span : null);
    s.pin = within(s.pin, this.length);
    s.source = within(s.source, this.width);
    if (!(s.granularity in this.sources)) s.granularity = Object.keys(this.sources)[0];
    for (const control of this.controls ?? []) control.show(s);
  }

  // ---------------------------------------------------------------- elements

  build(data) {
    const compact = data.compact;
    this.root = el("div", compact ? "at2 compact" : "at2");
    this.readout = el("div", "readout");
    this.live = el("div", "unseen");
    this.live.setAttribute("aria-live", "polite");
    this.prompt = pane("prompt", "Prompt. Arrow keys move over the sources, Enter pins one.");
    this.response = pane("response", "Response. Arrow keys move over the targets, Shift extends, Enter pins.");
    this.ruler = el("canvas", "ruler");
    this.ruler.title = "Where in the prompt the colour is. Click to go there.";
    this.forwardLegend = legend();
    this.reverseLegend = legend();
    this.reverseLegend.box.hidden = true;
    const documents = new Set(data.parts.filter((p) => p.document != null).map((p) => p.document)).size;
    const promptBox = el("section", "pane", head("Prompt", `${count(data.counts[0], "token")}${documents > 1 ? ` · ${documents} documents` : ""}`, this.forwardLegend.box), el("div", "fill", this.prompt, this.ruler));
    const responseBox = el("section", "pane answer", head("Response", count(data.counts[1], "token"), this.reverseLegend.box), el("div", "fill", this.response));
    this.list = el("ol", "rows");
    this.listFor = el("span", "for");
    this.more = button("more", "", () => { this.rows = ROWS[(ROWS.indexOf(this.rows) + 1) % ROWS.length]; this.drawn = null; this.schedule(); });
    this.rawName = el("span");
    const shareNote = el("span", "columns", el("span", "", "share"), this.rawName);
    shareNote.title = "Share: the score divided by the sum of the absolute scores of all sources of the context, so that 100 % is all that the context gave. The raw score is the mean over the target's tokens of the sum over the source's.";
    const ranked = el("section", "pane ranked", el("header", "head", el("h3", "", "Ranked sources"), this.listFor, shareNote), el("div", "fill scroll", this.list, this.more));
    this.tip = el("div", "tip");
    this.tip.hidden = true;
    this.root.append(this.toolbar(compact), el("div", "now", this.readout, this.clearButton), el("div", "panes", promptBox, el("div", "side", responseBox, ...(compact ? [] : [ranked]))), this.tip, this.live);
    this.parent.append(this.root);
  }

  toolbar(compact) {
    const set = (name, slow) => (value) => this.change({ [name]: value }, slow);
    const percentOf = (v) => (v ? `< ${Math.round(v * 100)} %` : "off");
    this.clearButton = button("quiet", "Clear pin", () => this.clearPins());
    this.controls = compact
      ? [toggle("Show first-token sink", "sink", "Many heads park their attention on the first token. Hidden, it does not set the colour scale.", set("sink"))]
      : [
          choice("Sources", "granularity", GRANULARITIES.map((g) => [g, g[0].toUpperCase() + g.slice(1)]), "What gets a score in the prompt", set("granularity")),
          choice("Target", "unit", [["token", "Token"], ["sentence", "Sentence"]], "What is picked in the response", set("unit")),
          choice("Scores", "signed", [[false, "Positive"], [true, "Signed"]], "Signed also shows what counted against the response, in red", set("signed")),
          slider("Intensity", "intensity", 0.5, 3, 0.1, (v) => `× ${v.toFixed(1)}`, "At × 1 colour is proportional to the score; more makes weak sources visible", set("intensity", true)),
          slider("Hide weak", "threshold", 0, 0.9, 0.05, percentOf, "Threshold: leaves sources below this part of the strongest one uncoloured", set("threshold", true)),
        ];
    this.controls.push(toggle("Template", "template", "Shows the tokens that the chat template adds around your text", set("template")));
    const bar = el("div", "bar", ...this.controls.map((c) => c.box));
    bar.setAttribute("role", "toolbar");
    bar.setAttribute("aria-label", "How to show the scores");
    return bar;
  }

  // ---------------------------------------------------------------- what a person does

  listen() {
    const { prompt, response } = this;
    for (const [box, painter] of [[prompt, this.forward], [response, this.reverse]]) {
      box.addEventListener("scroll", () => painter.paint(), { passive: true });
      box.addEventListener("pointermove", (e) => this.moveTip(e));
      box.addEventListener("keydown", (e) => this.key(e, box));
      box.addEventListener("blur", () => { this.hoverTarget = this.hoverSource = null; this.cursorOff(); this.schedule(); });
    }
    response.addEventListener("pointerover", (e) => this.overResponse(e));
    response.addEventListener("pointerleave", () => { this.hoverTarget = null; this.showTip(null); this.schedule(); });
    response.addEventListener("pointerdown", (e) => { const u = this.responseUnit(e); if (u >= 0 && e.button === 0 && !e.target.closest("button")) this.drag = { from: u, moved: false }; });
    response.addEventListener("click", (e) => this.clickResponse(e));
    prompt.addEventListener("pointerover", (e) => { const s = this.sourceAt(e); this.hoverSource = s < 0 ? null : this.spanOfSource(s); this.tipSource(s); this.schedule(); });
    prompt.addEventListener("pointerleave", () => { this.hoverSource = null; this.showTip(null); this.schedule(); });
    prompt.addEventListener("click", (e) => this.clickPrompt(e));
    this.ruler.addEventListener("click", (e) => { prompt.scrollTo({ top: (e.offsetY / this.ruler.clientHeight) * prompt.scrollHeight - prompt.clientHeight / 2, behavior: "smooth" }); });
    this.root.addEventListener("keydown", (e) => { if (e.key === "Escape") { this.clearPins(); e.stopPropagation(); } });
    this.endDrag = () => setTimeout(() => { this.drag = null; });
    addEventListener("pointerup", this.endDrag);
    this.resized = new ResizeObserver(() => { this.forward.moved(); this.reverse.moved(); this.drawn = null; this.schedule(); });
    this.resized.observe(prompt);
    this.resized.observe(response);
    this.onResize = () => this.fit();
    addEventListener("resize", this.onResize);
    const page = (this.parent.host ?? this.parent).closest?.("[data-testid=stMainBlockContainer]");
    this.moved = new ResizeObserver(this.onResize);
    if (page) this.moved.observe(page);
    this.onFonts = () => { this.forward.moved(); this.reverse.moved(); this.drawn = null; this.schedule(); };
    document.fonts?.addEventListener("loadingdone", this.onFonts);
  }

  overResponse(e) {
    const u = this.responseUnit(e);
    if (u < 0) return;
    if (this.drag && (this.drag.moved || u !== this.drag.from)) {
      this.drag.moved = true;
      this.settings.pin = union(this.targetOf(this.drag.from), this.targetOf(u));
      this.hoverTarget = null;
    } else this.hoverTarget = this.targetOf(u);
    this.tipUse(u);
    this.schedule();
  }

  clickResponse(e) {
    const u = this.responseUnit(e);
    if (e.target.closest("button") || u < 0) return;
    if (this.drag?.moved) return this.pinned(); // the drag has set the pin already
    this.pinTarget(this.targetOf(u), e.shiftKey);
  }

  pinTarget(target, extend) {
    const pin = this.settings.pin;
    this.settings.pin = extend && pin ? union(pin, target) : same(pin, target) ? null : target;
    this.pinned();
  }
  pinned() {
    this.hoverTarget = null;
    this.changed();
    this.renderNow();
    const top = this.ranking?.[0];
    if (this.settings.pin && top !== undefined && !this.ranking.some((s) => this.values[s] >= this.values[top] / 2 && this.forward.inView(s))) this.scrollTo(this.prompt, this.forward, this.items()[top]);
  }

  clickPrompt(e) {
    const s = this.sourceAt(e);
    if (s >= 0) this.pinSource(s);
  }
  pinSource(s) {
    const span = this.spanOfSource(s);
    this.settings.source = same(this.settings.source, span) ? null : span;
    this.changed();
    this.renderNow();
    if (!this.settings.source) return;
    const [top] = largest(this.used, 1);
    if (top !== undefined && !this.reverse.inView(top)) this.scrollTo(this.response, this.reverse, this.reverse.items[top]);
  }

  clearPins() {
    Object.assign(this.settings, { pin: null, source: null });
    this.hoverTarget = this.hoverSource = null;
    this.cursorOff();
    this.changed();
  }

  change(part, slow) {
    Object.assign(this.settings, part);
    if ("granularity" in part) this.useGranularity();
    if ("unit" in part) this.useUnit();
    if ("template" in part) { this.root.classList.toggle("with-template", part.template); this.forward.moved(); }
    this.changed(slow);
  }

  // Tell Python; a slider tells when it rests.
  changed(slow) {
    clearTimeout(this.telling);
    const tell = () => this.report({ ...this.settings });
    if (slow) this.telling = setTimeout(tell, 300);
    else tell();
    this.drawn = null;
    this.schedule();
  }

  key(e, box) {
    const inPrompt = box === this.prompt, step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    const targets = inPrompt ? this.items() : this.reverse.items, last = targets.length - 1;
    if (!targets.length) return;
    if (e.key === "Enter" || e.key === " ") {
      if (this.cursor?.box !== box) return;
      if (inPrompt) this.pinSource(this.cursor.at);
      else this.pinTarget(this.tokensOf(targets[this.cursor.at]), e.shiftKey);
      e.preventDefault();
      return;
    }
    const at = this.cursor?.box === box ? this.cursor.at : -1;
    let next = step ? at + step : { Home: 0, End: last }[e.key];
    if (next === undefined) return;
    if (!inPrompt && (e.key === "ArrowDown" || e.key === "ArrowUp") && this.settings.unit === "token" && at >= 0) {
      const k = this.sentenceOfUnit[at] + step; // up and down go by sentence
      next = this.sentences[Math.max(0, Math.min(k, this.sentences.length - 1))].first;
    }
    next = Math.max(0, Math.min(last, next));
    this.cursorOn(box, next, targets[next]);
    if (inPrompt) this.hoverSource = this.spanOfSource(next);
    else {
      this.hoverTarget = this.tokensOf(targets[next]);
      if (e.shiftKey) { this.settings.pin = union(this.settings.pin ?? this.tokensOf(targets[Math.max(at, 0)]), this.hoverTarget); this.hoverTarget = null; this.changed(true); }
    }
    this.renderNow();
    this.say();
    e.preventDefault();
  }

  cursorOn(box, at, item) {
    this.cursorOff();
    const painter = box === this.prompt ? this.forward : this.reverse, node = painter.units[item.first].node;
    this.cursor = { box, at, painter, item };
    for (let u = item.first; u <= item.last; u++) painter.units[u].node.classList.add("cursor");
    node.id = "at2-cursor";
    node.setAttribute("role", "option");
    box.setAttribute("aria-activedescendant", node.id);
    if (!painter.inView(at)) this.scrollTo(box, painter, item, "instant");
  }
  cursorOff() {
    if (!this.cursor) return;
    const { box, painter, item } = this.cursor, node = painter.units[item.first].node;
    for (let u = item.first; u <= item.last; u++) painter.units[u].node.classList.remove("cursor");
    node.removeAttribute("id");
    node.removeAttribute("role");
    box.removeAttribute("aria-activedescendant");
    this.cursor = null;
  }

  // ---------------------------------------------------------------- from pointer to text and back

  items() { return this.sources[this.settings.granularity]; }
  spanOfSource(s) { const { tokenStart, tokenEnd } = this.items()[s]; return [tokenStart, tokenEnd - 1]; }
  tokensOf(item) { return [this.reverse.units[item.first].first, this.reverse.units[item.last].last]; }
  targetOf(u) { return this.tokensOf(this.settings.unit === "sentence" ? this.sentences[this.sentenceOfUnit[u]] : { first: u, last: u }); }
  sourceAt(e) { const u = unitAt(e, this.prompt); return u < 0 ? -1 : this.sourceOfUnit[u]; }
  responseUnit(e) {
    const u = unitAt(e, this.response);
    if (u >= 0 || this.settings.unit !== "sentence") return u;
    const box = e.target.closest?.(".sentence"); // on a citation: its sentence
    return box ? this.sentences.find((s) => s.box === box).first : -1;
  }
  useGranularity() {
    const items = this.items();
    this.root.classList.toggle("by-token", this.settings.granularity === "token");
    this.forward.setItems(items);
    this.forward.moved();
    this.sourceOfUnit = new Int32Array(this.forward.units.length).fill(-1);
    items.forEach((item, s) => this.sourceOfUnit.fill(s, item.first, item.last + 1));
    this.cursorOff();
  }
  useUnit() {
    const { units } = this.reverse;
    this.reverse.setItems(this.settings.unit === "sentence" ? this.sentences : units.map((_, u) => ({ first: u, last: u })));
    this.cursorOff();
  }

  scrollTo(box, painter, item, behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth") {
    const top = painter.units[item.first].node.offsetTop;
    box.scrollTo({ top: top - box.clientHeight / 3, behavior });
  }
  jump(item) {
    this.scrollTo(this.prompt, this.forward, item, "instant");
    flash(this.forward, item);
  }

  // ---------------------------------------------------------------- drawing

  schedule() { this.frame ??= requestAnimationFrame(() => this.renderNow()); }

  renderNow() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.scores || !this.forward) return;
    const s = this.settings, target = this.hoverTarget ?? s.pin, source = this.hoverSource ?? s.source;
    const drawn = `${target}|${source}|${s.pin}|${s.source}`;
    if (drawn === this.drawn) return;
    const [oldTarget, oldSource] = this.drawn === null ? [] : (this.drawn?.split("|") ?? []);
    this.drawn = drawn;
    this.markPicks(target, source); // these read the layout, so they come before what changes it
    if (`${target}` !== oldTarget) this.drawTarget(target);
    if (`${source}` !== oldSource) this.drawSource(source);
    this.clearButton.disabled = !s.pin && !s.source;
  }

  levels(values, top) {
    const { intensity, threshold } = this.settings, out = new Int8Array(values.length);
    if (top) for (let i = 0; i < values.length; i++) {
      const part = Math.min(1, Math.abs(values[i]) / top);
      if (part && part >= threshold) out[i] = Math.sign(values[i]) * Math.round(LEVELS * part ** (1 / intensity));
    }
    return out;
  }

  drawTarget(target) {
    const { signed } = this.settings, perToken = this.perToken;
    if (this.length) meanOfRows(this.scores, this.width, ...(target ?? [0, this.length - 1]), perToken);
    else perToken.fill(0);
    if (this.compact && !this.settings.sink) perToken[0] = 0;
    this.sums = sourceSums(this.items(), perToken);
    this.total = sumOfAbs(this.sums);
    this.values = this.sums.map((v) => shown(v, signed));
    this.ranking = largest(this.values, this.rows);
    const top = this.ranking.length ? Math.abs(this.values[this.ranking[0]]) : 0;
    this.forwardLevels = this.levels(this.values, top);
    this.forward.paint(this.forwardLevels, 0);
    this.forwardLegend.show(signed ? this.words.signed : this.words.forward, signed, this.settings.intensity, top ? percent(this.share(top)) : "");
    this.drawReadout(target);
    clearTimeout(this.restLater); // the text in view is recoloured in this frame; the rest follows when the pointer rests
    this.restLater = setTimeout(() => {
      drawRuler(this.ruler, this.forward, this.forwardLevels, this.style);
      if (!this.compact) this.drawRows(target, top);
      this.forward.paint();
    }, 80);
  }
  share(value) { return this.total ? value / this.total : 0; }

  drawSource(source) {
    const painter = this.reverse;
    this.reverseLegend.box.hidden = !source;
    this.root.classList.toggle("with-source", !!source);
    if (!source) { this.used = null; return painter.paint(new Int8Array(painter.items.length)); }
    this.useOfToken = scoreOfSpan(this.scores, this.width, ...source);
    this.used = Float64Array.from(painter.items, (item) => {
      const [first, last] = this.tokensOf(item);
      let sum = 0;
      for (let t = first; t <= last; t++) sum += this.useOfToken[t];
      return shown(sum / (last - first + 1), this.settings.signed);
    });
    const [best] = largest(this.used, 1), top = best === undefined ? 0 : Math.abs(this.used[best]);
    painter.paint(this.levels(this.used, top));
    this.reverseLegend.show(this.settings.signed ? this.words.signed : this.words.reverse, this.settings.signed, this.settings.intensity, top ? digits(top) : "");
  }

  markPicks(target, source) {
    const { pin } = this.settings;
    this.forward.mark("picked", source && this.unitsOf(source, this.forward));
    this.reverse.mark("on", target && this.unitsOf(target, this.reverse));
    this.reverse.mark("pin", pin && this.unitsOf(pin, this.reverse));
  }
  unitsOf([first, last], { units }) { // tokens to units
    const at = (token) => { let lo = 0, hi = units.length - 1; while (lo < hi) { const mid = (lo + hi) >> 1; if (units[mid].last < token) lo = mid + 1; else hi = mid; } return lo; };
    return { first: at(first), last: at(last) };
  }

  drawRows(target, top) {
    const { list, ranking } = this, items = this.items();
    while (list.children.length < ranking.length) list.append(this.row());
    [...list.children].forEach((row, r) => {
      const s = ranking[r];
      row.hidden = s === undefined;
      if (s === undefined) return;
      const item = items[s], value = this.values[s];
      row.source = s;
      put(row.name, this.nameOf(item));
      put(row.cited, this.numbers?.has(item.start) ? `[${this.numbers.get(item.start)}]` : "");
      put(row.text, excerpt(this.text.prompt.slice(item.start, item.end), 180));
      put(row.share, percent(this.share(value)));
      put(row.raw, digits(value));
      row.meter.style.transform = `scaleX(${top ? Math.abs(value) / top : 0})`;
      row.classList.toggle("against", value < 0);
    });
    const next = ROWS[(ROWS.indexOf(this.rows) + 1) % ROWS.length];
    this.more.hidden = items.length <= ROWS[0];
    put(this.more, next > this.rows && items.length > this.rows ? `Show ${Math.min(next, items.length)} of ${items.length}` : "Show the first 10 only");
    put(this.listFor, target ? `for “${excerpt(this.targetText(target), 60)}”` : "for the whole response");
  }
  row() {
    const row = el("li");
    for (const name of ["rank", "name", "cited", "share", "raw", "text", "meter"]) row[name] = el("span", name);
    row.name.dir = row.text.dir = "auto";
    const press = el("button", "", row.rank, row.name, row.cited, row.share, row.raw, row.text, el("span", "track", row.meter));
    press.type = "button";
    press.addEventListener("click", () => this.jump(this.items()[row.source]));
    const hover = (on) => () => { this.hoverSource = on ? this.spanOfSource(row.source) : null; this.schedule(); };
    press.addEventListener("pointerenter", hover(true));
    press.addEventListener("pointerleave", hover(false));
    press.addEventListener("focus", hover(true));
    press.addEventListener("blur", hover(false));
    put(row.rank, String(this.list.children.length + 1));
    row.append(press);
    return row;
  }
  nameOf(item) {
    const { titles } = this.text, title = titles[item.document];
    if (titles.length > 1) return `Doc ${item.document + 1}${title ? ` · ${excerpt(title, 40)}` : ""}`;
    const kind = this.settings.granularity; // a single context: say which of its sentences
    return kind === "document" ? title || "Context" : `${kind[0].toUpperCase()}${kind.slice(1)} ${this.items().indexOf(item) + 1}`;
  }
  targetText([first, last]) {
    const { units } = this.reverse, run = this.unitsOf([first, last], this.reverse);
    return this.text.response.slice(units[run.first].start, units[run.last].end);
  }

  drawReadout(target) {
    const [top] = this.ranking, { signed } = this.settings;
    let parts;
    if (!this.length) parts = ["The response is empty, so there is nothing to attribute."];
    else if (!this.items().length) parts = ["The prompt has no context, so there are no sources."];
    else if (top === undefined) parts = [signed ? "Every source scores zero for this." : "No source has a positive score for this. Switch Scores to Signed to see what counted against it."];
    else if (!target) parts = [this.words.rest];
    else {
      const item = this.items()[top];
      parts = [el("q", "target", excerpt(this.targetText(target), 70)), " ← ", percent(this.share(this.values[top])), " from ", el("b", "", this.nameOf(item)), " ",
        el("q", "", excerpt(this.text.prompt.slice(item.start, item.end), 110))];
    }
    this.readout.replaceChildren(...parts);
    this.readout.classList.toggle("rest", !target);
  }

  say() {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      const inPrompt = this.cursor?.box === this.prompt, s = this.cursor?.at;
      put(this.live, inPrompt ? `Source ${s + 1} of ${this.items().length}: ${this.numbersOf(s)}` : this.readout.textContent);
    }, 250);
  }
  numbersOf(s) { return `rank ${rankOf(this.values, s)}, share ${percent(this.share(this.values[s]))}, ${this.words.raw} ${digits(this.values[s])}`; }

  // ---------------------------------------------------------------- tooltip

  tipSource(s) {
    if (s < 0) return this.showTip(null);
    const item = this.items()[s], cited = this.numbers?.get(item.start);
    const whose = this.hoverTarget ?? this.settings.pin ? "for the pinned span" : "for the whole response";
    this.showTip([el("b", "", this.nameOf(item)), cited && this.settings.granularity === "sentence" ? ` [${cited}]` : "",
      fact("share", percent(this.share(this.values[s]))), fact(this.words.raw, digits(this.values[s])),
      fact("rank", `${rankOf(this.values, s)} of ${this.items().length}`), el("small", "", whose)]);
  }
  tipUse(u) {
    if (!this.settings.source || this.drag) return this.showTip(null);
    const [first, last] = this.targetOf(u);
    meanOfRows(this.scores, this.width, first, last, this.perToken);
    const total = sumOfAbs(sourceSums(this.items(), this.perToken));
    let sum = 0;
    for (let t = first; t <= last; t++) sum += this.useOfToken[t];
    const value = shown(sum / (last - first + 1), this.settings.signed);
    this.showTip([el("b", "", "From the pinned source"), fact("share", percent(total ? value / total : 0)), fact(this.words.raw, digits(value))]);
  }
  showTip(parts) {
    this.tip.hidden = !parts;
    if (parts) this.tip.replaceChildren(...parts.filter(Boolean));
  }
  moveTip(e) {
    if (this.tip.hidden) return;
    const x = Math.min(e.clientX + 14, innerWidth - 250), y = e.clientY + 150 > innerHeight ? e.clientY - 120 : e.clientY + 20;
    this.tip.style.transform = `translate(${x}px, ${y}px)`;
  }

  // ---------------------------------------------------------------- citations

  // [1] [2] behind each sentence of the response; numbers belong to sources, in the order they are first cited.
  cite() {
    const items = this.sources.sentence, { units } = this.forward;
    for (const node of this.citedNodes ?? []) delete node.dataset.cite;
    this.citedNodes = [];
    this.numbers = new Map(); // start of a source in the prompt -> its number
    if (!items || this.compact) return;
    for (const sentence of this.sentences) {
      sentence.cites.replaceChildren();
      if (!/[\p{L}\p{N}]/u.test(sentence.text)) continue;
      const [first, last] = this.tokensOf(sentence), values = sourceSums(items, meanOfRows(this.scores, this.width, first, last, this.perToken));
      const total = sumOfAbs(values);
      for (const s of citedSources(values)) {
        const item = items[s];
        if (!this.numbers.has(item.start)) {
          this.numbers.set(item.start, this.numbers.size + 1);
          const node = units[item.first].node;
          node.dataset.cite = this.numbers.get(item.start);
          node.classList.toggle("lead", !/^\s/.test(node.textContent));
          this.citedNodes.push(node);
        }
        const number = this.numbers.get(item.start), mark = button("cite", `[${number}]`, () => this.jump(item));
        mark.title = `Source ${number}: ${percent(values[s] / total)} of this sentence's score\n“${excerpt(this.text.prompt.slice(item.start, item.end), 140)}”\n\n` +
          `Cited are sentences with at least ${percent(citedFrom(items.length))} (an even split would be ${percent(1 / items.length)}) and at least half of the strongest one's share, three at most. ` +
          "A mark says what the model used, not that it is true; no mark does not mean unverified.";
        mark.setAttribute("aria-label", `Go to source ${number}, ${percent(values[s] / total)}`);
        sentence.cites.append("\u2060", mark); // a word joiner: no mark begins a line
      }
    }
    this.forward.moved();
  }

  // ---------------------------------------------------------------- size and end

  // Fill the window from where the component begins; where little is left, be as tall as a window and let the page scroll.
  fit() {
    const host = this.parent.host ?? this.parent, scroller = host.closest?.("[data-testid=stMain]");
    const top = this.root.getBoundingClientRect().top + (scroller ? scroller.scrollTop : scrollY);
    const room = innerHeight - top - 16;
    this.root.style.setProperty("--height", this.compact ? "" : `${Math.round(room >= 340 ? room : Math.max(420, innerHeight - 96))}px`);
  }

  close() {
    if (!this.root) return;
    this.resized?.disconnect();
    this.moved?.disconnect();
    removeEventListener("pointerup", this.endDrag);
    removeEventListener("resize", this.onResize);
    document.fonts?.removeEventListener("loadingdone", this.onFonts);
    clearTimeout(this.telling);
    clearTimeout(this.restLater);
    cancelAnimationFrame(this.frame);
    this.root.remove();
    this.root = this.scoresId = this.drawn = this.cursor = this.frame = this.hoverTarget = this.hoverSource = null;
  }
}

// ------------------------------------------------------------------ small things

// Sources as items of the painter. Two that share a display unit are one: nobody can point at half a letter.
function sourcesOf(rows, unitOfToken) {
  const items = [];
  for (let i = 0; i < rows.length; i += 5) {
    const [start, end, tokenStart, tokenEnd, document] = rows.subarray(i, i + 5), before = items.at(-1);
    if (tokenEnd <= tokenStart) continue;
    const first = Math.max(unitOfToken[tokenStart], before ? before.last + 1 : 0), last = unitOfToken[tokenEnd - 1];
    if (first > last) Object.assign(before, { end: Math.max(before.end, end), tokenEnd: Math.max(before.tokenEnd, tokenEnd) });
    else items.push({ start, end, tokenStart, tokenEnd, document, first, last });
  }
  return items;
}

function unitAt(e, box) {
  for (let node = e.target; node && node !== box; node = node.parentNode) if (node.unit !== undefined) return node.unit;
  return -1;
}
const same = (a, b) => a === b || (!!a && !!b && a[0] === b[0] && a[1] === b[1]);
const union = (a, b) => [Math.min(a[0], b[0]), Math.max(a[1], b[1])];
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const fact = (name, value) => el("div", "", el("span", "", name), value);

function pane(cls, label) {
  const box = el("div", `text ${cls}`);
  box.tabIndex = 0;
  box.setAttribute("role", "listbox");
  box.setAttribute("aria-label", label);
  return box;
}
function head(title, note, ...rest) { return el("header", "head", el("h3", "", title), el("span", "note", note), ...rest); }
function button(cls, text, press) {
  const b = el("button", cls, text);
  b.type = "button";
  b.addEventListener("click", (e) => { e.stopPropagation(); press(); });
  return b;
}
function legend() {
  const words = el("span", "words"), low = el("span"), ramp = el("i", "ramp"), high = el("span");
  const box = el("div", "legend", words, low, ramp, high);
  let bent; // what the ramp was drawn for
  return {
    box,
    show(text, signed, intensity, top) { // the ramp bends with Intensity, as the text does
      put(words, text);
      put(low, top ? (signed ? `−${top}` : "0") : "");
      put(high, top);
      if (bent === `${signed}|${intensity}`) return;
      bent = `${signed}|${intensity}`;
      const stops = Array.from({ length: 13 }, (_, k) => {
        const x = signed ? k / 6 - 1 : k / 12, level = Math.sign(x) * Math.round(LEVELS * Math.abs(x) ** (1 / intensity));
        return `color-mix(in srgb, var(${level > 0 ? "--for" : "--against"}) ${Math.round((Math.abs(level) / LEVELS) * 100)}%, transparent)`;
      });
      ramp.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    },
  };
}

// Controls: native inputs, so that keyboard and screen readers find what they know. show() reflects the settings.
let groups = 0;
function choice(label, setting, options, help, change) {
  const name = `at2-${setting}-${groups++}`;
  const inputs = options.map(([value, text]) => {
    const input = el("input");
    Object.assign(input, { type: "radio", name });
    input.addEventListener("change", () => change(value));
    return { value, input, box: el("label", "", input, el("span", "", text)) };
  });
  const box = el("fieldset", "choice", el("legend", "", label), el("div", "options", ...inputs.map((i) => i.box)));
  box.title = help;
  return { box, show: (settings) => inputs.forEach((i) => { i.input.checked = i.value === settings[setting]; }) };
}
function slider(label, setting, min, max, step, say, help, change) {
  const input = el("input"), value = el("output");
  Object.assign(input, { type: "range", min, max, step });
  input.setAttribute("aria-label", label);
  input.addEventListener("input", () => { change(Number(input.value)); put(value, say(Number(input.value))); });
  const box = el("label", "slider", el("span", "", label), input, value);
  box.title = help;
  return { box, show: (settings) => { input.value = settings[setting]; put(value, say(settings[setting])); } };
}
function toggle(label, setting, help, change) {
  const input = el("input");
  Object.assign(input, { type: "checkbox" });
  input.setAttribute("role", "switch");
  input.addEventListener("change", () => change(input.checked));
  const box = el("label", "toggle", input, el("span", "", label));
  box.title = help;
  return { box, show: (settings) => { input.checked = settings[setting]; } };
}
