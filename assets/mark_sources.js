// A text in which a person marks parts by selecting them. Python is told the marks, in UTF-16 units, and nothing else.
// The text is one text node between marks, so that a place in it is the length of what stands before.
const HELP = "Drag over text to mark it; click a mark to remove it. By keyboard: select with Shift and the arrows, Enter marks, Delete removes.";
const AGAIN = 500; // ms: the second press of a double click on a mark that the first one removed marks nothing

export default function markSources(mount) { return mounted(View, mount); }

class View {
  constructor(parent) {
    this.marks = []; // [start, end], in order, apart from each other
    this.past = [];
    this.box = el("div", "marked-text");
    this.box.contentEditable = "true"; // for its caret: nothing can be written
    this.box.spellcheck = false;
    for (const [name, value] of [["role", "textbox"], ["aria-multiline", "true"], ["aria-readonly", "true"], ["aria-label", "Prompt, select text to mark it as a source"]])
      this.box.setAttribute(name, value);
    this.count = el("span", "count");
    this.count.setAttribute("role", "status");
    this.add = press("Mark selection", () => this.markSelection());
    this.undo = press("Undo", () => this.back());
    this.clear = press("Clear all", () => this.change([]));
    this.add.addEventListener("pointerdown", (e) => e.preventDefault()); // or the press would take the selection away
    const head = el("div", "head", this.count, this.add, this.undo, this.clear);
    this.root = el("div", "at2-mark-sources", head, this.box, el("p", "help", HELP));
    parent.append(this.root);
    this.watch();
  }

  watch() {
    const { box } = this;
    for (const name of ["beforeinput", "dragstart", "drop"]) box.addEventListener(name, (e) => e.preventDefault());
    for (const name of ["input", "compositionend"]) box.addEventListener(name, () => this.draw()); // what could not be prevented
    box.addEventListener("keydown", (e) => this.key(e));
    box.addEventListener("pointerdown", () => { this.pressed = true; });
    this.released = (e) => {
      if (!this.pressed) return;
      this.pressed = false;
      const on = e.target.closest?.("mark"), times = e.detail;
      setTimeout(() => this.choose(on, times)); // the selection follows the press
    };
    this.selected = () => { this.add.disabled = !this.selection(); };
    document.addEventListener("mouseup", this.released);
    document.addEventListener("selectionchange", this.selected);
  }

  close() {
    document.removeEventListener("mouseup", this.released);
    document.removeEventListener("selectionchange", this.selected);
    this.root.remove();
  }

  update({ id, text, marks }) {
    if (id === this.id) return; // a theme, or a rerun that has nothing to do with it
    [this.id, this.text, this.marks, this.past] = [id, text, marks, []];
    this.draw();
  }

  choose(on, times) {
    const span = this.selection();
    if (times > 1 && performance.now() - (this.removed ?? -AGAIN) < AGAIN) return;
    if (span) this.mark(span);
    else if (on && this.box.contains(on)) {
      this.removed = performance.now();
      this.change(this.marks.filter((_, i) => i !== Number(on.dataset.i)));
    }
  }

  key(e) {
    const control = e.ctrlKey || e.metaKey;
    if (e.key === "Enter") this.markSelection();
    else if (e.key === "Delete" || e.key === "Backspace") this.removeTouched();
    else if (control && e.key.toLowerCase() === "z") this.back();
    else { e.stopPropagation(); return; } // a letter here is no shortcut of the page
    e.stopPropagation();
    e.preventDefault();
  }

  // The selected part without the white space at its ends; null where that is nothing.
  selection() {
    const place = this.places();
    if (!place) return null;
    const [start, end] = place, part = this.text.slice(start, end);
    const first = start + part.length - part.trimStart().length, last = end - (part.length - part.trimEnd().length);
    return first < last ? [first, last] : null;
  }

  places() {
    const selection = document.getSelection();
    if (!selection?.rangeCount) return null;
    const range = selection.getRangeAt(0);
    if (!range.intersectsNode(this.box) || !this.box.contains(selection.anchorNode)) return null;
    const at = (node, offset, outside) => {
      if (!this.box.contains(node)) return outside;
      const before = document.createRange();
      before.setStart(this.box, 0);
      before.setEnd(node, offset);
      return before.toString().length;
    };
    return [at(range.startContainer, range.startOffset, 0), at(range.endContainer, range.endOffset, this.text.length)];
  }

  markSelection() {
    const span = this.selection();
    if (span) this.mark(span);
  }

  // Marks that it touches become one with it.
  mark([start, end]) {
    const [met, apart] = [[], []];
    for (const mark of this.marks) (mark[0] < end && start < mark[1] ? met : apart).push(mark);
    const whole = [Math.min(start, ...met.map((m) => m[0])), Math.max(end, ...met.map((m) => m[1]))];
    this.change([...apart, whole].sort((a, b) => a[0] - b[0]), whole[1]);
  }

  removeTouched() {
    const place = this.places();
    if (!place) return;
    const [start, end] = place;
    this.change(this.marks.filter((m) => !(m[0] <= end && start <= m[1])), start);
  }

  change(marks, caret = null) {
    if (JSON.stringify(marks) === JSON.stringify(this.marks)) return;
    this.past.push(this.marks);
    this.marks = marks;
    this.draw(caret);
    this.mount.setStateValue("marks", marks);
  }

  back() {
    if (!this.past.length) return;
    this.marks = this.past.pop();
    this.draw();
    this.mount.setStateValue("marks", this.marks);
  }

  draw(caret = null) {
    const { text, marks, box } = this, nodes = [], inside = box === document.activeElement;
    let at = 0;
    marks.forEach(([start, end], i) => {
      if (start > at) nodes.push(text.slice(at, start));
      const mark = el("mark", "", text.slice(start, end));
      mark.dataset.i = i;
      mark.title = `Source ${i + 1}: click to remove`;
      nodes.push(mark);
      at = end;
    });
    nodes.push(text.slice(at));
    box.replaceChildren(...nodes);
    if (inside && caret !== null) this.putCaret(caret);
    const held = marks.reduce((sum, [start, end]) => sum + end - start, 0);
    this.count.textContent = marks.length
      ? `${marks.length} ${marks.length === 1 ? "source" : "sources"} marked, ${held.toLocaleString("en")} of ${text.length.toLocaleString("en")} characters`
      : "Nothing is marked: the whole prompt is the context";
    this.add.disabled = !this.selection();
    this.undo.disabled = !this.past.length;
    this.clear.disabled = !marks.length;
  }

  putCaret(place) {
    const walker = document.createTreeWalker(this.box, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (place <= node.length) { document.getSelection().collapse(node, place); return; }
      place -= node.length;
    }
  }
}

function el(tag, cls, ...inside) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  node.append(...inside); // a string becomes a text node
  return node;
}
function press(text, act) {
  const button = el("button", "", text);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}
