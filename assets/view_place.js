// Where a view is on the page: one for each element that the component is mounted in, as tall as the window leaves room for.

const views = new WeakMap(); // parentElement -> view: a component's function runs again on new data and on a new theme

function mounted(View, { data, parentElement, setStateValue }) {
  let view = views.get(parentElement);
  if (!view) views.set(parentElement, (view = new View(parentElement)));
  view.report = (state) => setStateValue("view", state);
  view.update(data);
  return () => { view.close(); views.delete(parentElement); };
}

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
