"""English words as signals ask for them: what is said, what moves, what stands where.

No tagger and no model: closed classes are listed, everything else is told from where it stands. The lists are of the
language, not of any data: prepositions and nouns of place, and verbs. Most verbs are of Levin's classes (English Verb
Classes and Alternations, 1993) of motion (51), change of posture (50), throwing, pushing and pulling (17, 12), and of
existence and spatial configuration (47); some are of others, for what moves or changes its shape is seen to: `catch`,
`hit`, `wipe`, `melt`.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from epistream.indexer.claim.words import FUNCTION_WORDS
from epistream.indexer.claim.words import words as listed
from epistream.v1 import knowledge_pb2 as pb

_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+|[.,;:!?()\n]")
_MARKS: Final = frozenset(".,;:!?()\n")

_MOTION: Final = listed("""
    advance amble approach arrive ascend bounce bound bow bring canter carry cartwheel catch charge chase circle climb
    coast come crash crawl creep cross crouch crumble cycle dance dart dash dive drag drift drip drive drop enter escape
    exit explode fall fetch flap flee fling flip float flow flutter fly follow gallop gesture glide go grab hike hit
    hobble hop hurl hurry jog juggle jump kick kneel land lean leap leave lift limp lower lunge lurch march melt
    mount move nod open orbit paddle pan parachute parade pass pedal pick pivot plunge pounce pour prance press prowl
    pull push put race raise ride rise roam rock roll rotate row run rush sail scamper scatter scoop scoot scramble
    scurry shake shift shove shuffle sink skate skateboard skid ski skip slam slide slip slither snap sneak snowboard
    soar spill spin splash sprint squeeze squish stagger step stir stomp stretch stride stroll strut stumble surf swap
    sway sweep swerve swim swing swirl swoop throw tilt tip topple toss travel trot tumble turn twirl twist vault
    vibrate wade walk wander wave whirl wipe wriggle zigzag zoom
""")
_STATIC: Final = listed("""
    appear be belong contain cover depict display exist feature hang have hold include lie live look own remain rest
    seem show sit stand stay surround watch wear
""")
_IRREGULAR: Final = {
    "bore": "bear", "brought": "bring", "came": "come", "caught": "catch", "crept": "creep", "dove": "dive",
    "driven": "drive", "drove": "drive", "fallen": "fall", "fell": "fall", "fled": "flee", "flew": "fly",
    "flown": "fly", "flung": "fling", "gone": "go", "leant": "lean", "leapt": "leap", "left": "leave",
    "ran": "run", "ridden": "ride", "risen": "rise", "rode": "ride", "rose": "rise", "sank": "sink",
    "shaken": "shake", "shook": "shake", "slid": "slide", "sprang": "spring", "spun": "spin", "stridden": "stride",
    "strode": "stride", "swam": "swim", "swept": "sweep", "swum": "swim", "swung": "swing", "threw": "throw",
    "thrown": "throw", "went": "go",
    "am": "be", "are": "be", "been": "be", "being": "be", "is": "be", "was": "be", "were": "be",
    "had": "have", "has": "have", "having": "have", "held": "hold", "hung": "hang", "lain": "lie", "lay": "lie",
    "sat": "sit", "stood": "stand", "worn": "wear", "wore": "wear",
}  # fmt: skip
"""Forms that no rule makes, by what they are forms of."""

_PLACE: Final = re.compile(
    r"\b(?:(?:to|on|at|in|from) the (?:far |very |upper |lower |top |bottom )?"
    r"(?:left|right|top|bottom|cent(?:er|re)|middle|corner|edge|foreground|background|front|back|rear|side)(?: corner)?"
    r"|(?:left|right|in front|on top|at the back|ahead|outside|inside) of|next to|close to|adjacent to|opposite"
    r"|above|below|behind|beneath|underneath|under|between|among|amid|beside|besides|inside|outside|within|around"
    r"|alongside|atop|upon|facing|surrounding|(?:top|bottom|upper|lower)[ -](?:left|right)(?: corner)?|corner)\b"
)
_PREPOSITIONS: Final = listed("""
    alongside amid among around aside atop away behind beneath beside besides beyond down forward inside like near
    onto opposite outside past round throughout toward towards underneath up upon via within
""")
"""Those that are no function words of `claim.words`, with the adverbs of direction."""
_MEDIUM: Final = listed("""
    image images img photo photos photograph photographs picture pictures pic pics graphic graphics icon icons logo
    logos thumbnail thumbnails screenshot screenshots banner banners illustration illustrations figure fig avatar
    placeholder spacer untitled file download attachment alt text description caption cover poster stock
""")
"""Nouns that name a picture and nothing on it."""
_FILE: Final = re.compile(
    r"\S*\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|heic|avif|ico)(?:\?\S*)?|"  # with its extension
    r"[A-Za-z]{0,6}[-_ ]?\d{3,}(?:[-_ x]?\d+)*(?:[-_ ]?\w{1,12})?|"  # from a camera: DSC_0042, IMG-2019-copy
    r"[\w-]*[_-]\w*\d\w*|"  # hero_image_2
    r"[a-z0-9]+(?:[-_][a-z0-9]+)+",  # main-banner
    re.ASCII,
)
_OF: Final = re.compile(
    r"(?:an? |the |this )?(?:\w+ )?(?:image|photo|photograph|picture|pic|illustration|graphic|screenshot|figure)s?"
    r"(?: is)? (?:of|may contain|might contain|shows?|showing|for|from|by|in|description)\b"
)
_CONTENT_MIN: Final = 3
_NAME_CHARACTERS_MAX: Final = 200
_ENGLISH: Final = frozenset(("", "en", "eng", "english"))


def words(text: str) -> list[str]:
    """The words and numbers of a text, in small letters."""
    return [word for word in _WORD.findall(text.lower()) if word not in _MARKS]


def content_words(text: str) -> list[str]:
    """The words that are no function words, numbers left out, plurals as their singular."""
    return [singular(word) for word in words(text) if word not in FUNCTION_WORDS and not word.isdigit()]


def objects(text: str) -> frozenset[str]:
    """What a caption speaks of: the heads of its noun phrases, singular.

    Without a tagger: a phrase is a run of words up to the next function word, mark, number, adverb in -ly, or form of a
    verb; its last word is its head. Forms of verbs are those that are listed here, and behind `a` or `one` what looks
    like a plural. A word in -ing is part of a phrase at its end only. Behind `is`, `can` and `they` stands no noun.
    `A red dog runs past two wet benches.` speaks of `dog` and `bench`.
    """
    heads: set[str] = set()
    phrase: list[str] = []
    opener = ""
    found = [*_WORD.findall(text.lower()), "."]
    for word, following in pairwise(found):
        is_participle = word.endswith("ing") and len(word) > 4 and not (phrase or opener in _DETERMINERS)
        is_participle = is_participle or (word.endswith("ing") and len(word) > 4 and not _ends(following))
        is_verb = bool(phrase) and (_is_verb_form(word) or (opener in _SINGLE and singular(word) != word))
        if not (is_participle or is_verb or _ends(word)):
            phrase.append(word)
            continue
        if phrase and opener not in _NO_NOUN_BEHIND:
            heads.add(singular(phrase[-1]))
        phrase, opener = [], word
    return frozenset(heads)


def singular(word: str) -> str:
    """A noun without the ending of its plural, as far as that can be told from the word."""
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def verbs(text: str) -> tuple[int, int]:
    """How many verbs of motion a text has, and how many verbs in all, as far as they are known by form or list.

    Forms of `be` before a participle are no verbs of their own. A verb that is on no list counts as one only as a
    participle in -ing.
    """
    moving = counted = 0
    found = words(text)
    for place, word in enumerate(found):
        bases = set(_bases(word))
        following = found[place + 1] if place + 1 < len(found) else ""
        is_moving = not bases.isdisjoint(_MOTION) and not _is_noun_there(found, place)
        is_static = not bases.isdisjoint(_STATIC) and not (_IRREGULAR.get(word) == "be" and following.endswith("ing"))
        moving += is_moving
        counted += is_moving or is_static or (len(word) > 5 and word.endswith("ing") and word not in FUNCTION_WORDS)
    return moving, counted


def spatial_relations(text: str) -> int:
    """How often a text says where something is in relation to something else: `left of`, `behind`, `in the corner`.

    `in`, `on` and `at` alone do not count: they hardly say where.
    """
    return len(_PLACE.findall(text.lower()))


def is_english(knowledge: pb.Knowledge) -> bool:
    """Whether a text may be English: its language is not said to be another, and most of its letters are Latin ones."""
    letters = [letter for letter in knowledge.content if letter.isalpha()]
    named = knowledge.attributes.get("language", "").lower()
    return named in _ENGLISH and 2 * sum(map(str.isascii, letters)) >= len(letters)


def is_generic(alt: str) -> bool:
    """Whether an alternative text says nothing of its image: a file's name, `image of …`, or under three content words.

    Nouns that name a picture (`photo`, `banner`) and numbers are no content. An empty text is generic.
    """
    text = " ".join(alt.split())
    told = [word for word in content_words(text) if singular(word) not in _MEDIUM and word not in _MEDIUM]
    is_name = len(text) <= _NAME_CHARACTERS_MAX and _FILE.fullmatch(text) is not None
    return len(told) < _CONTENT_MIN or is_name or _OF.match(text.lower()) is not None


def _is_noun_there(found: list[str], place: int) -> bool:
    """Whether a word that may be a verb follows an article or a possessive, so that it is a noun: `the waves`."""
    return place > 0 and found[place - 1] in _DETERMINERS


def _ends(word: str) -> bool:
    """Whether a word ends a noun phrase before it."""
    is_closed = word in _MARKS or word in FUNCTION_WORDS or word in _PREPOSITIONS
    return is_closed or word.isdigit() or (word.endswith("ly") and len(word) > 4)


def _is_verb_form(word: str) -> bool:
    return any(base != word and base in _LISTED for base in _bases(word))


def _bases(word: str) -> Iterator[str]:
    """The verbs that a word may be a form of, itself among them."""
    yield word
    if word in _IRREGULAR:
        yield _IRREGULAR[word]
    for ending, instead in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 1:
            yield from (stem + letter for letter in instead)
            if len(stem) > 2 and stem[-1] == stem[-2]:
                yield stem[:-1]


_ENDINGS: Final = (("ies", ("y",)), ("es", ("", "e")), ("s", ("",)), ("ed", ("", "e")), ("ing", ("", "e")))
_LISTED: Final = _MOTION | _STATIC
_NO_NOUN_BEHIND: Final = listed("""
    am are be been being can could did do does he i is it may might must not she should that there they very was we
    were which who will would you
""")
_SINGLE: Final = listed("a an each every one this")
_DETERMINERS: Final = listed("""
    a an the this that these those his her its their my our your some any no each every
""")
