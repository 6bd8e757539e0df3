"""Sentence templates with slots, and the word lists that fill them."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from seqmem_scenarios.world.draw import Draw

_SLOT = re.compile(r"\{(\w+)\}")

WORDS: dict[str, tuple[str, ...]] = {
    name: tuple(text.split(";"))
    for name, text in {
        "weather": "rain;snow;fog;wind;sunshine;frost;thunder;mist",
        "adverb": "slowly;quietly;suddenly;gladly;quickly;loudly",
        "when": "in the morning;at noon;in the evening;at night;after lunch;on Monday;on Friday"
        ";all week;last winter;next summer",
        "place": "the market;the station;the harbour;the bridge;the park;the kitchen;the school"
        ";the old mill;the hill;the river;the garden;the office",
        "person": "the neighbour;a stranger;the old man;a young woman;the children;my sister"
        ";my uncle;the guests;two friends;our teacher",
        "thing": "letter;basket;lamp;clock;ladder;bottle;blanket;hammer;mirror;bell;chair;rope"
        ";box;key;map;coat",
        "things": "apples;books;boots;candles;coins;stones;tools;tickets;plates;shoes;papers;eggs",
        "adjective": "old;new;heavy;small;broken;clean;empty;wet;warm;cold;bright;strange",
        "animal": "dog;cat;horse;goat;hen;sheep;cow;mouse",
        "vehicle": "train;bus;boat;cart;ferry;truck",
        "carried": "carried;found;bought;sold;lost;cleaned;painted;forgot",
        "moved": "walked;ran;hurried;drove;went;returned",
        "mood": "tired;happy;hungry;late;worried;busy;proud;bored",
        "number": "two;three;four;five;six;seven;ten;20;35;48;100",
        "season": "spring;summer;autumn;winter",
        "work": "the roof;the fence;the road;the engine;the wall;the door",
        "drink": "tea;coffee;milk;water;soup;juice",
        "link": "and then;because;so;while;but;until",
    }.items()
}

TOPICS: dict[str, tuple[str, ...]] = {
    "weather": (
        "The {weather} started {when} and did not stop.",
        "There was {weather} over {place} {when}.",
        "After the {weather} the air was {adjective} and the roads were wet.",
        "They say that the {season} will bring more {weather} than usual.",
        "Nobody had expected {weather} at this time of the {season}.",
        "When the {weather} was over, {person} {moved} to {place}.",
        "It was {adjective} outside, {link} {person} stayed at home.",
        "The radio spoke of {weather} {when}.",
    ),
    "travel": (
        "The {vehicle} to {place} left {number} minutes late.",
        "{person} {moved} from {place} to {place} {when}.",
        "The {vehicle} was full, so {person} waited for the next one.",
        "It takes {number} hours by {vehicle} to reach {place}.",
        "On the way {person} {carried} a {adjective} {thing}.",
        "The road behind {place} is {adjective} in {season}.",
        "At the end of the journey everyone was {mood} and wanted {drink}.",
        "We took the {vehicle}, {link} the road to {place} was closed.",
    ),
    "work": (
        "{person} repaired {work} {when}.",
        "It took {number} people to move the {adjective} {thing}.",
        "The {things} were counted {adverb} and put into a {adjective} {thing}.",
        "{person} worked {adverb} at {place}, {link} there was much to do.",
        "Without a {thing} nobody could finish {work}.",
        "The work at {place} goes on {when}.",
        "{work} had to be painted again in {season}.",
        "For {number} days {person} did nothing but clean {things}.",
    ),
    "market": (
        "{person} {carried} {number} {things} at {place}.",
        "The price of {things} went up {when}.",
        "A {adjective} {thing} costs as much as {number} {things}.",
        "Behind {place} they sell {things} and {things}.",
        "{person} looked {adverb} at the {adjective} {things}.",
        "In {season} there are always {things} for sale near {place}.",
        "Nobody wanted the {adjective} {thing}, {link} it was too {adjective}.",
        "{person} paid for the {thing} and {moved} home.",
    ),
    "home": (
        "The {animal} slept next to the {adjective} {thing}.",
        "{person} put the {thing} on the table and made {drink}.",
        "In the kitchen there were {number} {things} and a {thing}.",
        "{person} was {mood}, {link} the {drink} was {adjective}.",
        "Under the stairs {person} found a {adjective} {thing}.",
        "The door was open and the {animal} ran {adverb} into the house.",
        "Every evening {person} reads a book about {things}.",
        "A {thing} fell down {when} and woke {person}.",
    ),
    "country": (
        "The {animal} {moved} {adverb} across the field.",
        "Near {place} lives a {adjective} {animal}.",
        "{person} gave the {animal} some {drink} {when}.",
        "In {season} the {animal} stays close to {place}.",
        "The {animal} was {mood}, {link} there was {weather} all day.",
        "{number} birds sat on {work} and watched the {animal}.",
        "The trees near {place} lose their leaves in {season}.",
        "{person} {moved} through the {weather} with a {animal}.",
    ),
}

TURNS: tuple[tuple[str, ...], ...] = (
    (
        "Did you see the {adjective} {thing} at {place}?",
        "Yes, {person} {carried} it {when}.",
        "That is strange, I thought it was {adjective}.",
        "No, it was {adjective}, {link} there was {weather}.",
    ),
    (
        "How was the {vehicle} to {place}?",
        "It was {number} minutes late and I was {mood}.",
        "Next time we should leave {when}.",
        "Good idea, and we bring {things} and {drink}.",
    ),
    (
        "Can you help me with {work}?",
        "I can come {when}, if there is no {weather}.",
        "Then please bring a {thing} and {number} {things}.",
        "I will ask {person} for a {adjective} one.",
    ),
    (
        "What happened at {place} {when}?",
        "{person} lost a {thing} and was very {mood}.",
        "Did anyone look behind {work}?",
        "Yes, but we only found {number} {things}.",
    ),
    (
        "Would you like some {drink}?",
        "Thank you, I am {mood} after the {weather}.",
        "Sit down, the {animal} likes the {adjective} chair.",
        "It {moved} {adverb} to {place} a moment ago.",
    ),
    (
        "Who sold you the {things}?",
        "I bought them from {person} near {place}.",
        "Were they cheaper than in {season}?",
        "They cost as much as {number} {things}.",
    ),
)


@lru_cache(maxsize=1024)
def _parts(template: str) -> tuple[str, ...]:
    """Return literal text at even places, slot names at odd ones."""
    return tuple(_SLOT.split(template))


def expand(
    template: str, draw: Draw, words: Mapping[str, Sequence[str]] = WORDS, *, capital: bool = True
) -> str:
    """Fill every slot of a template with a word of its list."""
    parts = _parts(template)
    text = "".join(part if place % 2 == 0 else draw.pick(words[part]) for place, part in enumerate(parts))
    return text[0].upper() + text[1:] if capital else text
