// Prompt and response side by side: point at one to see what it has to do with the other.
//
// The matrix of token scores is sent once. Hovering, pinning, granularity, sign, intensity and threshold are sums
// and colours in the browser; only what a person chose (a click, a switch) is reported to Python.
// Prompt and response are coloured independently: the prompt by the target (what is pointed at in the response, else
// the pin, else all of it), the response by the source pointed at or pinned in the prompt.

const views = new WeakMap(); // parentElement -> View: the exported function runs again on new data and new themes
const GRANULARITIES = ["token", "word", "sentence", "paragraph", "document"];
const DEFAULTS = { pin: null, source: null, granularity: "sentence", unit: "sentence", signed: false, intensity: 1, threshold: 0, template: false, sink: false };

const WORDS = {
  attribution: {
    forward: "stronger blue = more of the response came from here",
    signed: "blue = the response relied on it, red = it counted against",
    reverse: "stronger blue = the source was used more here",
    raw: "raw score",
    rest: "Showing the whole response. Hover the response to see where a part came from, or the prompt to see where it was used. Click keeps, Shift-click extends, Esc clears.",
  },
  attention: {
    forward: "stronger blue = more attention from the response to here",
    reverse: "stronger blue = more attention from here to the source",
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
  constructor(parent) { this.parent = parent; }

  update(data) {
    if (data.id !== this.id) this.open(data);
    if (data.scores_id !== this.scoresId) this.load(data);
    this.style = getComputedStyle(this.root); // the theme may have changed
    this.again();
    this.fit();
  }

  // A new text: new elements, and settings from the address.
  open(data) {
    this.close();
    Object.assign(this, { id: data.id, compact: data.compact, settings: { ...DEFAULTS, ...data.initial }, pointed: { target: null, source: null } });
    this.text = { prompt: data.prompt, response: data.response, titles: data.titles, parts: data.parts };
    this.settled = data.compact; // once the scores are there, the prompt goes to the strongest source
    this.build(data);
    const promptOffsets = int32(data.prompt_tokens), responseOffsets = int32(data.response_tokens);
    this.width = promptOffsets.length / 2;
    this.length = responseOffsets.length / 2;
    this.forward = new Painter(this.prompt);
    this.reverse = new Painter(this.response);
    this.forward.units = buildPrompt(this.prompt, { ...this.text, offsets: promptOffsets });
    const { units, sentences } = buildResponse(this.response, { ...this.text, sentences: data.sentences, offsets: responseOffsets });
    Object.assign(this, { sentences, sentenceOfUnit: ownersOf(sentences, units.length) });
    this.reverse.units = units;
    const unitOfToken = new Int32Array(this.width);
    this.forward.units.forEach((unit, u) => unitOfToken.fill(u, unit.first, unit.last + 1));
    this.sources = Object.fromEntries(Object.entries(data.sources).map(([name, rows]) => [name, sourcesOf(int32(rows), unitOfToken)]));
    this.checkSettings();
    this.useGranularity();
    this.useUnit();
    this.root.classList.toggle("with-template", this.settings.template || this.compact);
    this.deafen = [listen(this), this.watch()];
  }

  // New scores for the same text (another method): pin and settings stay.
  load(data) {
    this.scoresId = data.scores_id;
    this.scores = float32(data.scores); // (response, prompt), row-major
    this.words = WORDS[data.measure];
    if (this.signs) this.signs.box.disabled = !this.words.signed; // attention is never negative
    put(this.list.rawName, this.words.raw);
    this.numbers = this.compact ? new Map() : cite(this);
    this.forward.moved();
  }

  // What comes from an address is only a wish.
  checkSettings() {
    const s = this.settings, within = (span, count) => (Array.isArray(span) && span[0] >= 0 && span[0] <= span[1] && span[1] < count ? span : null);
    s.pin = within(s.pin, this.length);
    s.source = within(s.source, this.width);
    if (!(s.granularity in this.sources)) s.granularity = Object.keys(this.sources)[0];
    for (const control of this.controls) control.show(s);
  }

  // ---------------------------------------------------------------- elements

  build(data) {
    const compact = data.compact, documents = new Set(data.parts.filter((p) => p.document != null).map((p) => p.document)).size;
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
    this.tip = tooltip();
    this.clearButton = button("quiet", "Clear pin", () => this.clear());
    this.list = new RankedList({
      go: (s) => this.jump(this.items()[s]),
      point: (s) => this.point(this.pointed.target, s === null ? null : this.spanOf(s)),
      resize: () => this.again(),
    });
    const promptNote = `${count(data.counts[0], "token")}${documents > 1 ? ` · ${documents} documents` : ""}`;
    const promptBox = el("section", "pane", head("Prompt", promptNote, this.forwardLegend.box), el("div", "fill", this.prompt, this.ruler));
    const responseBox = el("section", "pane answer", head("Response", count(data.counts[1], "token"), this.reverseLegend.box), el("div", "fill", this.response));
    const panes = el("div", "panes", promptBox, el("div", "side", responseBox, ...(compact ? [] : [this.list.box])));
    this.root.append(this.toolbar(compact), el("div", "now", this.readout, this.clearButton), panes, this.tip.box, this.live);
    this.parent.append(this.root);
  }

  toolbar(compact) {
    const set = (name, slow) => (value) => this.change({ [name]: value }, slow);
    const percentOf = (v) => (v ? `< ${Math.round(v * 100)} % of the strongest` : "off");
    this.signs = compact ? null : choice("Scores", "signed", [[false, "Positive"], [true, "Signed"]], "Signed also shows what counted against the response, in red; the attention of one head is never negative", set("signed"));
    this.controls = compact
      ? [toggle("Show first-token sink", "sink", "Many heads park their attention on the first token. Hidden, it does not set the colour scale.", set("sink"))]
      : [
          choice("Sources", "granularity", GRANULARITIES.map((g) => [g, capital(g)]), "What gets a score in the prompt", set("granularity")),
          choice("Target", "unit", [["token", "Token"], ["sentence", "Sentence"]], "What is picked in the response", set("unit")),
          this.signs,
          slider("Intensity", "intensity", 0.5, 3, 0.1, (v) => `× ${v.toFixed(1)}`, "At × 1 colour is proportional to the score; more makes weak sources visible", set("intensity", true)),
          slider("Hide weak", "threshold", 0, 0.9, 0.05, percentOf, "Threshold: leaves sources below this part of the strongest one uncoloured", set("threshold", true)),
          toggle("Template", "template", "Shows the tokens that the chat template adds around your text", set("template")),
        ];
    const bar = el("div", "bar", ...this.controls.map((c) => c.box));
    bar.setAttribute("role", "toolbar");
    bar.setAttribute("aria-label", "How to show the scores");
    return bar;
  }

  // What moves the text without a person's hand on it: sizes, fonts, what the page puts above.
  watch() {
    const moved = () => { this.forward.moved(); this.reverse.moved(); this.again(); }, fit = () => this.fit();
    const sizes = new ResizeObserver(moved), above = new ResizeObserver(fit);
    sizes.observe(this.prompt);
    sizes.observe(this.response);
    const page = (this.parent.host ?? this.parent).closest?.("[data-testid=stMainBlockContainer]");
    if (page) above.observe(page);
    addEventListener("resize", fit);
    document.fonts?.addEventListener("loadingdone", moved);
    return () => {
      sizes.disconnect();
      above.disconnect();
      removeEventListener("resize", fit);
      document.fonts?.removeEventListener("loadingdone", moved);
    };
  }

  // Fill the window from where the component begins; where little is left, be as tall as a window and let the page scroll.
  fit() {
    const host = this.parent.host ?? this.parent, scroller = host.closest?.("[data-testid=stMain]");
    const top = this.root.getBoundingClientRect().top + (scroller ? scroller.scrollTop : scrollY), room = innerHeight - top - 16;
    this.root.style.setProperty("--height", this.compact ? "" : `${Math.round(room >= 340 ? room : Math.max(420, innerHeight - 96))}px`);
  }

  // ---------------------------------------------------------------- what is asked of it

  point(target, source) {
    this.pointed = { target, source };
    this.schedule();
  }
  pin(target, extend) {
    const { pin } = this.settings;
    this.settings.pin = extend && pin ? union(pin, target) : same(pin, target) ? null : target;
    this.pinned();
  }
  pinned() {
    this.pointed.target = null;
    this.changed();
    this.draw();
    if (this.settings.pin) this.bringStrongest();
  }
  // Unless a source nearly as strong is in view already.
  bringStrongest(behavior) {
    const strong = this.ranking.filter((s) => Math.abs(this.values[s]) >= Math.abs(this.values[this.ranking[0]]) / 2);
    if (strong.length && !strong.some((s) => this.forward.inView(s))) this.bring(this.forward, this.items()[strong[0]], behavior);
  }
  stretch(pin) {
    this.settings.pin = pin;
    this.pointed = { target: null, source: null };
    this.changed(true);
  }
  pinSource(s) {
    const span = this.spanOf(s);
    this.settings.source = same(this.settings.source, span) ? null : span;
    this.changed();
    this.draw();
    const [top] = this.used ? largest(this.used, 1) : [];
    if (top !== undefined && !this.reverse.inView(top)) this.bring(this.reverse, this.reverse.items[top]);
  }
  clear() {
    Object.assign(this.settings, { pin: null, source: null });
    this.pointed = { target: null, source: null };
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
    this.again();
  }

  bring(painter, item, behavior = calm()) {
    const { scroller } = painter;
    scroller.scrollTo({ top: painter.units[item.first].node.offsetTop - scroller.clientHeight / 3, behavior });
  }
  jump(item) {
    this.bring(this.forward, item, "instant");
    flash(this.forward, item);
  }

  // ---------------------------------------------------------------- sources, targets, units, tokens

  signed() { return this.settings.signed && !!this.words.signed; }
  items() { return this.sources[this.settings.granularity]; }
  spanOf(s) { const { tokenStart, tokenEnd } = this.items()[s]; return [tokenStart, tokenEnd - 1]; }
  tokensOf(item) { return [this.reverse.units[item.first].first, this.reverse.units[item.last].last]; }
  targetOf(u) { return this.tokensOf(this.settings.unit === "sentence" ? this.sentences[this.sentenceOfUnit[u]] : { first: u, last: u }); }
  useGranularity() {
    cursorOff(this);
    const items = this.items();
    this.root.classList.toggle("by-token", this.settings.granularity === "token");
    this.forward.setItems(items);
    this.sourceOfUnit = ownersOf(items, this.forward.units.length);
  }
  useUnit() {
    cursorOff(this);
    this.reverse.setItems(this.settings.unit === "sentence" ? this.sentences : this.reverse.units.map((_, u) => ({ first: u, last: u })));
  }
  nameOf(item) {
    const { titles, parts } = this.text, part = parts.find((p) => p.tokenStart <= item.tokenStart && item.tokenStart < p.tokenEnd);
    if (this.compact && part?.document == null) return part?.role || "Template"; // every token of the prompt is a source here
    const at = this.compact ? part.document : item.document, title = titles[at];
    if (titles.length > 1) return `Doc ${at + 1}${title ? ` · ${excerpt(title, 40)}` : ""}`;
    const kind = this.settings.granularity; // a single context: say which of its sentences
    return kind === "document" ? title || "Context" : `${capital(kind)} ${this.items().indexOf(item) + 1}`;
  }
  textOf(item, length) { return excerpt(this.text.prompt.slice(item.start, item.end), length); }
  targetText(target, length) {
    const { units } = this.reverse, run = unitsOf(target, units);
    return excerpt(this.text.response.slice(units[run.first].start, units[run.last].end), length);
  }
  share(value) { return this.total ? value / this.total : 0; }

  // ---------------------------------------------------------------- drawing

  again() { this.drawn = null; this.schedule(); } // also what seems to be drawn already
  schedule() { this.frame ??= requestAnimationFrame(() => this.draw()); }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.root) return;
    const { pin, source: kept } = this.settings, target = this.pointed.target ?? pin, source = this.pointed.source ?? kept;
    const next = { target: `${target}`, source: `${source}`, pin: `${pin}` }, before = this.drawn ?? {};
    this.drawn = next;
    // The marks read the layout, so they come before what changes it.
    this.forward.mark("picked", source && unitsOf(source, this.forward.units));
    this.reverse.mark("on", target && unitsOf(target, this.reverse.units));
    this.reverse.mark("pin", pin && unitsOf(pin, this.reverse.units));
    if (next.target !== before.target) this.drawTarget(target);
    if (next.source !== before.source) this.drawSource(source);
    this.clearButton.disabled = !pin && !kept;
    if (this.settled) return;
    this.settled = true;
    this.bringStrongest("instant");
  }

  drawTarget(target) {
    const { intensity, sink } = this.settings, signed = this.signed(), perToken = new Float64Array(this.width);
    if (this.length) meanOfRows(this.scores, this.width, ...(target ?? [0, this.length - 1]), perToken);
    if (this.compact && !sink) perToken[0] = 0;
    const sums = sourceSums(this.items(), perToken);
    this.total = sumOfAbs(sums);
    this.values = sums.map((v) => shown(v, signed));
    this.ranking = largest(this.values, this.list.rows);
    const top = this.ranking.length ? Math.abs(this.values[this.ranking[0]]) : 0;
    const levels = levelsOf(this.values, top, this.settings);
    this.forward.paint(levels, 0);
    this.forwardLegend.show(signed ? this.words.signed : this.words.forward, signed, intensity, top ? percent(this.share(top)) : "");
    this.drawReadout(target);
    clearTimeout(this.restLater); // the text in view is recoloured in this frame; the rest follows when the pointer rests
    this.restLater = setTimeout(() => {
      drawRuler(this.ruler, this.forward, levels, this.style);
      if (!this.compact) this.drawList(target, top);
      this.forward.paint();
    }, 80);
  }

  drawSource(source) {
    const { intensity } = this.settings, signed = this.signed(), { items } = this.reverse;
    this.reverseLegend.box.hidden = !source;
    this.root.classList.toggle("with-source", !!source);
    this.used = source && this.useOf(source);
    const [best] = source ? largest(this.used, 1) : [], top = best === undefined ? 0 : Math.abs(this.used[best]);
    this.reverse.paint(source ? levelsOf(this.used, top, this.settings) : new Int8Array(items.length));
    if (source) this.reverseLegend.show(signed ? this.words.signed : this.words.reverse, signed, intensity, top ? digits(top) : "");
  }
  // Score of the source for each target, (targets).
  useOf(source) {
    const perToken = scoreOfSpan(this.scores, this.width, ...source);
    return Float64Array.from(this.reverse.items, (item) => {
      const [first, last] = this.tokensOf(item);
      let sum = 0;
      for (let t = first; t <= last; t++) sum += perToken[t];
      return shown(sum / (last - first + 1), this.signed());
    });
  }

  drawList(target, top) {
    const items = this.items(), numbered = this.settings.granularity === "sentence";
    this.list.show(this.ranking, items.length, target ? `for “${this.targetText(target, 60)}”` : "for the whole response", (s) => ({
      name: this.nameOf(items[s]),
      cited: numbered && this.numbers.has(items[s].start) ? `[${this.numbers.get(items[s].start)}]` : "",
      text: this.textOf(items[s], 180),
      share: percent(this.share(this.values[s])),
      raw: digits(this.values[s]),
      part: top ? Math.abs(this.values[s]) / top : 0,
      against: this.values[s] < 0,
      weak: top > 0 && Math.abs(this.values[s]) / top < this.settings.threshold,
    }));
  }

  drawReadout(target) {
    const [top] = this.ranking, item = this.items()[top];
    let parts;
    if (!this.length) parts = ["The response is empty, so there is nothing to attribute."];
    else if (!this.items().length) parts = ["The prompt has no context, so there are no sources."];
    else if (!item) parts = [this.signed() || !this.words.signed ? "Every source scores zero for this." : "No source has a positive score for this. Switch Scores to Signed to see what counted against it."];
    else if (!target) parts = [this.words.rest];
    else parts = [el("q", "target", this.targetText(target, 70)), " ← ", percent(this.share(this.values[top])), " from ", el("b", "", this.nameOf(item)), " ", el("q", "", this.textOf(item, 110))];
    this.readout.replaceChildren(...parts);
    this.readout.classList.toggle("rest", !target);
  }

  // ---------------------------------------------------------------- in words

  tellSource(s) {
    if (s < 0) return this.tip.show(null);
    const item = this.items()[s], cited = this.settings.granularity === "sentence" && this.numbers.get(item.start);
    this.tip.show([
      el("b", "", this.nameOf(item)),
      cited && ` [${cited}]`,
      fact("share", percent(this.share(this.values[s]))),
      fact(this.words.raw, digits(this.values[s])),
      fact("rank", `${rankOf(this.values, s)} of ${this.items().length}`),
      el("small", "", this.settings.pin ? "for the pinned span" : "for the whole response"),
    ]);
  }
  tellUse(u) {
    if (!this.settings.source || !this.used || this.drag) return this.tip.show(null);
    const at = this.settings.unit === "sentence" ? this.sentenceOfUnit[u] : u;
    const perToken = meanOfRows(this.scores, this.width, ...this.targetOf(u), new Float64Array(this.width));
    const total = sumOfAbs(sourceSums(this.items(), perToken));
    this.tip.show([el("b", "", "From the pinned source"), fact("share", percent(total ? this.used[at] / total : 0)), fact(this.words.raw, digits(this.used[at]))]);
  }
  // For screen readers: the source the cursor is on, else what the readout says.
  say(source) {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      const value = this.values[source];
      put(this.live, source < 0 ? this.readout.textContent
        : `Source ${source + 1} of ${this.items().length}: rank ${rankOf(this.values, source)}, share ${percent(this.share(value))}, ${this.words.raw} ${digits(value)}`);
    }, 250);
  }

  close() {
    if (!this.root) return;
    for (const stop of this.deafen) stop();
    for (const timer of [this.telling, this.restLater, this.saying]) clearTimeout(timer);
    cancelAnimationFrame(this.frame);
    this.root.remove();
    this.root = this.id = this.scoresId = this.drawn = this.cursor = this.frame = null;
  }
}

// [1] [2] behind each sentence of the response; numbers belong to sources, in the order in which they are first cited.
// Returns them by where the source starts in the prompt.
function cite(view) {
  const items = view.sources.sentence, numbers = new Map(), perToken = new Float64Array(view.width);
  view.prompt.querySelectorAll("[data-cite]").forEach((mark) => { const node = mark.parentNode; mark.remove(); node.normalize(); });
  for (const sentence of view.sentences) {
    sentence.cites.replaceChildren();
    if (!/[\p{L}\p{N}]/u.test(sentence.text)) continue;
    const values = sourceSums(items, meanOfRows(view.scores, view.width, ...view.tokensOf(sentence), perToken)), total = sumOfAbs(values);
    for (const s of citedSources(values)) {
      const item = items[s], share = percent(values[s] / total);
      if (!numbers.has(item.start)) {
        numbers.set(item.start, numbers.size + 1);
        markSource(view.forward.units[item.first].node, numbers.get(item.start));
      }
      const number = numbers.get(item.start), mark = button("cite", `[${number}]`, () => view.jump(item));
      mark.title =
        `Source ${number}: ${share} of this sentence's score\n“${view.textOf(item, 140)}”\n\nCited are sentences with at least ` +
        `${percent(citedFrom(items.length))} (an even split would be ${percent(1 / items.length)}) and at least half of the strongest one's ` +
        "share, three at most. A mark says what the model used, not that it is true; no mark does not mean unverified.";
      mark.setAttribute("aria-label", `Go to source ${number}, ${share}`);
      sentence.cites.append(mark);
    }
  }
  return numbers;
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

// Colour levels of values: proportional to the strongest at intensity 1, none below the threshold.
function levelsOf(values, top, { intensity, threshold }) {
  return Int8Array.from(values, (value) => {
    const part = top ? Math.min(1, Math.abs(value) / top) : 0;
    return part && part >= threshold ? Math.sign(value) * Math.round(LEVELS * part ** (1 / intensity)) : 0;
  });
}

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

// For every unit the item it belongs to, or -1.
function ownersOf(items, count) {
  const owners = new Int32Array(count).fill(-1);
  items.forEach(({ first, last }, i) => owners.fill(i, first, last + 1));
  return owners;
}

// The run of units that holds tokens first..last.
function unitsOf([first, last], units) {
  const at = (token) => {
    let lo = 0, hi = units.length - 1;
    while (lo < hi) { const mid = (lo + hi) >> 1; if (units[mid].last < token) lo = mid + 1; else hi = mid; }
    return lo;
  };
  return { first: at(first), last: at(last) };
}

const same = (a, b) => a === b || (!!a && !!b && a[0] === b[0] && a[1] === b[1]);
const union = (a, b) => [Math.min(a[0], b[0]), Math.max(a[1], b[1])];
