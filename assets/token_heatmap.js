// Prompt and response side by side: point at one to see what it has to do with the other.
//
// The matrix of token scores is sent once. Hovering, pinning, granularity, sign, intensity and threshold are sums
// and colours in the browser; only what a person chose (a click, a switch) is reported to Python.
// Sources are coloured by the target (what is pointed at in the response, else the pin, else all of it), wherever the
// scope has them: in the prompt, in the response before the target. The response is coloured by the source that is pointed
// at or pinned, where there is one.
//
// A response that thinks before it answers has its thought in a pane of its own. To point at a thought asks both: what it
// came from, and where it was used.

const GRANULARITIES = ["token", "word", "sentence", "paragraph", "document"];
const DEFAULTS = { pin: null, source: null, scope: "context", granularity: "sentence", unit: "sentence", signed: false, intensity: 1, threshold: 0, template: false, sink: false };

const WORDS = {
  attribution: {
    forward: "stronger blue = more of the response came from here",
    signed: "blue = the response relied on it, red = it counted against",
    reverse: "stronger blue = the source was used more here",
    brief: { forward: "stronger blue = more came from here", signed: "blue = relied on, red = against", reverse: "stronger blue = used more here" },
    raw: "raw score",
    rest: "Hover the response to see where a part came from, or the prompt to see where it was used. Click keeps, Shift-click extends, Esc clears.",
  },
  average: {
    forward: "stronger blue = more attention of all heads from the response to here",
    reverse: "stronger blue = more attention of all heads from here to the source",
    brief: { forward: "stronger blue = more attention", reverse: "stronger blue = looks at it more" },
    raw: "attention",
    rest: "Hover the response to see where the heads look from there, or the prompt to see what looks at it. Click keeps, Shift-click extends, Esc clears.",
  },
  attention: {
    forward: "stronger blue = more attention from the response to here",
    reverse: "stronger blue = more attention from here to the source",
    brief: { forward: "stronger blue = more attention", reverse: "stronger blue = looks at it more" },
    raw: "attention",
    rest: "Hover the response to see where this head looks from there, or the prompt to see what looks at it. Click keeps, Shift-click extends, Esc clears.",
  },
};

export default function tokenHeatmap(mount) { return mounted(View, mount); }

class View {
  constructor(parent) { Object.assign(this, { parent, rest: [] }); }

  update(data) {
    if (data.id !== this.id) this.open(data);
    if (data.scores_id !== this.scoresId) this.load(data);
    this.style = getComputedStyle(this.root); // the theme may have changed
    this.again();
    this.fit();
  }

  // A new text: new elements, and settings from the address. The same one cut otherwise keeps them.
  open(data) {
    const kept = this.textId === data.text_id ? { ...this.settings, pin: null, source: null } : null;
    this.close();
    Object.assign(this, { id: data.id, textId: data.text_id, compact: data.compact, settings: kept ?? { ...DEFAULTS, ...data.initial } });
    Object.assign(this, { pointed: { target: null, source: null }, whole: data.whole, wholeName: data.whole_name, hasThought: data.sentence_kinds.includes("t") });
    this.text = { prompt: data.prompt, response: data.response, both: data.prompt + data.response, titles: data.titles, numbered: data.numbered, parts: data.parts };
    this.settled = data.compact; // once the scores are there, the prompt goes to the strongest source
    this.build(data);
    const promptOffsets = int32(data.prompt_tokens), responseOffsets = int32(data.response_tokens);
    this.promptLength = promptOffsets.length / 2;
    this.length = responseOffsets.length / 2;
    const ofPrompt = buildPrompt(this.prompt, { ...this.text, offsets: promptOffsets });
    const asked = { ...this.text, sentences: data.sentences, kinds: data.sentence_kinds, offsets: responseOffsets, thought: this.thought };
    const { units, kindOfUnit, sentences } = buildResponse(this.response, asked);
    Object.assign(this, { ofPrompt, kindOfUnit, sentences, sentenceOfUnit: ownersOf(sentences, units.length) });
    const answers = this.boxes().slice(1), paneOf = kindOfUnit.map((kind) => (this.thought && kind === "a" ? 1 : 0));
    this.reverse = new Spread(answers);
    this.reverse.place(units, paneOf);
    this.forward = new Spread(this.boxes());
    this.forward.place([...ofPrompt, ...units], [...ofPrompt.map(() => 0), ...paneOf.map((p) => p + 1)]);
    for (const painter of this.forward.painters.slice(1)) painter.sheet.classList.add("own");
    const unitOfToken = new Int32Array(this.promptLength + this.length);
    ofPrompt.forEach((unit, u) => unitOfToken.fill(u, unit.first, unit.last + 1));
    units.forEach((unit, u) => unitOfToken.fill(ofPrompt.length + u, this.promptLength + unit.first, this.promptLength + unit.last + 1));
    this.every = Object.fromEntries(Object.entries(data.sources).map(([name, rows]) => [name, sourcesOf(int32(rows), unitOfToken)]));
    this.chosen = {}; // of these, what a scope takes
    this.checkSettings();
    this.useGranularity();
    this.useUnit();
    this.root.classList.toggle("with-template", this.settings.template || this.compact);
    this.deafen = [listen(this), watchPlace(this, this.boxes(), [this.forward, this.reverse])];
  }

  // New scores for the same text (another method, or now also of the response): pin and settings stay.
  load(data) {
    this.scoresId = data.scores_id;
    const scores = float32(data.scores), own = data.own && float32(data.own);
    this.width = this.promptLength + (own ? this.length : 0);
    this.scores = own ? beside(scores, this.promptLength, own, this.length) : scores; // (response, prompt and response), row-major
    this.words = WORDS[data.measure];
    if (this.signs) this.signs.box.disabled = !this.words.signed; // attention is never negative
    put(this.list.rawName, this.words.raw);
    this.cite();
  }
  cite() {
    this.numbers = this.compact ? new Map() : cite(this);
    this.forward.moved(); // its marks take room
    this.reverse.moved();
  }

  // What comes from an address is only a wish.
  checkSettings() {
    const s = this.settings, within = (span, count) => (Array.isArray(span) && span[0] >= 0 && span[0] <= span[1] && span[1] < count ? span : null);
    s.pin = within(s.pin, this.length);
    s.source = within(s.source, this.promptLength + this.length);
    if (!(s.granularity in this.every)) s.granularity = Object.keys(this.every)[0];
    if (!this.scopes.includes(s.scope)) s.scope = "context";
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
    const answer = this.hasThought ? "Answer" : "Response", keys = "Arrow keys move over the targets, Shift extends, Enter pins.";
    this.response = pane("response", `${answer}. ${keys}`);
    this.thought = this.hasThought ? pane("response thought", `Thought. ${keys}`) : null;
    const has = (scope) => (scope !== "thought" || this.hasThought) && !(data.sealed && !data.own && reaches(scope)); // sealed: no more scores will come
    this.scopes = compact ? ["context"] : Object.keys(SCOPES).filter(has);
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
    const promptNote = `${count(data.counts[0], "token")}${documents > 1 ? ` · ${documents} ${data.numbered ? "sources" : "documents"}` : ""}`;
    const promptBox = el("section", "pane asked", head("Prompt", promptNote, this.forwardLegend.box), el("div", "fill", this.prompt, this.ruler));
    const [thought, said] = data.own_counts, answered = data.sentence_kinds.includes("a");
    const responseBox = el("section", "pane answer", head(answer, count(this.hasThought ? said : data.counts[1], "token"), this.reverseLegend.box), el("div", "fill", this.response));
    if (this.hasThought && !answered) responseBox.append(el("p", "nothing", "The response ended before its answer."));
    const thoughtBox = this.thought && el("section", "pane thinking", head("Thought", `${count(thought, "token")}${data.thought_closed ? "" : " · cut off"}`), el("div", "fill", this.thought));
    const panes = el("div", "panes", promptBox, thoughtBox, el("div", "side", responseBox, ...(compact ? [] : [this.list.box])));
    this.root.classList.toggle("with-thought", this.hasThought);
    this.root.append(this.toolbar(compact), el("div", "now", el("div", "line", this.readout), this.clearButton), panes, this.tip.box, this.live);
    this.parent.append(this.root);
  }

  toolbar(compact) {
    const set = (name, slow) => (value) => this.change({ [name]: value }, slow);
    const percentOf = (v) => (v ? `< ${Math.round(v * 100)} % of the strongest` : "off");
    this.signs = compact ? null : choice("Scores", "signed", [[false, "Positive"], [true, "Signed"]], "Signed also shows what counted against the response, in red; attention that nothing was learned about is never negative", set("signed"));
    this.controls = compact
      ? [toggle("Show first-token sink", "sink", "Many heads park their attention on the first token. Hidden, it does not set the colour scale.", set("sink"))]
      : [
          choice("Attribute to", "scope", this.scopes.map((s) => [s, SCOPES[s][0]]), this.scopes.map((s) => SCOPES[s].join(": ")).join("\n"), set("scope")),
          choice("Sources", "granularity", GRANULARITIES.map((g) => [g, capital(g)]), "What gets a score", set("granularity")),
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

  // Fill the window from where the component begins; where little is left, be as tall as a window and let the page scroll.
  fit() {
    const room = roomBelow(this) - 16;
    this.root.style.setProperty("--height", this.compact ? "" : `${Math.round(room >= 340 ? room : Math.max(420, innerHeight - 96))}px`);
  }

  // ---------------------------------------------------------------- what is asked of it

  point(target, source, both = false) {
    this.pointed = { target, source, both };
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
    if (strong.length && !strong.some((s) => this.forward.inView(s))) this.forward.bring(this.items()[strong[0]], behavior ?? calm());
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
    if (top !== undefined && !this.reverse.inView(top)) this.reverse.bring(this.reverse.items[top], calm());
  }
  clear() {
    Object.assign(this.settings, { pin: null, source: null });
    this.pointed = { target: null, source: null };
    this.changed();
  }
  change(part, slow) {
    Object.assign(this.settings, part);
    if ("granularity" in part || "scope" in part) this.useGranularity();
    if ("scope" in part) this.cite();
    if ("unit" in part) this.useUnit();
    if ("template" in part) { this.root.classList.toggle("with-template", part.template); this.forward.moved(); this.reverse.moved(); }
    this.changed(slow);
  }
  // Tell Python; a slider tells when it rests.
  changed(slow) {
    clearTimeout(this.telling);
    const tell = () => this.mount.setStateValue("view", { ...this.settings });
    if (slow) this.telling = setTimeout(tell, 300);
    else tell();
    this.again();
  }

  jump(item) {
    this.forward.bring(item, "instant");
    this.forward.flash(item);
  }

  // ---------------------------------------------------------------- sources, targets, units, tokens

  signed() { return this.settings.signed && !!this.words.signed; }
  boxes() { return [this.prompt, this.thought, this.response].filter(Boolean); }
  items() { return this.itemsOf(this.settings.granularity); }
  itemsOf(granularity) { // in the scope; of one head every token of the prompt is a source
    const { scope } = this.settings, key = `${scope} ${granularity}`;
    return (this.chosen[key] ??= this.compact ? this.every[granularity] : this.every[granularity].filter((item) => inScope(item, scope)));
  }
  reaches() { return reaches(this.settings.scope) && this.width > this.promptLength; }
  spanOf(s) { const { tokenStart, tokenEnd } = this.items()[s]; return [tokenStart, tokenEnd - 1]; }
  tokensOf(item) { return [this.reverse.units[item.first].first, this.reverse.units[item.last].last]; }
  // What is asked by pointing at a part of the response; a thought is asked for its use, too, where it is in the scope.
  pointAt(target, box) {
    const source = box === this.thought && this.reaches() ? target.map((t) => this.promptLength + t) : null;
    this.point(target, source ?? (box === this.thought ? null : this.pointed.source), !!source);
  }
  targetOf(u) { return this.tokensOf(this.settings.unit === "sentence" ? this.sentences[this.sentenceOfUnit[u]] : { first: u, last: u }); }
  useGranularity() {
    cursorOff(this);
    const items = this.items();
    for (const scope of this.scopes) this.root.classList.toggle(`to-${scope}`, scope === this.settings.scope);
    this.root.classList.toggle("by-token", this.settings.granularity === "token");
    this.forward.setItems(items);
    this.sourceOfUnit = ownersOf(items, this.forward.units.length);
  }
  useUnit() {
    cursorOff(this);
    const tokens = () => this.reverse.units.map((_, u) => ({ first: u, last: u })).filter(({ first }) => this.kindOfUnit[first] !== "m");
    this.reverse.setItems(this.settings.unit === "sentence" ? this.sentences : tokens());
  }
  partOf(item) { return this.text.parts.find((p) => p.tokenStart <= item.tokenStart && item.tokenStart < p.tokenEnd); }
  nameOf(item) {
    const { titles, numbered } = this.text, part = this.partOf(item);
    if (!this.compact) return nameOfSource(item, { titles, numbered, part, thought: this.hasThought, ...this.settings });
    if (part?.document == null) return part?.role || "Template";
    return nameOfSource({ ...item, document: part.document, role: part.kind, alone: true }, { titles, numbered, granularity: "document", page: pageOf(item, part) });
  }
  textOf(item, length) { return excerpt(this.text.both.slice(item.start, item.end), length); }
  targetText(target, length) {
    const { units } = this.reverse, run = unitsOf(target, units);
    return excerpt(this.text.response.slice(units[run.first].start, units[run.last].end), length);
  }
  sourceUnits(source) { // tokens of the response count on from the prompt's, and so do its units
    if (source[0] < this.promptLength) return unitsOf(source, this.ofPrompt);
    const run = unitsOf(source.map((t) => t - this.promptLength), this.reverse.units), shift = this.ofPrompt.length;
    return { first: run.first + shift, last: run.last + shift };
  }
  share(value) { return this.total ? value / this.total : 0; }

  // ---------------------------------------------------------------- drawing

  again() { this.drawn = null; this.schedule(); } // also what seems to be drawn already
  schedule() {
    clearTimeout(this.restLater); // what was put off must not come between a hover and its colours
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.root) return;
    const { pin, source: kept } = this.settings, target = this.pointed.target ?? pin, source = this.pointed.source ?? kept;
    const next = { target: `${target}`, source: `${source}`, pin: `${pin}` }, before = this.drawn ?? {};
    this.drawn = next;
    // The marks read the layout, so they come before what changes it.
    this.forward.mark("picked", source && this.sourceUnits(source));
    this.reverse.mark("on", target && unitsOf(target, this.reverse.units));
    this.reverse.mark("pin", pin && unitsOf(pin, this.reverse.units));
    if (next.target !== before.target) this.drawTarget(target);
    if (next.source !== before.source) this.drawSource(source);
    if (next.target !== before.target || next.source !== before.source) this.drawReadout(target, source);
    this.clearButton.disabled = !pin && !kept;
    clearTimeout(this.restLater);
    this.restLater = setTimeout(() => this.goOn(), 80);
    if (this.settled) return;
    this.settled = true;
    this.bringStrongest("instant");
  }

  // What was put off, a part at a time: the next hover comes in between.
  goOn() {
    const part = this.rest.shift();
    if (!part) return;
    part();
    this.restLater = setTimeout(() => this.goOn());
  }

  // Mean score of every token for a target, or for all that is attributed without one. No target is its own source, and what
  // stands behind it scores nothing.
  meanFor(target) {
    const perToken = new Float64Array(this.promptLength + this.length), runs = target ? [target] : this.whole;
    if (!this.length) return perToken;
    meanOfRows(this.scores, this.width, runs, perToken.subarray(0, this.width));
    for (const [first, last] of runs) perToken.fill(0, this.promptLength + first, this.promptLength + last + 1);
    return perToken;
  }

  drawTarget(target) {
    const { intensity, sink } = this.settings, signed = this.signed(), perToken = this.meanFor(target);
    if (this.compact && !sink) perToken[0] = 0;
    const sums = sourceSums(this.items(), perToken);
    this.total = sumOfAbs(sums);
    this.values = sums.map((v) => shown(v, signed));
    this.ranking = largest(this.values, this.list.rows);
    const top = this.ranking.length ? Math.abs(this.values[this.ranking[0]]) : 0;
    const levels = levelsOf(this.values, top, this.settings);
    this.forward.paint(levels, 0);
    const { painter, own } = this.forward.at(this.prompt), share = top ? percent(this.share(top)) : "";
    this.rest = [ // the text in view is recoloured in this frame; the rest follows when the pointer rests
      () => this.forward.paint(undefined, MARGIN, true),
      () => drawRuler(this.ruler, painter, levels.subarray(0, own.length), this.style), // the prompt's sources come first
      () => this.forwardLegend.show(...this.legendWords(signed ? "signed" : "forward"), signed, intensity, share),
      () => this.compact || this.drawList(target, top),
    ];
  }

  drawSource(source) {
    const { intensity } = this.settings, signed = this.signed(), { items } = this.reverse;
    this.reverseLegend.box.hidden = !source;
    // A thought that is pointed at has both: what it came from stands before it, where it was used behind it.
    this.root.classList.toggle("with-source", !!source && !this.pointed.both);
    this.used = source && this.useOf(source);
    const [best] = source ? largest(this.used, 1) : [], top = best === undefined ? 0 : Math.abs(this.used[best]);
    this.reverse.paint(source ? levelsOf(this.used, top, this.settings) : new Int8Array(items.length));
    if (source) this.reverseLegend.show(...this.legendWords(signed ? "signed" : "reverse"), signed, intensity, top ? digits(top) : "");
  }
  legendWords(what) { return [this.words[what], this.words.brief[what]]; }
  // Score of the source for each target, (targets).
  useOf(source) {
    const [from, to] = [source[0], Math.min(source[1], this.width - 1)], ofPrompt = to < this.promptLength;
    const perToken = ofPrompt ? scoreOfSpan(this.scores, this.width, from, to) : null;
    return Float64Array.from(this.reverse.items, (item) => {
      const [first, last] = this.tokensOf(item), end = Math.min(to, this.promptLength + first - 1); // before the target
      let sum = 0;
      for (let t = first; t <= last; t++)
        if (perToken) sum += perToken[t];
        else for (let c = from; c <= end; c++) sum += this.scores[t * this.width + c];
      return shown(sum / (last - first + 1), this.signed());
    });
  }

  drawList(target, top) {
    const items = this.items(), counting = this.values.reduce((sum, value) => sum + (value !== 0), 0), numbered = this.settings.granularity === "sentence";
    this.list.show(this.ranking, counting, target ? `for “${this.targetText(target, 60)}”` : `for ${this.wholeName}`, (s) => ({
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

  nothingHere() {
    if (this.settings.scope === "thought") return "There is nothing of the thought before this.";
    return "The prompt has no context, so there are no sources.";
  }
  restWords() {
    const first = this.settings.scope === "all" && !this.items().some((item) => this.isBeforeWhole(item));
    return `Showing ${this.wholeName}${first ? ", which has only the prompt before it" : ""}. ${this.words.rest}`;
  }
  // Whether it is in the response, and could score for what is attributed without a target.
  isBeforeWhole({ role, tokenStart }) {
    const t = tokenStart - this.promptLength;
    return OWN.includes(role) && t < this.whole.at(-1)[1] && !this.whole.some(([first, last]) => first <= t && t <= last);
  }
  drawReadout(target, source) {
    const [top] = this.ranking, item = this.items()[top];
    let parts;
    if (!this.length) parts = ["The response is empty, so there is nothing to attribute."];
    else if (!this.items().length) parts = [this.nothingHere()];
    else if (reaches(this.settings.scope) && !this.reaches()) parts = ["The earlier response is not read yet; see above what it waits for."];
    else if (!item && this.settings.scope === "thought") parts = [this.nothingHere()];
    else if (!item) parts = [this.signed() || !this.words.signed ? "Every source scores zero for this." : "No source has a positive score for this. Switch Scores to Signed to see what counted against it."];
    else if (!target) parts = this.useInWords(source) ?? [this.restWords()];
    else parts = [el("q", "target", this.targetText(target, 70)), " ← ", percent(this.share(this.values[top])), " from ", el("b", "", this.nameOf(item)), " ", el("q", "", this.textOf(item, 110))];
    this.readout.replaceChildren(...parts);
    this.readout.classList.toggle("rest", !target && !source);
  }
  // Where a source was used, and how much it is there: the colours say where most, each source by its own strongest use.
  useInWords(source) {
    const at = source ? this.items().findIndex((_, s) => same(this.spanOf(s), source)) : -1;
    if (at < 0 || !this.used) return null;
    const [best] = largest(this.used, 1), item = this.items()[at];
    const told = [el("b", "", this.nameOf(item)), " ", el("q", "", this.textOf(item, 70)), " → ", percent(this.share(this.values[at])), ` of ${this.wholeName}`];
    if (best === undefined) return told;
    const place = this.tokensOf(this.reverse.items[best]), total = sumOfAbs(sourceSums(this.items(), this.meanFor(place)));
    return [...told, `, most (${percent(total ? this.used[best] / total : 0)}) of `, el("q", "target", this.targetText(place, 60))];
  }

  // ---------------------------------------------------------------- in words

  tellSource(s) {
    if (s < 0 || !this.values) return this.tip.show(null);
    const item = this.items()[s], cited = this.settings.granularity === "sentence" && this.numbers.get(item.start);
    this.tip.show([
      el("b", "", this.nameOf(item)),
      cited && ` [${cited}]`,
      fact("share", percent(this.share(this.values[s]))),
      fact(this.words.raw, digits(this.values[s])),
      fact("rank", `${rankOf(this.values, s)} of ${this.items().length}`),
      el("small", "", this.settings.pin ? "for the pinned span" : `for ${this.wholeName}`),
    ]);
  }
  tellUse(u) {
    if (!this.settings.source || !this.used || this.drag) return this.tip.show(null);
    const at = this.reverse.items.findIndex(({ first, last }) => first <= u && u <= last);
    const total = sumOfAbs(sourceSums(this.items(), this.meanFor(this.targetOf(u))));
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
    this.rest = [];
  }
}

// Colour levels of values: proportional to the strongest at intensity 1, none below the threshold.
function levelsOf(values, top, { intensity, threshold }) {
  const levels = new Int8Array(values.length);
  for (let i = 0; top && i < values.length; i++) {
    const part = Math.min(1, Math.abs(values[i]) / top);
    if (part && part >= threshold) levels[i] = Math.sign(values[i]) * Math.round(LEVELS * (intensity === 1 ? part : part ** (1 / intensity)));
  }
  return levels;
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
