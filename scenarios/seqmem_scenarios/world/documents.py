"""Documents of the world: prose, dialogues, biographies, and the prose of a loop's own place.

Every function is pure: the same arguments give the same text on every machine.
"""

from collections.abc import Sequence

from seqmem_scenarios.world.draw import Draw
from seqmem_scenarios.world.facts import person_fact, qa, statement
from seqmem_scenarios.world.grammar import TOPICS, TURNS, WORDS, expand
from seqmem_scenarios.world.people import Person, World, population
from seqmem_scenarios.world.values import ATTRIBUTES

_WORDINGS = 64  # any multiple of the number of wordings: a drawn wording is then uniform
_ATTRIBUTE_NAMES = tuple(attribute.name for attribute in ATTRIBUTES)

_SITES = tuple(
    (
        "harbour orchard castle village island station market garden"
        " school mill bridge tower farm forest camp palace"
    ).split()
)
_SITE_NAMES = tuple(
    ("Arvo Belis Corin Drava Estor Goran Hespa Ilmar Jesen Korva Lund Miro Nald Ostra Selva Torun").split()
)
# The first sentence of a loop's prose names the place, the second stays with its objects.
_SITE_OPENINGS = (
    "In {season} the {site} of {site_name} smells of {drink}.",
    "At the {site} of {site_name} there is a {object}.",
    "Behind the {site} of {site_name} they keep {things}.",
    "The {site} of {site_name} waits for {weather}.",
    "Over the {site} of {site_name} there is {weather} {when}.",
    "The {animal} of {site_name} sleeps at the {site} in {season}.",
)
_SITE_SEQUELS = (
    "{person} {moved} past the {object} {when}.",
    "The {object} has been {adjective} since {season}.",
    "{person} {carried} the {adjective} {object}.",
    "The {animal} {moved} around the {object}.",
    "{person} {carried} {number} {things}.",
    "There is {drink} for the {animal} near the {object}.",
)


def filler(seed: int, index: int, sentences: int | None = None) -> str:
    """Return a paragraph of everyday prose about one topic; it names no person."""
    draw = Draw("filler", seed, index)
    count = sentences if sentences is not None else draw.between(2, 6)
    topic = TOPICS[draw.pick(tuple(TOPICS))]
    return " ".join(expand(form, draw) for form in _cycle(draw, topic, count))


def dialogue(seed: int, index: int) -> str:
    """Return a conversation of two people of the cast, four to eight turns, one turn per line."""
    draw = Draw("dialogue", seed, index)
    speakers = [person.name.split()[0] for person in _cast_pair(seed, draw)]
    lines: list[str] = []
    for exchange in draw.sample(TURNS, draw.between(1, 2)):
        for form in exchange:
            lines.append(f"{speakers[len(lines) % 2]}: {expand(form, draw)}")
    return "\n".join(lines)


def biography(
    person: Person,
    draw: Draw,
    attributes: Sequence[str] | None = None,
    questions: int = 0,
) -> str:
    """Return a person's text: statements in varied wordings, then some questions about them.

    Without `attributes` one to four are drawn. `questions` of them are asked
    after the statements, in random order.
    """
    chosen = list(attributes) if attributes is not None else draw_attributes(draw)
    text = " ".join(statement(person_fact(person, attribute), draw.below(_WORDINGS)) for attribute in chosen)
    return join_questions(
        text, questionnaire(person, draw, draw.sample(chosen, min(questions, len(chosen)))), draw
    )


def draw_attributes(draw: Draw, most: int = 4) -> list[str]:
    """Return one to `most` attribute names, in random order."""
    return draw.sample(_ATTRIBUTE_NAMES, draw.between(1, most))


def questionnaire(person: Person, draw: Draw, attributes: Sequence[str]) -> list[str]:
    """Return one question with its answer for each attribute, in varied wordings."""
    return [qa(person_fact(person, attribute), draw.below(_WORDINGS)) for attribute in attributes]


def join_questions(text: str, questions: Sequence[str], draw: Draw) -> str:
    """Return text and questions as one document, parted by line ends or by blanks."""
    joint = "\n" if draw.chance(0.5) else " "
    return joint.join([text, *questions] if text else questions)


def background(seed: int, index: int) -> str:
    """Return a general document for a benchmark's own background stream.

    45 % prose, 25 % dialogues, 30 % biographies of the cast, whose facts are in no pretraining
    text; up to two questions follow a biography, always about its own statements.
    """
    draw = Draw("background", seed, index)
    kind = draw.below(100)
    if kind < 45:
        return filler(seed, index)
    if kind < 70:
        return dialogue(seed, index)
    person = World(seed).person("cast", draw.below(population("cast")))
    return biography(person, draw, questions=draw.below(3))


def place_prose(seed: int, loop: int, index: int) -> str:
    """Return two sentences from the setting of one loop: its site, name, season and objects.

    The first 16 loops of a seed differ in site and in name; later ones differ in the pair.
    """
    site, name = loop_place(seed, loop)
    setting = Draw("place", seed, loop)
    words = {
        **WORDS,
        "site": (site,),
        "site_name": (name,),
        "season": (setting.pick(WORDS["season"]),),
        "weather": tuple(setting.sample(WORDS["weather"], 2)),
        "things": tuple(setting.sample(WORDS["things"], 2)),
        "animal": tuple(setting.sample(WORDS["animal"], 2)),
        "drink": tuple(setting.sample(WORDS["drink"], 2)),
        "adjective": tuple(setting.sample(WORDS["adjective"], 3)),
        "object": tuple(setting.sample(WORDS["thing"], 4)),
    }
    draw = Draw("place prose", seed, loop, index)
    forms = (draw.pick(_SITE_OPENINGS), draw.pick(_SITE_SEQUELS))
    return " ".join(expand(form, draw, words) for form in forms)


def loop_place(seed: int, loop: int) -> tuple[str, str]:
    """Return the site and the name that belong to a loop, such as ("harbour", "Selva")."""
    lap, place = divmod(loop, len(_SITES))
    if loop < 0 or lap >= len(_SITE_NAMES):
        raise ValueError(f"there are {len(_SITES) * len(_SITE_NAMES)} places, loop {loop} has none")
    sites = Draw("sites", seed).shuffled(_SITES)
    names = Draw("site names", seed).shuffled(_SITE_NAMES)
    return sites[place], names[(place + lap) % len(names)]


def _cycle(draw: Draw, forms: Sequence[str], count: int) -> list[str]:
    """Return `count` forms in random order, none repeated before all were used."""
    chosen: list[str] = []
    while len(chosen) < count:
        chosen += draw.shuffled(forms)
    return chosen[:count]


def _cast_pair(seed: int, draw: Draw) -> list[Person]:
    """Return two people of the cast whose first names differ."""
    world = World(seed)
    one = world.person("cast", draw.below(population("cast")))
    other = one
    while other.name.split()[0] == one.name.split()[0]:
        other = world.person("cast", draw.below(population("cast")))
    return [one, other]
