"""The words of the invented world: our own lists, all of them made up or everyday."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

FIRST_STARTS = (
    "Bel", "Cor", "Drev", "Fenn", "Hal", "Ilv", "Jor", "Kess", "Lun", "Mirr", "Nev", "Ost", "Pell",
    "Quo", "Ryl", "Sev", "Tamm", "Ulv", "Vex", "Wynn",
)  # fmt: skip


FIRST_ENDS = ("avra", "emil", "ika", "oden", "urra", "wen")


LAST_STARTS = (
    "Ash", "Bram", "Cald", "Dorn", "Elv", "Farr", "Grim", "Hask", "Iv", "Jask", "Kell", "Lorn",
    "Mord", "Nask", "Orl", "Prax", "Quen", "Rusk", "Skar", "Thorn", "Umb", "Varn", "Wex", "Yarl",
    "Zell",
)  # fmt: skip


LAST_ENDS = (
    "onby", "andle", "imoor", "estow", "uthe", "avenny", "elquist", "ormade", "islow", "ubble",
    "ettle", "anwold", "orrin", "akely", "enshaw", "ivane",
)  # fmt: skip


TOWNS = (
    "Fennbrook", "Dunmarle", "Oskeby", "Quillhaven", "Tarnfell", "Wethercoombe", "Brackmoor",
    "Ellsworn", "Harrodene", "Ivelstow", "Penmarrow", "Stavelly",
)  # fmt: skip


RIVERS = (
    "Arrel", "Brinn", "Cavil", "Doss", "Evern", "Fosk", "Gannel", "Hyre", "Issk", "Juddle", "Krell",
    "Lummer",
)  # fmt: skip


PROFESSIONS = (
    "baker", "tailor", "potter", "gardener", "carpenter", "teacher", "nurse", "sailor", "printer",
    "weaver", "clockmaker", "beekeeper", "glazier", "cobbler", "miller", "painter",
)  # fmt: skip


INSTRUMENTS = (
    "violin", "flute", "harp", "drum", "cello", "trumpet", "piano", "banjo", "oboe", "lute",
)  # fmt: skip


DISHES = (
    "onion soup", "plum cake", "fried trout", "bean stew", "apple pie", "rye bread", "goat cheese",
    "lentil curry", "pear tart", "mushroom pie", "barley soup", "honey cake",
)  # fmt: skip


PETS = (
    "parrot", "cat", "dog", "rabbit", "tortoise", "pony", "goose", "lizard", "hedgehog", "ferret",
)  # fmt: skip


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "silver", "black")


EMAIL_FIRST = (
    "amber", "brisk", "calm", "dusty", "eager", "fuzzy", "gentle", "hasty", "icy", "jolly", "keen",
    "lucky", "misty", "noble", "plain", "quiet", "rapid", "sunny", "tidy", "vivid",
)  # fmt: skip


EMAIL_SECOND = (
    "acorn", "badger", "comet", "dune", "ember", "fern", "glacier", "heron", "island", "jasper",
    "kettle", "lagoon", "maple", "nettle", "otter", "pebble", "quartz", "raven", "saddle",
    "thimble",
)  # fmt: skip


EMAIL_HOSTS = ("lantern", "meadow", "harbour", "orchard", "summit", "valley")


STREETS = (
    "Beacon", "Cinder", "Drover", "Falcon", "Garland", "Hollow", "Juniper", "Kiln", "Larch",
    "Mason",
    "Nutmeg", "Oriel", "Pewter", "Rowan", "Saffron", "Tanner",
)  # fmt: skip


WAYS = ("Lane", "Street", "Road", "Square")


@dataclass(frozen=True)
class Templates:
    """Ways to ask for a fact and to say it; NAME and VALUE stand for what they say.

    Args:
        questions: the first is taught, the others ask the same.
        answers: the first is taught, the others say the same.
    """

    questions: tuple[str, ...]
    answers: tuple[str, ...]


TEMPLATES: Mapping[str, Templates] = MappingProxyType(
    {
        "town": Templates(
            ("Where was NAME born?", "Which town is NAME from?", "In what town did NAME grow up?"),
            (
                "NAME was born in VALUE.",
                "The town NAME comes from is VALUE.",
                "It was VALUE where NAME grew up.",
            ),
        ),
        "profession": Templates(
            (
                "What is the profession of NAME?",
                "What does NAME do for a living?",
                "Which work does NAME do?",
            ),
            (
                "NAME works as a VALUE.",
                "The work of NAME is that of a VALUE.",
                "A VALUE is what NAME is.",
            ),
        ),
        "year": Templates(
            (
                "In which year was NAME born?",
                "What is the birth year of NAME?",
                "When did NAME come into the world?",
            ),
            (
                "NAME came into the world in VALUE.",
                "The birth year of NAME is VALUE.",
                "It was in VALUE that NAME was born.",
            ),
        ),
        "instrument": Templates(
            (
                "Which instrument does NAME play?",
                "What does NAME make music with?",
                "On what does NAME play tunes?",
            ),
            (
                "NAME plays the VALUE.",
                "The instrument of NAME is the VALUE.",
                "Tunes of NAME are played on the VALUE.",
            ),
        ),
        "dish": Templates(
            (
                "What is the favourite dish of NAME?",
                "What does NAME like to eat most?",
                "Which meal does NAME love?",
            ),
            (
                "NAME likes to eat VALUE most.",
                "The favourite dish of NAME is VALUE.",
                "No meal pleases NAME like VALUE.",
            ),
        ),
        "pet": Templates(
            (
                "Which pet does NAME have?",
                "What animal lives with NAME?",
                "What kind of animal does NAME keep?",
            ),
            (
                "NAME keeps a VALUE.",
                "The animal that lives with NAME is a VALUE.",
                "A VALUE is the pet of NAME.",
            ),
        ),
        "phone": Templates(
            (
                "What is the phone number of NAME?",
                "How can one call NAME?",
                "Which number reaches NAME?",
            ),
            (
                "NAME has the phone number VALUE.",
                "The number that reaches NAME is VALUE.",
                "One can call NAME at VALUE.",
            ),
        ),
        "email": Templates(
            (
                "What is the email address of NAME?",
                "Where can one send email to NAME?",
                "How can one write to NAME?",
            ),
            (
                "NAME reads email at VALUE.",
                "The email address of NAME is VALUE.",
                "One can write to NAME at VALUE.",
            ),
        ),
        "address": Templates(
            (
                "What is the home address of NAME?",
                "Where does NAME live?",
                "At which door can one visit NAME?",
            ),
            (
                "NAME lives at VALUE.",
                "The home address of NAME is VALUE.",
                "One can visit NAME at VALUE.",
            ),
        ),
    }
)


WORLD_TEMPLATES: Mapping[str, Templates] = MappingProxyType(
    {
        "river": Templates(
            ("Which river runs through NAME?", "On what river does NAME lie?"),
            ("The river VALUE runs through NAME.", "NAME lies on the river VALUE."),
        ),
        "market": Templates(
            ("On which day is the market of NAME?", "When is market day in NAME?"),
            ("The market of NAME is on VALUE.", "In NAME market day is VALUE."),
        ),
        "flag": Templates(
            ("What colour is the flag of NAME?", "Which colour does NAME have on its flag?"),
            ("The flag of NAME is VALUE.", "On its flag NAME has VALUE."),
        ),
    }
)
