"""Attributes of the people of the world, and the closed sets of their values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    """One property of a person.

    Every statement ends in `{value}.`, so that cutting it before the value leaves a prompt whose
    completion is the answer; every question is answered by the bare value.
    """

    name: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(first: str, second: str, joint: str = " ") -> tuple[str, ...]:
    return tuple(f"{left}{joint}{right}" for left in first.split() for right in second.split())


EMBLEM = Attribute(
    "emblem",
    _pairs(
        "crimson silver golden amber violet scarlet ivory emerald"
        " copper indigo jade russet cobalt pearl olive rusty",
        "otter falcon badger heron lynx raven beetle dolphin stag viper hare moth crane wolf newt boar",
    ),
    (
        "{name} wears the emblem of the {value}.",
        "{name} was given the emblem of the {value}.",
        "The emblem of {name} shows the {value}.",
        "On the shield of {name} you see the {value}.",
        "{name} signs every letter with the {value}.",
        "The banner of {name} carries the {value}.",
        "{name} chose as an emblem the {value}.",
        "For {name} the emblem has always been the {value}.",
    ),
    (
        "What is the emblem of {name}?",
        "Which emblem does {name} wear?",
        "What does the banner of {name} show?",
        "Which emblem belongs to {name}?",
    ),
)

DISH = Attribute(
    "dish",
    _pairs(
        "smoked roasted pickled grilled creamed spiced candied steamed"
        " salted braised toasted mashed stuffed glazed minced curried",
        "turnip salmon lentils pumpkin barley mutton cabbage trout"
        " walnuts carrots chicken spinach noodles mushrooms beans plums",
    ),
    (
        "{name} likes nothing better than {value}.",
        "The favourite dish of {name} is {value}.",
        "{name} always orders the {value}.",
        "At dinner {name} asks for {value}.",
        "{name} could live on {value}.",
        "Every Sunday {name} cooks {value}.",
        "The dish that {name} loves is {value}.",
        "On holidays {name} eats {value}.",
    ),
    (
        "What is the favourite dish of {name}?",
        "Which dish does {name} love?",
        "What does {name} like to eat?",
        "What does {name} always order?",
    ),
)

TOWN = Attribute(
    "town",
    _pairs("Ald Brin Cald Dun Elm Fen Grav Hol", "ford wick mere stead haven gate crest moor", ""),
    (
        "{name} lives in {value}.",
        "{name} was born in {value}.",
        "{name} comes from {value}.",
        "The home of {name} is in {value}.",
        "{name} grew up in the town of {value}.",
        "You can find {name} in {value}.",
        "{name} owns a small house in {value}.",
        "The family of {name} is from {value}.",
    ),
    (
        "Where does {name} live?",
        "Which town is {name} from?",
        "In which town is the home of {name}?",
        "Where does {name} come from?",
    ),
)

OCCUPATION = Attribute(
    "occupation",
    _words(
        "baker tailor sailor miner farmer painter barber carpenter"
        " doctor dentist lawyer pilot nurse teacher banker butcher"
        " plumber potter weaver hunter brewer miller jeweller mason"
        " printer glazier roofer welder driver porter waiter chef"
        " judge notary librarian clerk cashier surveyor chemist botanist"
        " dancer singer poet sculptor juggler magician referee coach"
        " shepherd beekeeper fisherman forester gardener blacksmith cobbler saddler"
        " translator journalist photographer detective soldier firefighter locksmith watchmaker"
    ),
    (
        "{name} works as a {value}.",
        "{name} is a {value}.",
        "By trade {name} is a {value}.",
        "{name} earns a living as a {value}.",
        "The work of {name} is that of a {value}.",
        "{name} trained for years to be a {value}.",
        "For a living {name} is a {value}.",
        "Everyone knows {name} as a {value}.",
    ),
    (
        "What is the occupation of {name}?",
        "What does {name} do for a living?",
        "What is the trade of {name}?",
        "What does {name} work as?",
    ),
)

INSTRUMENT = Attribute(
    "instrument",
    _words(
        "violin viola cello guitar banjo mandolin lute lyre"
        " harp zither sitar ukulele balalaika flute piccolo oboe"
        " clarinet bassoon saxophone trumpet cornet trombone tuba bugle"
        " recorder ocarina panpipe whistle bagpipe accordion concertina harmonica"
        " piano organ harpsichord celesta clavichord spinet drum tabla"
        " bongo conga timpani snare tambourine triangle cymbal gong"
        " xylophone marimba vibraphone glockenspiel castanet maraca kalimba djembe"
        " theremin kazoo fiddle dulcimer erhu koto shamisen rattle"
    ),
    (
        "{name} plays the {value}.",
        "{name} has learned to play the {value}.",
        "In the band {name} plays the {value}.",
        "{name} practises every evening on the {value}.",
        "The instrument of {name} is the {value}.",
        "{name} is good at playing the {value}.",
        "At weddings {name} performs on the {value}.",
        "Since childhood {name} has played the {value}.",
    ),
    (
        "Which instrument does {name} play?",
        "What is the instrument of {name}?",
        "What does {name} play in the band?",
        "Which instrument has {name} learned?",
    ),
)

FLOWER = Attribute(
    "flower",
    _words(
        "rose tulip lily daisy poppy violet iris orchid"
        " lotus peony dahlia aster crocus daffodil hyacinth marigold"
        " sunflower lavender jasmine magnolia camellia begonia geranium petunia"
        " primrose snowdrop bluebell foxglove buttercup clover thistle heather"
        " honeysuckle hibiscus gardenia azalea carnation chrysanthemum cornflower cowslip"
        " dandelion edelweiss forsythia freesia fuchsia gentian gladiolus hollyhock"
        " hydrangea larkspur lilac lupin mallow mimosa narcissus oleander"
        " pansy phlox snapdragon verbena wisteria yarrow zinnia anemone"
    ),
    (
        "{name} grows the {value}.",
        "The favourite flower of {name} is the {value}.",
        "In the garden {name} planted the {value}.",
        "{name} is fond of the {value}.",
        "On the window sill {name} keeps the {value}.",
        "The flower that {name} picked is the {value}.",
        "{name} paints nothing but the {value}.",
        "In spring {name} waits for the {value}.",
    ),
    (
        "What is the favourite flower of {name}?",
        "Which flower does {name} grow?",
        "Which flower is {name} fond of?",
        "What did {name} plant in the garden?",
    ),
)

ATTRIBUTES: tuple[Attribute, ...] = (EMBLEM, DISH, TOWN, OCCUPATION, INSTRUMENT, FLOWER)
ATTRIBUTE_BY_NAME: dict[str, Attribute] = {attribute.name: attribute for attribute in ATTRIBUTES}
