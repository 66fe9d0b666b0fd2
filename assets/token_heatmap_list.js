// The ranked sources: rank, name, share, raw score, a bar, and the text. Rows are made once and filled again.

const ROWS = [10, 25, 50]; // how many are shown; the button goes through these

class RankedList {
  // seen: {go(source), point(source or null), resize()} says what a person did with a row
  constructor(seen) {
    this.seen = seen;
    this.rows = ROWS[0];
    this.list = el("ol", "rows");
    this.target = el("span", "for");
    this.rawName = el("span");
    this.more = button("more", "", () => { this.rows = this.next(); seen.resize(); });
    const columns = el("span", "columns", el("span", "", "share"), this.rawName);
    columns.title =
      "Share: the score divided by the sum of the absolute scores of all sources that are attributed to, so that 100 % is all that " +
      "they gave. The raw score is the mean over the target's tokens of the sum over the source's.";
    this.box = el("section", "pane ranked", el("header", "head", el("h3", "", "Ranked sources"), this.target, columns), el("div", "fill scroll", this.list, this.more));
  }

  next() { return ROWS[(ROWS.indexOf(this.rows) + 1) % ROWS.length]; }

  // ranking: sources, strongest first; describe(source) -> {name, cited, text, share, raw, part, against, weak}
  show(ranking, count, target, describe) {
    while (this.list.children.length < ranking.length) this.list.append(this.row());
    [...this.list.children].forEach((row, r) => {
      row.hidden = r >= ranking.length;
      if (row.hidden) return;
      row.source = ranking[r];
      const about = describe(row.source);
      for (const name of ["name", "cited", "text", "share", "raw"]) put(row.fields[name], about[name]);
      row.fields.meter.style.transform = `scaleX(${about.part})`;
      row.classList.toggle("against", about.against);
      row.classList.toggle("weak", about.weak);
    });
    this.more.hidden = count <= ROWS[0];
    put(this.more, this.next() <= this.rows || count <= this.rows ? `Show the first ${ROWS[0]} only` : this.next() < count ? `Show ${this.next()} of ${count}` : `Show all ${count}`);
    put(this.target, target);
  }

  row() {
    const row = el("li"), names = ["rank", "name", "cited", "share", "raw", "text", "meter"];
    const fields = (row.fields = Object.fromEntries(names.map((name) => [name, el("span", name)])));
    fields.name.dir = fields.text.dir = "auto";
    put(fields.rank, String(this.list.children.length + 1));
    const press = button("", "", () => this.seen.go(row.source));
    press.append(...names.slice(0, -1).map((name) => fields[name]), el("span", "track", fields.meter));
    for (const event of ["pointerenter", "focus"]) press.addEventListener(event, () => this.seen.point(row.source));
    for (const event of ["pointerleave", "blur"]) press.addEventListener(event, () => this.seen.point(null));
    row.append(press);
    return row;
  }
}
