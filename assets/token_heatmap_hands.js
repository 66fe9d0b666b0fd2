// What hands do: pointer and keyboard on the two texts, turned into what the view is asked to show or to keep.

function listen(view) {
  const { prompt } = view, answers = view.boxes().slice(1);
  for (const box of view.boxes()) {
    box.addEventListener("scroll", () => paintPane(view, box), { passive: true });
    for (const moved of ["pointerover", "pointermove"]) box.addEventListener(moved, (e) => view.tip.follow(e));
    box.addEventListener("keydown", (e) => pressed(view, e, box));
    box.addEventListener("blur", () => { cursorOff(view); view.point(null, null); });
  }
  for (const box of answers) {
    box.addEventListener("pointerover", (e) => overResponse(view, e, box));
    box.addEventListener("pointerleave", () => { view.tip.show(null); view.point(null, box === view.thought ? null : view.pointed.source); });
    box.addEventListener("pointerdown", (e) => {
      const u = responseUnit(view, e, box);
      view.drag = u >= 0 && e.button === 0 && !e.target.closest("button") ? { from: u, moved: false } : null;
    });
    box.addEventListener("click", (e) => {
      const u = responseUnit(view, e, box), dragged = view.drag?.moved;
      view.drag = null;
      if (u < 0 || e.target.closest("button")) return;
      if (dragged) view.pinned(); // the way there has set the pin already
      else view.pin(view.targetOf(u), e.shiftKey);
    });
  }
  prompt.addEventListener("pointerover", (e) => {
    const s = sourceAt(view, e);
    view.point(view.pointed.target, s < 0 ? null : view.spanOf(s));
    view.tellSource(s);
  });
  prompt.addEventListener("pointerleave", () => { view.tip.show(null); view.point(view.pointed.target, null); });
  prompt.addEventListener("click", (e) => { const s = sourceAt(view, e); if (s >= 0) view.pinSource(s); });
  view.ruler.addEventListener("click", (e) => {
    prompt.scrollTo({ top: (e.offsetY / view.ruler.clientHeight) * prompt.scrollHeight - prompt.clientHeight / 2, behavior: calm() });
  });
  view.root.addEventListener("keydown", (e) => {
    if (e.key !== "Escape") return;
    cursorOff(view);
    view.clear();
    e.stopPropagation();
  });
  const released = () => setTimeout(() => { view.drag = null; }); // after the click that ends a drag
  addEventListener("pointerup", released);
  return () => removeEventListener("pointerup", released);
}

// What scrolling brings into view, by both that draw on a pane.
function paintPane(view, box) {
  for (const spread of [view.forward, view.reverse]) spread.at(box).painter?.paint();
}

// Hovering shows; with the button down it draws a span.
function overResponse(view, e, box) {
  const u = responseUnit(view, e, box);
  if (u < 0) return;
  if (view.drag && (view.drag.moved || u !== view.drag.from)) {
    view.drag.moved = true;
    view.settings.pin = union(view.targetOf(view.drag.from), view.targetOf(u));
    view.point(null, null);
  } else view.pointAt(view.targetOf(u), box);
  view.tellUse(u);
}

// The cursor counts the items of its pane: own are their numbers among all.
function pressed(view, e, box) {
  const inPrompt = box === view.prompt, spread = inPrompt ? view.forward : view.reverse;
  const { painter, own } = spread.at(box), here = view.cursor?.box === box ? view.cursor.at : -1;
  if (!own.length) return;
  if (e.key === "Enter" || e.key === " ") {
    if (here < 0) return;
    if (inPrompt) view.pinSource(own[here]);
    else view.pin(view.tokensOf(spread.items[own[here]]), e.shiftKey);
    return e.preventDefault();
  }
  const next = inPrompt ? stepTo(e.key, here, own.length - 1) : stepInResponse(view, e.key, own, here);
  if (next === null) return;
  e.preventDefault();
  cursorOn(view, box, painter, next);
  const item = spread.items[own[next]];
  if (inPrompt) view.point(null, view.spanOf(own[next]));
  else if (e.shiftKey) view.stretch(union(view.settings.pin ?? view.tokensOf(spread.items[own[Math.max(here, 0)]]), view.tokensOf(item)));
  else { view.pointed.source = null; view.pointAt(view.tokensOf(item), box); }
  view.draw();
  view.say(inPrompt ? own[next] : -1);
}

// Where an arrow leads: to the next item, and in the response by token up and down by sentence.
function stepTo(key, at, last) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
  if (key === "Home" || key === "End") return key === "Home" ? 0 : last;
  return step ? Math.max(0, Math.min(last, at + step)) : null;
}
function stepInResponse(view, key, own, at) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[key], { items } = view.reverse;
  if (view.settings.unit !== "token" || !step || at < 0) return stepTo(key, at, own.length - 1);
  const sentence = view.sentences[view.sentenceOfUnit[items[own[at]].first] + step];
  const next = sentence ? own.findIndex((i) => items[i].first >= sentence.first && items[i].first <= sentence.last) : -1;
  return next < 0 ? at : next;
}

function sourceAt(view, e) {
  const u = unitAt(e, view.prompt);
  return u < 0 ? -1 : view.sourceOfUnit[u];
}
function responseUnit(view, e, box) {
  const u = unitAt(e, box);
  if (u >= 0) return view.kindOfUnit[u] === "m" ? -1 : u;
  if (view.settings.unit !== "sentence") return -1;
  const around = e.target.closest?.(".sentence"); // on a citation: its sentence
  return view.sentences.find((s) => s.box === around)?.first ?? -1;
}
const calm = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth");
