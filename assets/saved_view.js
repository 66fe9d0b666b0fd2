// The host of a saved view: what Streamlit is to the component, in a file that stands alone. It comes behind the component's
// own script, as the end of the same module.

const saved = JSON.parse(document.getElementById("saved").textContent), chosen = {};
const keep = (name, value) => { chosen[name] = value; }; // nobody else is there to be told
const place = el("main"), host = { data: saved.data, parentElement: place, setStateValue: keep, setTriggerValue: keep };

// What it is and how to read it. Titles and names are somebody's text, as the prompt is.
function masthead({ title, reading, facts }) {
  const heading = el("h1", "", excerpt(title, 300));
  Object.assign(heading, { dir: "auto", title: excerpt(title, 2000) });
  const told = facts.map(([name, value]) => {
    const shown = el("dd", "", excerpt(value, 80));
    shown.title = excerpt(value, 500);
    return el("div", "", el("dt", "", name), shown);
  });
  return el("header", "masthead", heading, el("p", "", reading), el("dl", "", ...told));
}

document.title = `${excerpt(saved.about.title, 80)} · AT2 Explorer`;
document.body.append(masthead(saved.about), place);
tokenHeatmap(host);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => tokenHeatmap(host));
