// What hands do: pointer and keyboard on the two texts, turned into what the view is asked to show or to keep.

function listen(view) {
  const { prompt, response } = view;
  for (const [box, painter] of [[prompt, view.forward], [response, view.reverse]]) {
    box.addEventListener("scroll", () => painter.paint(), { passive: true });
    box.addEventListener("pointermove", (e) => view.tip.follow(e));
    box.addEventListener("keydown", (e) => pressed(view, e, box));
    box.addEventListener("blur", () => { cursorOff(view); view.point(null, null); });
  }
  response.addEventListener("pointerover", (e) => overResponse(view, e));
  response.addEventListener("pointerleave", () => { view.tip.show(null); view.point(null, view.pointed.source); });
  response.addEventListener("pointerdown", (e) => {
    const u = responseUnit(view, e);
    view.drag = u >= 0 && e.button === 0 && !e.target.closest("button") ? { from: u, moved: false } : null;
  });
  response.addEventListener("click", (e) => {
    const u = responseUnit(view, e), dragged = view.drag?.moved;
    view.drag = null;
    if (u < 0 || e.target.closest("button")) return;
    if (dragged) view.pinned(); // the way there has set the pin already
    else view.pin(view.targetOf(u), e.shiftKey);
  });
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

// Hovering shows; with the button down it draws a span.
function overResponse(view, e) {
  const u = responseUnit(view, e);
  if (u < 0) return;
  if (view.drag && (view.drag.moved || u !== view.drag.from)) {
    view.drag.moved = true;
    view.settings.pin = union(view.targetOf(view.drag.from), view.targetOf(u));
    view.point(null, null);
  } else view.point(view.targetOf(u), view.pointed.source);
  view.tellUse(u);
}

function pressed(view, e, box) {
  const inPrompt = box === view.prompt, items = inPrompt ? view.forward.items : view.reverse.items;
  const at = view.cursor?.box === box ? view.cursor.at : -1;
  if (!items.length) return;
  if (e.key === "Enter" || e.key === " ") {
    if (at < 0) return;
    if (inPrompt) view.pinSource(at);
    else view.pin(view.tokensOf(items[at]), e.shiftKey);
    return e.preventDefault();
  }
  const next = stepTo(view, e.key, inPrompt, at, items.length - 1);
  if (next === null) return;
  e.preventDefault();
  cursorOn(view, box, next);
  if (inPrompt) view.point(null, view.spanOf(next));
  else if (e.shiftKey) view.stretch(union(view.settings.pin ?? view.tokensOf(items[Math.max(at, 0)]), view.tokensOf(items[next])));
  else view.point(view.tokensOf(items[next]), null);
  view.draw();
  view.say(inPrompt ? next : -1);
}

// Where an arrow leads: to the next item, and in the response up and down by sentence.
function stepTo(view, key, inPrompt, at, last) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
  if (key === "Home" || key === "End") return key === "Home" ? 0 : last;
  if (!step) return null;
  const bySentence = !inPrompt && view.settings.unit === "token" && (key === "ArrowDown" || key === "ArrowUp") && at >= 0;
  if (!bySentence) return Math.max(0, Math.min(last, at + step));
  const k = Math.max(0, Math.min(view.sentences.length - 1, view.sentenceOfUnit[at] + step));
  return view.sentences[k].first;
}

// The cursor is drawn on the text and told to screen readers; focus itself stays on the pane.
function cursorOn(view, box, at) {
  cursorOff(view);
  const painter = box === view.prompt ? view.forward : view.reverse, item = painter.items[at];
  const { node } = painter.units[item.first];
  view.cursor = { box, at, painter, node };
  node.id = "at2-cursor";
  node.setAttribute("role", "option");
  box.setAttribute("aria-activedescendant", node.id);
  if (!painter.inView(at)) view.bring(painter, item, "instant");
  painter.mark("cursor", item);
}
function cursorOff(view) {
  if (!view.cursor) return;
  const { box, painter, node } = view.cursor;
  painter.mark("cursor", null);
  node.removeAttribute("id");
  node.removeAttribute("role");
  box.removeAttribute("aria-activedescendant");
  view.cursor = null;
}

function unitAt(e, box) {
  for (let node = e.target; node && node !== box; node = node.parentNode) if (node.unit !== undefined) return node.unit;
  return -1;
}
function sourceAt(view, e) {
  const u = unitAt(e, view.prompt);
  return u < 0 ? -1 : view.sourceOfUnit[u];
}
function responseUnit(view, e) {
  const u = unitAt(e, view.response);
  if (u >= 0 || view.settings.unit !== "sentence") return u;
  const box = e.target.closest?.(".sentence"); // on a citation: its sentence
  return box ? view.sentences.find((s) => s.box === box).first : -1;
}
const calm = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth");
