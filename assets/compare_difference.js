// Two methods in one picture: the score of one minus that of the other, each by its own largest, and where they differ most.

const DIFFERENCES = 12;

class Difference {
  // seen: {point(source or null), go(source), choose([key, key])}
  constructor(text, seen) {
    Object.assign(this, sourceText("Prompt, coloured by the difference. Arrow keys move over the sources.", text));
    this.seen = seen;
    this.list = el("ol", "differences");
    this.names = [el("span", "value"), el("span", "value"), el("span", "value", "difference")];
    this.for = el("span", "for");
    this.words = el("span", "note");
    this.note = el("p", "nothing");
    this.body = el("div", "panes",
      el("section", "pane", el("header", "head", el("h3", "", "Prompt"), this.words), el("div", "fill", this.box)),
      el("section", "pane", el("header", "head", el("h3", "", "Where they differ most"), this.for, el("span", "names", ...this.names)), el("div", "fill scroll", this.list)));
    this.section = el("div", "difference", this.body, this.note);
    this.section.hidden = true; // until it is asked for
    this.selects = [0, 1].map((side) => {
      const select = el("select");
      select.setAttribute("aria-label", side ? "The other method" : "One method");
      select.addEventListener("change", () => this.chosen(side, select.value));
      return select;
    });
    this.choice = el("span", "pair", this.selects[0], el("span", "", "minus"), this.selects[1]);
  }

  offer(columns, pair) {
    this.pair = pair;
    const shape = JSON.stringify(columns.map(({ key, name }) => [key, name])), same = shape === this.offered;
    this.offered = shape;
    this.selects.forEach((select, side) => {
      if (!same) select.replaceChildren(...columns.map((column) => {
        const option = el("option", "", column.name);
        option.value = column.key;
        return option;
      }));
      select.value = pair[side] ?? "";
    });
  }
  // The method that is chosen on one side leaves the other side to the one it replaces.
  chosen(side, key) {
    const pair = [...this.pair], other = pair[1 - side];
    if (other === key) pair[1 - side] = pair[side];
    pair[side] = key;
    this.seen.choose(pair);
  }

  show(one, other, said, describe) {
    this.values = one.values.map((v, s) => v - other.values[s]);
    this.painter.paint(Int8Array.from(this.values, (v) => Math.round(LEVELS * Math.max(-1, Math.min(1, v)))), 0);
    put(this.for, said);
    put(this.words, `blue = more by ${one.name}, red = more by ${other.name}`);
    this.words.title = this.words.textContent;
    [one.name, other.name].forEach((name, k) => { put(this.names[k], name); this.names[k].title = name; });
    this.order = largest(this.values, DIFFERENCES);
    while (this.list.children.length < this.order.length) this.list.append(this.row());
    [...this.list.children].forEach((row, k) => {
      row.hidden = k >= this.order.length;
      if (!row.hidden) row.fill(this.order[k], one, other, describe(this.order[k]));
    });
  }
  rest() { this.painter.paint(); }

  row() {
    const row = el("li"), fields = ["name", "one", "other", "by", "what"].map((name) => el("span", name)), [name, one, other, by, what] = fields;
    let source = null;
    const press = button("", "", () => this.seen.go(source));
    press.append(...fields);
    name.dir = what.dir = "auto";
    for (const event of ["pointerenter", "focus"]) press.addEventListener(event, () => this.seen.point(source));
    for (const event of ["pointerleave", "blur"]) press.addEventListener(event, () => this.seen.point(null));
    row.append(press);
    row.fill = (which, a, b, described) => {
      source = which;
      put(name, described.name);
      put(what, described.text);
      put(one, fixed(a.values[which]));
      put(other, fixed(b.values[which]));
      put(by, plus(this.values[which]));
      press.classList.toggle("against", this.values[which] < 0);
      press.title = `More by ${this.values[which] < 0 ? b.name : a.name}`;
    };
    return row;
  }
}
