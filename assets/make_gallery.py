"""Compute the gallery: `python assets/make_gallery.py` from the top folder; the texts are ours, the answers the model's.

Float32 on the CPU, so that anybody computes the same again.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import at2_core as at2
from at2_core.exploration import GALLERY, explore, save

MAX_NEW_TOKENS = 96

LIGHTHOUSE = """\
The lighthouse at Varn Point was built in 1871 from grey granite that was carried over the moor by ox cart. \
It stands thirty-four metres above the sea and its lamp can be seen from nineteen miles away. \
The first keeper was Agnes Thorne, a former schoolteacher, who looked after the lamp for twenty-six years. \
During the great storm of 1894 she rang the fog bell by hand for eleven hours and saved the crew of the Merlin. \
Today the tower is a small museum, and visitors may climb the 142 steps between May and September."""

MILL = at2.Document(
    "The mill",
    "The old mill stands by the river and has been in the Falk family since 1840. The mill sells rye flour and oat flakes. "
    "It is open on weekdays.",
)
VILLAGE = at2.Document(
    "The village",
    "The village has three hundred inhabitants, a school and a church with a wooden tower. A bus goes to the city every "
    "hour.",
)
SMOKEHOUSE = at2.Document(
    "The smokehouse",
    "The smokehouse on the pier belongs to two sisters. They sell smoked eel and smoked trout, and they close when "
    "everything is sold.",
)

TABLE = """\
Weekly visitors to the four branches of the city library.

| Branch | Books on loan | Visitors per week | Opened |
| --- | --- | --- | --- |
| Harbour | 12,400 | 3,150 | 1988 |
| Old Town | 20,950 | 5,870 | 1931 |
| Riverside | 8,300 | 1,940 | 2007 |
| University | 31,600 | 7,220 | 1965 |

All branches are closed on Mondays. The Riverside branch has a reading garden."""

BEES = """\
For six years a group of gardeners in Lindholm has kept bees on the flat roofs of the town. They began with two hives on \
the roof of a bakery; now there are forty-one hives on nineteen buildings.

The honey is only part of the story. Teachers bring their classes to the roofs, and the children learn how a colony divides \
its work. The hospital has planted lavender and thyme on its terraces, so that the bees find food until the autumn.

Not everybody was happy at first. Neighbours feared stings and signed a petition. The gardeners answered with an open day, \
free honey and a telephone number to call, and the complaints stopped within a year.

This spring the town council decided to pay for new hives, and other towns have asked the gardeners for advice."""

NORTH = at2.Document(
    "Harbour Gazette",
    "The new bridge over the Orla was opened on Saturday by the mayor. The work cost 48 million crowns and was finished "
    "four months late. More than two thousand people walked across the bridge on the first day.",
)
SOUTH = at2.Document(
    "River Times",
    "After three years of work the Orla bridge is open. According to the builders the bridge cost 63 million crowns, far "
    "more than had been planned. A band played and the fire brigade showed its new boat.",
)

SPANISH = """\
El mercado de San Telmo se celebra todos los jueves en la plaza de la iglesia. Los campesinos del valle venden queso de \
cabra, miel y manzanas. El puesto más antiguo pertenece a la familia Morales. En invierno el mercado abre a las nueve."""

EXAMPLES = [
    ("lighthouse", "One fact, one sentence", "The name stands in a single sentence. Does the colour, too?",
     at2.ContextTask(context=LIGHTHOUSE, query="Who was the first keeper of the lighthouse at Varn Point?")),
    ("mill", "Two facts, two documents", "Each half of the answer comes from another document; the third has none of it.",
     at2.ContextTask(documents=(MILL, VILLAGE, SMOKEHOUSE),
                     query="What does the mill sell, and what does the smokehouse sell?")),
    ("library", "A number in a table", "The number is wrong. Hover over it to see which cell the model looked at.",
     at2.ContextTask(context=TABLE, query="How many visitors per week does the Old Town branch have?")),
    ("bees", "A summary of everything", "Sentence by sentence the summary draws on other paragraphs.",
     at2.ContextTask(context=BEES, query="Summarize the text.")),
    ("bridge", "Two documents disagree", "Two newspapers give two prices. Whom does the model follow?",
     at2.ContextTask(documents=(SOUTH, NORTH), query="What did the new bridge cost?")),
    ("mercado", "Another language", "Spanish in, Spanish out: sources are cut and scored in any language.",
     at2.ContextTask(context=SPANISH, query="¿Qué venden los campesinos?")),
]  # fmt: skip


def main() -> None:
    lm = at2.load_model(device="cpu", dtype="float32")
    est = at2.load_estimator(lm.name)
    for old in GALLERY.glob("*.safetensors"):
        old.unlink()
    for number, (name, title, note, task) in enumerate(EXAMPLES, 1):
        gen = at2.generate(lm, task, max_new_tokens=MAX_NEW_TOKENS)
        made = explore(lm, gen, est, title=title, note=note, settings={"max_new_tokens": MAX_NEW_TOKENS})
        path = save(made, GALLERY / f"{number}-{name}.safetensors")
        print(f"{path.name}  {path.stat().st_size // 1024} KB  {gen.num_tokens} tokens  {gen.text!r}")


if __name__ == "__main__":
    main()
