"""The word lists of the same-claim check.

All of them were written by hand for Epistream, from general knowledge of English, and then tried on published pairs of
statements that differ in one fact. The rule for a list that makes two words equal: neither word has another sense in
which the other could stand in the same sentence. So `couch` and `sofa` are there, and `check` and `cheque`, `film` and
`movie`, `tiny` and `small` are not. A word that is missing costs a row; a word that is wrong loses knowledge.
"""

from itertools import product
from typing import Final


def words(text: str) -> frozenset[str]:
    """The words of a table."""
    return frozenset(text.split())


def _also_first(table: frozenset[str]) -> frozenset[str]:
    """The same, also as they begin a sentence."""
    return table | {word.capitalize() for word in table}


def forms(lines: str) -> dict[str, str]:
    """Each line is `canonical: other, other`; the result maps each other form to the canonical one."""
    pairs = (line.split(":") for line in lines.split("\n") if line.strip())
    return {form.strip(): canonical.strip() for canonical, forms in pairs for form in forms.split(",")}


def _phrases(lines: str) -> dict[str, dict[tuple[str, ...], str]]:
    """As `forms`, for forms of several words, found by their first word; the longest first."""
    found: dict[str, dict[tuple[str, ...], str]] = {}
    for form, canonical in sorted(forms(lines).items(), key=lambda item: -len(item[0].split())):
        first, *rest = form.split()
        found.setdefault(first, {})[tuple(rest)] = canonical
    return found


# Words that are equal -------------------------------------------------------------------------------------------------

SYNONYMS: Final = forms("""
    a: an
    adverts: ads, advertisements
    afterward: afterwards
    airplane: aeroplane
    airplanes: aeroplanes
    allow: permit
    allowed: permitted
    allows: permits
    although: though
    among: amongst
    backward: backwards
    begin: commence
    begins: commences
    began: commenced
    bought: purchased
    buy: purchase
    buying: purchasing
    buys: purchases
    couch: sofa
    couches: sofas
    father: dad, daddy
    forbidden: prohibited
    huge: enormous
    information: info
    mathematics: maths, math
    maximum: max
    mother: mom, mommy
    on: upon
    perhaps: maybe
    photograph: photo
    photographs: photos
    quickly: rapidly
    refrigerator: fridge
    refrigerators: fridges
    situated: located
    telephone: phone
    telephones: phones
    toward: towards
    until: till
    versus: vs
    while: whilst
""")
"""Words that say the same wherever they stand."""

PHRASES: Final = _phrases("""
    aka: also known as
    asap: as soon as possible
    before: prior to
    consist of: consist of, are composed of, are made up of
    consists of: consists of, is composed of, is made up of
    currently: at present
    e.g.: for example, for instance
    equals: is equal to
    although: even though
    lots of: a lot of
    near: close to
    must: has to, have to
    not able to: unable to
    each other: one another
    regardless of: irrespective of
    to: in order to
""")
"""Phrases that say the same wherever they stand."""

BOUNDS: Final = _phrases("""
    >: more than, greater than
    >=: at least, not less than, not fewer than
    <: less than, fewer than
    <=: at most, no more than, not more than
""")
"""Phrases that are bounds, but only before a number."""

APPROXIMATE: Final = words("approximately approx roughly circa ca")
"""Words that say 'about' before a number."""

ABOUT: Final = words("about around")
"""Words that say 'about' before a number with a unit; without one they may say 'on the subject of' and 'all round'."""

_STEMS_OUR: Final = words("""
    arm behavi col endeav fav flav harb hon hum lab neighb od parl rum sav tum val vap vig
""")
_ENDINGS_OUR: Final = ("", *words("s ed ing able ful ite ites less hood hoods"))
_STEMS_ISE: Final = words("""
    apolog author capital categor character civil crystall custom digital econom emphas equal final formal
    general global harmon hospital hypothes immun industrial initial legal local maxim memor minim mobil modern
    national neutral normal optim organ oxid penal personal polar popular prior public random rational real
    recogn sanit serial special stabil standard steril summar symbol synchron synthes util visual vulcan
""")
_ENDINGS_ISE: Final = words("e ed es ing er ers ation ations")
_STEMS_YSE: Final = words("anal catal dial electrol hydrol paral")
_ENDINGS_YSE: Final = words("e ed es ing er ers")
_STEMS_LL: Final = words("cance channe fue labe leve marsha mode pane signa tota trave tunne")
_ENDINGS_LL: Final = words("ed ing er ers")

SPELLINGS: Final = {
    **{f"{stem}our{end}": f"{stem}or{end}" for stem, end in product(_STEMS_OUR, _ENDINGS_OUR)},
    **{f"{stem}is{end}": f"{stem}iz{end}" for stem, end in product(_STEMS_ISE, _ENDINGS_ISE)},
    **{f"{stem}ys{end}": f"{stem}yz{end}" for stem, end in product(_STEMS_YSE, _ENDINGS_YSE)},
    **{f"{stem}ll{end}": f"{stem}l{end}" for stem, end in product(_STEMS_LL, _ENDINGS_LL)},
    **forms("""
    advisor: adviser
    advisors: advisers
    aging: ageing
    aluminum: aluminium
    anemia: anaemia
    anemic: anaemic
    anesthesia: anaesthesia
    anesthetic: anaesthetic
    artifact: artefact
    artifacts: artefacts
    catalog: catalogue
    catalogs: catalogues
    center: centre
    centered: centred
    centers: centres
    coordinate: co-ordinate
    coordinated: co-ordinated
    coordination: co-ordination
    cooperate: co-operate
    cooperation: co-operation
    cozy: cosy
    defense: defence
    defenses: defences
    diarrhea: diarrhoea
    edema: oedema
    email: e-mail
    emails: e-mails
    enroll: enrol
    enrollment: enrolment
    esophagus: oesophagus
    estrogen: oestrogen
    fetal: foetal
    fetus: foetus
    fiber: fibre
    fibers: fibres
    fulfill: fulfil
    fulfills: fulfils
    gray: grey
    gynecology: gynaecology
    hemoglobin: haemoglobin
    hemorrhage: haemorrhage
    jewelry: jewellery
    judgment: judgement
    judgments: judgements
    leukemia: leukaemia
    license: licence
    licenses: licences
    luster: lustre
    maneuver: manoeuvre
    maneuvers: manoeuvres
    mold: mould
    molds: moulds
    mustache: moustache
    offense: offence
    offenses: offences
    online: on-line
    orthopedic: orthopaedic
    pajamas: pyjamas
    pediatric: paediatric
    plow: plough
    practice: practise
    skeptical: sceptical
    skillful: skilful
    sulfate: sulphate
    sulfur: sulphur
    sulfuric: sulphuric
    theater: theatre
    theaters: theatres
    website: web-site
    websites: web-sites
    yogurt: yoghurt
    """),
}
"""British spellings and their American forms."""

EQUAL: Final = {**SPELLINGS, **SYNONYMS}
"""Every word that has another form, and that form."""

SPELLED: Final = _also_first(words("spell spelled spelling spellings spells spelt"))
"""Words that say that the text is about how words are written."""

LITERAL: Final = _also_first(words("label labels literal password passwords string strings type"))
"""Words that say that what stands in quotation marks is meant as it is written."""

OBJECTS_BEFORE: Final = words("""
    all anything everything little lot more much nothing something that things what whatever which
""")
"""What may be had and stand before `has to`: `all he has to say`."""

PRONOUNS: Final = words("he her hers him his she they them their")
"""Pronouns that name somebody where they have a capital inside a sentence."""

DOTTED: Final = {"e.g": "e.g.", "i.e": "i.e.", "a.k.a": "aka", "a.s.a.p": "asap"}
"""Abbreviations in small letters, without their last full stop."""

# Contractions ---------------------------------------------------------------------------------------------------------

_NOT: Final = words("is are was were do does did has have had could would should might must need")
_PERSONS: Final = words("i you he she it we they that there who")

CONTRACTIONS: Final[dict[str, tuple[str, ...]]] = {
    **{f"{word}n't": (word, "not") for word in _NOT},
    **{f"{word}'ll": (word, "will") for word in _PERSONS},
    **{f"{word}'re": (word, "are") for word in _PERSONS},
    **{f"{word}'ve": (word, "have") for word in _PERSONS},
    "cannot": ("can", "not"),
    "can't": ("can", "not"),
    "won't": ("will", "not"),
    "shan't": ("shall", "not"),
    "n't": ("not",),
    "i'm": ("i", "am"),
}
"""Contractions with one reading. `'d` has two (had, would), so it stays as it is."""

ONLY: Final = words("just merely only simply")
"""Words before which `cannot` denies something else than `can not`: `you can not only win, but also lose`."""

IS_CONTRACTED_AFTER: Final = words("he she it that there here what where who")
"""Words after which `'s` is `is` or `has`, and not the possessive."""

HAS_BEFORE: Final = words("been got had")
"""Words before which it is `has`."""

PARTICIPLES: Final = words("""
    become been begun born bought brought built caught come cost cut done drawn drunk felt flown found fought given
    gone got grown had heard held hit hurt kept known laid led left lent lost made meant met paid put read run said
    seen sent set shot shown shut sold spent split spread stood struck sung sunk taken taught told thought thrown
    understood worn won written
""")
"""Participles that do not end in -ed or -en; after `it's` they leave open whether it is `is` or `has`."""

# Parts of speech, as far as they matter -------------------------------------------------------------------------------

NEGATIONS: Final = words("""
    not no never none nobody nothing nowhere neither nor without cannot unless except hardly scarcely barely
""")
"""What denies. These three tables only name a difference for people."""
QUANTIFIERS: Final = words("""
    all any both each either every few half least less lots many more most much one only several some always
    often rarely seldom sometimes usually > >= < <=
""")
"""How many, how often, no more and no less."""
MODALS: Final = words("can could may might must ought shall should will would")
"""What is possible, allowed, demanded, to come."""
NEGATIVE_PREFIXES: Final = ("un", "in", "im", "il", "ir", "non", "non-", "dis", "de", "mis", "anti", "anti-", "a")
"""What turns a word into its opposite."""

FUNCTION_WORDS: Final = words("""
    a about above across after again against all also although always am among an and any are as at be because
    been before being below between both but by can cannot could did do does down during each either every few
    for from had has have having he her here hers him his how if in into is it its just less many may me might
    more most must my never no nor not now of off often on once only or other our out over own per shall she
    should since so some such than that the their them then there these they this those through to too under
    until up upon us very was we were what when where which while who whom whose why will with without would yet
    you your
""")
"""Words whose capital says nothing."""

EMPHASIS: Final = words("always and cannot every may must never not only shall should")
"""Words that are written in capitals to stress them: `MUST NOT`. `NO` may be nitric oxide, and `ALL` a leukaemia."""

OTHER_LANGUAGES: Final = words("""
    att av com con dans das de del dem den der det di do dos e een ein eine el en es est et für gli het il ist je jest
    la las le les los med met mit na nicht nie och para per por pour que se si som su sur un una und une van ve von y
    z zum zur är è é
""")
"""Common words of European languages in which a comma begins the fraction of a number, and that English has not."""

SHARED: Final = words("""
    a all also am an are as at but by can do for had has have he her him his in is it just me must my no not of on
    once or our out over so to under was we will
""")
"""Words of English that are words of other languages, too: two of them say that a text is in English if it cannot be in
one of OTHERS_SHARE."""

OTHERS_SHARE: Final = tuple(
    map(
        words,
        (
            "all also am an her in so under will",  # German
            "at had her in is of over so under was we",  # Dutch
            "all at by for had have her is just no over so to under",  # Danish, Norwegian, Swedish
            "a as but me on or",  # French
            "a has he me no once",  # Spanish
            "a as do me no",  # Portuguese
            "a all am do has in me no",  # Italian, Romanian in part
            "a am are as by do my no on to",  # Romanian, Polish, Czech
            "he me must no on",  # Finnish, Estonian
            "an can her on",  # Turkish
            "a an as do is",  # Irish, Hungarian
        ),
    )
)

ENGLISH: Final = (FUNCTION_WORDS | words("$ £")) - SHARED
"""What only a text in English has."""

COMMON_NOUNS: Final = words("""
    agreement airport annex appendix article buyer clause committee contractor customer department
    director district embassy employee employer figure government hospital institute internet landlord lessee
    lessor licensee licensor literature ministry museum parliament patient president professor province region
    seller senate supplier tenant theology university user monday tuesday wednesday thursday friday saturday
    sunday
""")
"""Nouns that name the same kind of thing with a capital as without, and are nobody's name."""

HOMOGRAPHS: Final = words("""
    aids amazon apache apple august can china cobra cork derby django essen excel fedora ford galaxy georgia gray
    grey guinea ir it java jersey jordan kafka labor labour lent lima limerick lotus mali march may mercury niger
    oracle pascal phoenix polish puma python redis ruby rust scala swede swedes swift turkey us visa who will windows
""")
"""Words that are another thing with a capital, even where a sentence begins: `turkey`, `Turkey`; `Gray`, `Grey`."""

NAMESAKES: Final = words("""
    ada baker basic bath beetle bill bing bishop black blackberry bolt boxer brown burgundy bush butler caesar
    cancer carter cat chad champagne char child chile chrome church cola colon cook cooper crown dart dash
    docker echo edge elixir field fish fisher flash flask flutter focus frank gap gates go grant green gulp hill
    hive hood hope hunter ice job joy julia king kit lake long ma mark mason metal mike mini mint mobile moon
    nice ninja node north orange ore page parker pat pet porter potter powerpoint prime pro rail rails react
    reading ride rob rose safari sat scratch shell slack smart sonar south spark split spring sprint stage star
    start subway tan target taylor teams tide tiger turner walker ward wasp weaver web wells west white wood
    woods word worms young zoom
""")
"""Words that are also names. In a text without capitals they are taken for words."""

HOMOGRAPH_FORMS: Final = frozenset(form for word in HOMOGRAPHS for form in (word, word.capitalize(), word.upper()))
"""The same with a capital, and in capitals."""

CODE_WORDS: Final = words("""
    argument arguments attribute class classes command constant constants enum field flag function functions
    identifier key keyword method methods module namespace option parameter parameters property struct symbol
    table tag type types variable variables
""")
"""Words that say that the text is about names in a program, where case counts."""

ABBREVIATIONS: Final = words("""
    al approx art bros ca capt cf ch co col corp dept dr ed eds eq est etc fig gen gov hon inc jr lt ltd mr mrs
    ms mt op p pp prof rev sec sen sgt sr st univ vol vs
""")
"""Words whose full stop ends no sentence."""

# Places where something may be left out -------------------------------------------------------------------------------

THE_STAYS_BEFORE: Final = words("few last little many most next number one only other others past question rest")
"""Words that mean something else after `the`: `few` and `the few`, `last year` and `the last year`."""

THE_STAYS_AFTER: Final = words("all both half most out")
"""Words that mean something else before `the`: `all men` and `all the men`."""

IRREGULAR_PLURALS: Final = words("""
    aircraft algae alumni antennae bacteria cacti cattle children criteria data deer dice feet fish foci formulae fungi
    geese genera larvae lice media men mice nebulae nuclei offspring oxen people phenomena police poultry radii sheep
    spectra staff stimuli strata teeth vertebrae women
""")
"""Plurals that do not end in -s: `the children` are certain ones."""

SINGULARS_IN_S: Final = words("""
    analysis apparatus axis basis bonus bus campus canvas census chaos chorus consensus corpus crisis diabetes diagnosis
    emphasis focus gas genesis genius genus hypothesis iris lens minus news nexus nucleus oasis opus paralysis plus
    radius seas series species status stimulus surplus synopsis synthesis tennis thesis virus
""")
"""Words in -s that are no plurals, or plurals with the same form, beside those in -ss."""

THE_STAYS_WITHOUT_PLURAL: Final = words("""
    air beauty bed beef beer blood bread butter cheese church class coal coffee college copper cotton court death dust
    energy faith fire flour fuel gas glass gold grass ground heat home honey hospital ice iron jail justice labor labour
    land law life light love man meat milk money music nature office oil ore paper peace power prison rain rice salt
    sand school sea silver smoke snow soil space steam steel sugar tea time town trade truth university war water way
    wine wood wool work
""")
"""Nouns that stand without an article, too, and then mean something else: `the water` is a certain one, and who is in
`the office` need not be in `office`."""

TIME_NOUNS: Final = words("ages centuries days decades eras hours minutes months seconds times weeks years")
"""Plurals that `the` before an adjective does not tell from others: `since the ancient times`."""

OF_PREPOSITIONS: Final = words("at by for from in on to under with")
"""Words that begin a preposition which ends with `of`, and which `the` makes another: `in charge of`, `in the charge
of`."""

COMMA_IS_FREE_BEFORE: Final = words("""
    a also although an and but each either he her his i it its neither nor or our she the their there these they
    this those we yet you your
""")
"""Words before which a comma changes nothing. Between two other words it may make two things of one: `steel, pipes` and
`steel pipes`; and one before `which` and `who` says that all are meant."""

DENIALS: Final = NEGATIONS | words("""
    ain't avoid avoids denied denies deny doubt doubts fail failed fails false few forbade forbid forbidden forbids
    impossible lack lacked lacks little only prevent prevented prevents prohibit prohibited prohibits rarely refuse
    refused refuses seldom stop stopped stops unable unlikely wrong
""")
"""Words behind which a comma may say what is denied: `never mix it, and rest`, `never mix it and rest`."""

OBJECTS: Final = words("her him me them us you")
"""Pronouns that an apposition may stand behind."""

COMMA_IS_FREE_BEFORE_PHRASE: Final = words("""
    as at because before by during for from in into of on since so to under until when while with without
""")
"""Words before which a comma changes nothing, unless something is denied: `he did not go, because it rained`."""

COMMA_IS_FREE_AFTER: Final = words("""
    accordingly additionally also consequently e.g. finally furthermore hence here instead meanwhile moreover nowadays
    then therefore there thus today tomorrow yesterday
""")
"""Openings after which a comma changes nothing, as it does in `Previously, treated patients were excluded`."""

COMMA_COUNTS_AFTER: Final = words("however never no not only well yes")
"""Words after which a comma changes what is denied."""

TIMES: Final = words("once twice times")
"""Words after which `daily` is `a day`."""

REPORTING: Final = words("""
    announced announces announce believe believed believes claim claimed claims confirm confirmed confirms
    ensure ensures found mean means report reported reports said say says show showed shows state stated states
    think thinks thought
""")
"""Verbs after which `that` may be left out, if one of `SUBJECTS` follows."""

SUBJECTS: Final = words("a all an he his i it its no our she the their there these they this those we you your")
"""Words that a clause begins with."""

TIME_PREPOSITIONS: Final = words("at by in on since")
"""What a phrase of time begins with."""

HAPPENED: Final = words("arrived began closed crashed died ended failed happened occurred opened resigned retired")
"""Verbs that a phrase of time behind them surely belongs to."""

WAS: Final = words("was were")
"""What the passive begins with."""

PLACE_PREPOSITIONS: Final = words("at from in near to")
"""What a phrase of place begins with."""

SUBORDINATE: Final = words("""
    after although and as because before but if how nor or than that though to unless until what when where
    whether which while who whom whose why will would
""")
"""Words that open a second clause, so that a phrase of time at the end may belong to either."""
