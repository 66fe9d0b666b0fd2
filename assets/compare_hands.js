// What hands do: pointer and keyboard on the response and on every column, turned into what the view is asked to show.

function listenToResponse(view) {
  const { response, reverse } = view;
  const unitOf = (e) => {
    const u = unitAt(e, response);
    if (u >= 0 || view.settings.unit !== "sentence") return u;
    const box = e.target.closest?.(".sentence");
    return box ? view.sentences.find((s) => s.box === box).first : -1;
  };
  response.addEventListener("pointerover", (e) => { const u = unitOf(e); if (u >= 0) view.point(view.targetOf(u), null); });
  response.addEventListener("pointerleave", () => view.point(null, null));
  response.addEventListener("click", (e) => { const u = unitOf(e); if (u >= 0) view.pin(view.targetOf(u), e.shiftKey); });
  response.addEventListener("blur", () => { cursorOff(view); view.point(null, null); });
  response.addEventListener("scroll", () => reverse.paint(), { passive: true });
  response.addEventListener("keydown", (e) => {
    const at = view.cursor?.box === response ? view.cursor.at : -1;
    if ((e.key === "Enter" || e.key === " ") && at >= 0) {
      view.pin(view.tokensOf(reverse.items[at]), e.shiftKey);
      return e.preventDefault();
    }
    const next = stepTo(e.key, at, reverse.items.length - 1);
    if (next === null) return;
    e.preventDefault();
    cursorOn(view, response, reverse, next);
    view.point(view.tokensOf(reverse.items[next]), null);
    view.say(-1);
  });
}

// text: a column, or the difference. All columns show the same sources, so what is pointed at in one is marked in all.
function listenToSources(view, text) {
  const { box, painter } = text, sourceAt = (e) => { const u = unitAt(e, box); return u < 0 ? -1 : text.sourceOfUnit[u]; };
  for (const moved of ["pointerover", "pointermove"]) box.addEventListener(moved, (e) => view.tip.follow(e));
  box.addEventListener("pointerover", (e) => { const s = sourceAt(e); view.point(view.pointed.target, s < 0 ? null : s); view.tell(s); });
  box.addEventListener("pointerleave", () => { view.tip.show(null); view.point(null, null); });
  box.addEventListener("blur", () => { cursorOff(view); view.point(null, null); });
  box.addEventListener("scroll", () => view.scrolled(text), { passive: true });
  box.addEventListener("keydown", (e) => {
    const next = stepTo(e.key, view.cursor?.box === box ? view.cursor.at : -1, painter.items.length - 1);
    if (next === null) return;
    e.preventDefault();
    cursorOn(view, box, painter, next);
    view.point(null, next);
    view.say(next);
  });
}

function stepTo(key, at, last) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
  if (last < 0) return null;
  if (key === "Home" || key === "End") return key === "Home" ? 0 : last;
  return step ? Math.max(0, Math.min(last, at + step)) : null;
}
