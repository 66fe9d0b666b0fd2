// Where the keyboard is in a text, and which of its units the pointer is on.

// The cursor is drawn on the text and told to screen readers; focus itself stays on the pane.
function cursorOn(view, box, painter, at) {
  cursorOff(view);
  const item = painter.items[at], { node } = painter.units[item.first];
  view.cursor = { box, at, painter, node };
  node.id = "at2-cursor";
  node.setAttribute("role", "option");
  box.setAttribute("aria-activedescendant", node.id);
  if (!painter.inView(at)) bringTo(painter, item, "instant");
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
function bringTo(painter, item, behavior) {
  const { scroller } = painter;
  scroller.scrollTo({ top: painter.units[item.first].node.offsetTop - scroller.clientHeight / 3, behavior });
}
function unitAt(e, box) {
  for (let node = e.target; node && node !== box; node = node.parentNode) if (node.unit !== undefined) return node.unit;
  return -1;
}
