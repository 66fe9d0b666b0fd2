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

COMPOSER = at2.Document(
    "The Winter Sonata",
    "The Winter Sonata is a work for cello and piano in three movements. It was written by Ilse Marand during the "
    "winter of 1926. The last movement quotes a folk song from the mountains, and critics praised its quiet ending.",
)
BIOGRAPHY = at2.Document(
    "Ilse Marand",
    "Ilse Marand was a composer and a teacher of harmony. She was born in the harbour town of Tolvik, where her father "
    "repaired organs. After her studies she taught at the conservatory for thirty years and published two books.",
)
CELLO = at2.Document(
    "The cello",
    "The cello is a bowed string instrument with four strings tuned in fifths. It is played sitting down. The oldest "
    "cellos that are still played were made in northern Italy.",
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

FRENCH = """\
Le marché de Saint-Aubin a lieu tous les jeudis sur la place de l'église. Les paysans de la vallée y vendent des fromages \
de chèvre, du miel et des pommes. Le plus ancien étal appartient à la famille Morel, qui vient au marché depuis 1952. \
En hiver, le marché commence à neuf heures, mais en été il ouvre déjà à sept heures. On peut y goûter une soupe aux \
châtaignes préparée par l'école du village."""

EXAMPLES = [
    ("lighthouse", "One fact, one sentence", "The answer stands in a single sentence; see whether the colour does too.",
     at2.ContextTask(context=LIGHTHOUSE, query="Who was the first keeper of the lighthouse at Varn Point?")),
    ("sonata", "Two facts, two documents", "The answer needs the composer from one document and the town from another.",
     at2.ContextTask(documents=(CELLO, COMPOSER, BIOGRAPHY),
                     query="Who wrote the Winter Sonata, and in which town was she born?")),
    ("library", "A number in a table", "One cell of a table is wanted; rows and columns compete for attention.",
     at2.ContextTask(context=TABLE, query="How many visitors per week does the Old Town branch have?")),
    ("bees", "A summary of everything", "Every sentence of the summary draws on another paragraph.",
     at2.ContextTask(context=BEES, query="Summarize the text in three sentences.")),
    ("bridge", "Two documents disagree", "Two newspapers give two prices; whom does the model follow?",
     at2.ContextTask(documents=(NORTH, SOUTH), query="How much did the new bridge over the Orla cost?")),
    ("marche", "Another language", "French in, French out: sources are cut and scored in any language.",
     at2.ContextTask(context=FRENCH, query="À quelle heure commence le marché en hiver ?")),
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
