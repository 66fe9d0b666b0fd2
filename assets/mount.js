// Between Streamlit and a view: one view for each element that a component is mounted in.

const views = new WeakMap(); // parentElement -> {view, shown}

// Streamlit calls a component again on new data and on a new theme, and ends the last call with the element. Calls whose data
// were replaced while the script was still being fetched it makes all the same, before the last one or behind it, and ends each
// at once. So a call waits for its turn, and one that was ended by then shows nothing and takes nothing away.
// View: constructed with the element, then update(data), at last close(); mount holds what it tells Python by.
function mounted(View, mount) {
  const { data, parentElement } = mount;
  const call = setTimeout(() => {
    let kept = views.get(parentElement);
    if (!kept) views.set(parentElement, (kept = { view: new View(parentElement) }));
    kept.shown = call;
    kept.view.mount = mount;
    kept.view.update(data);
  });
  return () => {
    clearTimeout(call);
    const kept = views.get(parentElement);
    if (kept?.shown !== call) return;
    kept.view.close();
    views.delete(parentElement);
  };
}
