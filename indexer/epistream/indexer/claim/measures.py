"""The tables of numbers, units and months of the same-claim check, written by hand for Epistream.

Two forms are one unit only if they are names of one unit. Values are never converted: `1000 mg` and `1 g` stay two
claims.
"""

from typing import Final

from epistream.indexer.claim.words import forms, words

_SMALL: Final = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL_ORDINALS: Final = """zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth
    thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"""
_TENS_ORDINALS: Final = "twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth"


def _below_hundred(small: str, tens: str) -> dict[str, int]:
    """The words `small` from 0, `tens` from 20, and what hyphens make of both: `twenty-five`, `twenty-fifth`."""
    units = small.split()
    joined = {
        f"{ten}-{unit}": 10 * value + digit
        for value, ten in enumerate(_TENS.split(), start=2)
        for digit, unit in enumerate(units[1:10], start=1)
    }
    plain = {word: value for value, word in enumerate(units)}
    return plain | {word: 10 * value for value, word in enumerate(tens.split(), start=2)} | joined


CARDINALS: Final = _below_hundred(_SMALL, _TENS)
"""The number words below a hundred and their values."""

ORDINALS: Final = _below_hundred(_SMALL_ORDINALS, _TENS_ORDINALS) | {"hundredth": 100}
"""The ordinal words up to a hundred and their values."""

TENS: Final = words(_TENS)
"""The number words that one below ten may follow: `twenty five`."""

SCALES: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
"""What multiplies the number before it. All texts are read by the short scale."""

_UNIT_FORMS: Final = forms("""
    %: %, percent
    ‰: ‰
    °: °, degree, degrees
    °C: °C
    °F: °F
    K: K, kelvin, kelvins
    kg: kg, kgs, kilo, kilos, kilogram, kilograms, kilogramme, kilogrammes
    g: g, gram, grams, gramme, grammes
    mg: mg, milligram, milligrams, milligramme, milligrammes
    μg: μg, mcg, microgram, micrograms
    ng: ng, nanogram, nanograms
    t: t, tonne, tonnes
    lb: lb, lbs
    oz: oz, ounce, ounces
    km: km, kilometer, kilometers, kilometre, kilometres
    m: m, meter, meters, metre, metres
    cm: cm, centimeter, centimeters, centimetre, centimetres
    mm: mm, millimeter, millimeters, millimetre, millimetres
    μm: μm, micrometer, micrometers, micrometre, micrometres
    nm: nm, nanometer, nanometers, nanometre, nanometres
    mi: mi, mile, miles
    yd: yd, yard, yards
    ft: ft, foot, feet
    inch: inch, inches
    ha: ha, hectare, hectares
    acre: acre, acres
    m²: m², m2, square metre, square metres, square meter, square meters, sq m
    m³: m³, m3, cubic metre, cubic metres, cubic meter, cubic meters
    km²: km², km2, square kilometre, square kilometres, square kilometer, square kilometers, sq km
    cm²: cm², cm2
    mi²: mi², square mile, square miles, sq mi
    ft²: ft², square foot, square feet, sq ft
    cm³: cm³, cm3
    L: L, l, liter, liters, litre, litres
    mL: mL, ml, milliliter, milliliters, millilitre, millilitres
    cL: cL, cl
    dL: dL, dl
    μL: μL, μl, microliter, microliters, microlitre, microlitres
    gallon: gallon, gallons
    s: s, sec, secs, second, seconds
    ms: ms, millisecond, milliseconds
    μs: μs, microsecond, microseconds
    ns: ns, nanosecond, nanoseconds
    min: min, mins, minute, minutes
    h: h, hr, hrs, hour, hours
    day: day, days
    week: week, weeks
    month: month, months
    year: year, years, yr, yrs
    V: V, volt, volts
    mV: mV, millivolt, millivolts
    kV: kV, kilovolt, kilovolts
    A: A, amp, amps, ampere, amperes
    mA: mA, milliamp, milliamps, milliampere, milliamperes
    W: W, watt, watts
    mW: mW, milliwatt, milliwatts
    kW: kW, kilowatt, kilowatts
    MW: MW, megawatt, megawatts
    GW: GW, gigawatt, gigawatts
    kWh: kWh
    MWh: MWh
    Hz: Hz, hertz
    kHz: kHz, kilohertz
    MHz: MHz, megahertz
    GHz: GHz, gigahertz
    Ω: Ω, ohm, ohms
    kΩ: kΩ
    Pa: Pa, pascal, pascals
    kPa: kPa, kilopascal, kilopascals
    MPa: MPa
    bar: bar
    psi: psi
    N: N, newton, newtons
    J: J, joule, joules
    kJ: kJ, kilojoule, kilojoules
    kcal: kcal, kilocalorie, kilocalories
    mol: mol
    mmol: mmol, millimole, millimoles
    dB: dB, decibel, decibels
    bit: bit, bits
    byte: byte, bytes
    kB: kB
    KB: KB
    KiB: KiB, kibibyte, kibibytes
    MB: MB, megabyte, megabytes
    MiB: MiB, mebibyte, mebibytes
    GB: GB, gigabyte, gigabytes
    GiB: GiB, gibibyte, gibibytes
    TB: TB, terabyte, terabytes
    TiB: TiB, tebibyte, tebibytes
    Mb: Mb
    Gb: Gb
    Mbps: Mbps
    Gbps: Gbps
    rpm: rpm
    mph: mph
    km/h: kph, kmh
    $: $, dollar, dollars
    €: €, EUR, euro, euros
    £: £, GBP
    ¥: ¥
    ₹: ₹
    USD: USD
    CHF: CHF
    JPY: JPY, yen
    %: per cent
    °C: ° C, degrees C, degrees Celsius
    °F: ° F, degrees F, degrees Fahrenheit
""")


def _is_word(form: str, unit: str) -> bool:
    """Whether a form is written out, as `acre` and `millimole` are; `mmol` is the sign of a unit whose words differ."""
    has_plural = any(other.startswith(form) for other, its in _UNIT_FORMS.items() if its == unit and other != form)
    return len(form) >= 4 and form.isalpha() and form.islower() and (form != unit or has_plural)


UNITS: Final = _UNIT_FORMS | {form.capitalize(): unit for form, unit in _UNIT_FORMS.items() if _is_word(form, unit)}
"""Units after a number, and their symbols. Case counts, but not that of whole words: `mW`, `MW`; `Litres`."""

UNITS_IN_TITLES: Final = frozenset(
    form
    for form, unit in _UNIT_FORMS.items()
    if unit in words("s min h day week month year mi ft") and _is_word(form, unit)
)
"""Units that are parts of names where they have a capital: `60 Minutes`, `8 Mile`."""

NUMBERED: Final = words("""
    annex appendix art article build ch chapter cf cl clause condition def definition driver edition eq equation
    ex example exercise fig figure firmware footnote formula guideline heading item kernel lemma lesson listing
    module no note page para paragraph part patch policy pp principle problem proposition protocol question
    recommendation reg regulation release remark requirement revision rule schedule sec section see sentence standard
    statute step subsection table task theorem title topic update v ver verse version vol volume § ¶ #
""")
"""What has a number in which zeros at the end count."""

RELEASED: Final = words("""
    backported bump bumped deprecated downgrade downgraded downgrading fixed introduced migrate migrated migrating
    patched ported removed shipped upgrade upgraded upgrading
""")
"""What is done from, to or in a version: `upgraded to 3.10 days before`."""

BEFORE_AMOUNTS: Final = words("""
    achieve achieved achieves achieving add added additional adds advanced another approx approximately around
    attain attained attaining attains averaged averages averaging bought buy buying buys charge charged charges
    charging climbed contain contained containing contains cost costing costs covered covering declined
    decreased decreasing drank drew drink drinks dropped dropping earn earned earning earns eat eats equals
    exactly exceed exceeded exceeding exceeds extra falling fell full gain gained gaining gains gave get gets
    give gives giving got grew grow growing grows heated hold holding holds includes increased increasing invest
    investing invests is jumped just keep keeping keeps last lasted lasting lasts lose loses losing lost lowered
    maximum mean means measure measured measures measuring median minimum nearly need needed needing needs next
    obtain obtained obtaining obtains paid pay paying pays plus raise raised raises raising reach reached
    reaches reaching received receiving reduced reducing required requires requiring rise rises rising rose
    roughly run running runs save saved saves saving scored scores scoring sell selling sells send sending sends
    shrank sold spanning spans spend spending spends spent take takes taking took total totaled totaling
    totalled totalling totals traveled travelled use used uses using versus vs wait waited waiting waits want
    wanted weigh weighed weighing weighs went widened winning wins won worth yield yielded yielding yields
""")
"""Words in small letters behind which a number and a unit are an amount: `costs 3.10 dollars` is `3.1 dollars`. None is
a noun of what has versions or sections."""

CURRENCY_SIGNS: Final = words("$ € £ ¥ ₹")
"""Signs that stand before their number."""

CURRENCY_CODES: Final = words("EUR GBP USD CHF JPY")
"""Codes that may stand before their number."""

PERIODS: Final = words("second minute hour day week month year")
"""What `a`, `an` and `per` may have after them to say a rate: `twice a day`, `twice per day`."""

DAILY: Final = forms("""
    hour: hourly
    day: daily
    week: weekly
    month: monthly
    year: yearly
""")
"""The same as one word, after how often or how much: `5 mg daily`."""

_MONTH_NAMES: Final = """January February March April May June July August September October November December"""
MONTHS: Final = {
    form: number
    for number, name in enumerate(_MONTH_NAMES.split(), start=1)
    for form in [name, name.upper(), name[:3], *([] if name in {"March", "May"} else [name.lower()])]
} | {"Sept": 9}
"""The months and their numbers. `march` and `may` in small letters are other words."""

WEEKDAYS: Final = words("""
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun
""")
"""The days of the week."""
