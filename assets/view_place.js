// Where a view is on the page: as tall as the window leaves room for, and drawn again where its text has moved.

// What moves the text without a person's hand on it: sizes of its boxes, fonts, what the page puts above. Returns its end.
function watchPlace(view, boxes, painters) {
  const moved = () => { for (const painter of painters) painter.moved(); view.again(); }, fit = () => view.fit();
  const sizes = new ResizeObserver(moved), above = new ResizeObserver(fit);
  for (const box of boxes) sizes.observe(box);
  const page = (view.parent.host ?? view.parent).closest?.("[data-testid=stMainBlockContainer]");
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

// Px of the window below where the view begins.
function roomBelow(view) {
  const host = view.parent.host ?? view.parent, scroller = host.closest?.("[data-testid=stMain]");
  return innerHeight - view.root.getBoundingClientRect().top - (scroller ? scroller.scrollTop : scrollY);
}
