"""Patterns of texts that are no plain numbers: dates, money, percentages, decimal commas, lists, missing values."""

from dataclasses import dataclass

import numpy as np

from guards.data.distinct_values import Mask, Values, matching

__all__ = ["DATE", "FORMS", "Form", "digits", "led_by_zeros", "likeliest", "marks"]

MARKS = r"^\s*(na|n/a|n\.a\.|#n/a|#na|<na>|[+-]?nan|null|none|nil|missing|#value!|#div/0!|\\n|\?+|-+|\.+|)\s*$"
CURRENCY = r"((us|au|ca|c|a)?\$|€|£|¥|₹|₽|usd|eur|gbp|chf|jpy|inr|cny|aud|cad|sek|nok|dkk|pln|brl)"
AMOUNT = r"[0-9][0-9.,' \x{a0}\x{202f}]*"
CLOCK = r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?(\s*[ap]\.?m\.?)?(\s*(z|utc|[+-][0-9]{2}:?[0-9]{2}))?"
MONTH = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?"
    r"|dec(ember)?)\.?"
)
DAY = "|".join(
    (
        r"[0-9]{4}[-/.][0-9]{1,2}([-/.][0-9]{1,2})?",
        r"[0-9]{1,2}[-/.][0-9]{1,2}[-/.]([0-9]{4}|[0-9]{2})",
        rf"[0-9]{{1,2}}(st|nd|rd|th)?[ -]{MONTH}([ ,-]+[0-9]{{2,4}})?",
        rf"{MONTH}[ -]([0-9]{{1,2}}(st|nd|rd|th)?[ ,-]+)?[0-9]{{2,4}}",
        r"[0-9]{4}-?w[0-9]{1,2}",
        r"[0-9]{4}[ -]?q[1-4]",
    )
)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write values: ``what`` the values are, the pattern of a value, and ``advice`` for the user."""

    what: str
    pattern: str
    advice: str


MEASURES = (
    *(
        "kg",
        "g",
        "mg",
        "µg",
        "lbs?",
        "oz",
        "t",
        "km",
        "cm",
        "mm",
        "m",
        "mi",
        "miles?",
        "ft",
        "in",
        "km/h",
        "mph",
        "km/l",
    ),
    *("l", "ml", "cc", "m2", "m²", "sq\\.? ?ft", "ha", "s", "secs?", "ms", "mins?", "minutes?", "h", "hrs?", "hours?"),
    *(
        "days?",
        "weeks?",
        "months?",
        "years?",
        "yrs?",
        "kb",
        "mb",
        "gb",
        "tb",
        "hz",
        "khz",
        "mhz",
        "ghz",
        "w",
        "kw",
        "kwh",
    ),
    *("v", "bhp", "hp", "nm", "rpm", "px", "°?c", "°?f", "k", "°", "kmpl", "mmhg", "mg/dl", "bpm", "kcal", "k", "pts?"),
)
DATE = Form(
    "dates or times",
    rf"^\s*(({DAY})([t ,]+{CLOCK})?|{CLOCK})\s*$",
    "write numbers into the file, such as the days since a fixed date, since a model only knows the dates of its "
    "reference",
)
FORMS = (
    DATE,
    Form("percentages", rf"^\s*[+-]?{AMOUNT}\s*%\s*$", "write plain numbers into the file, without the sign %"),
    Form(
        "amounts of money",
        rf"^\s*[(+-]*\s*({CURRENCY}\s*[+-]?{AMOUNT}[km]?|{AMOUNT}[km]?\s*{CURRENCY})\s*\)?\s*$",
        "write plain numbers into the file, such as 1234.5",
    ),
    Form(
        "numbers with separators of thousands",
        r"^\s*[+-]?[0-9]{1,3}((,[0-9]{3})+(\.[0-9]+)?|(\.[0-9]{3}){2,}(,[0-9]+)?|(\.[0-9]{3})+,[0-9]+"
        r"|([ '\x{2019}\x{a0}\x{202f}][0-9]{3})+([.,][0-9]+)?)\s*$",
        "write the numbers into the file without separators",
    ),
    Form(
        "numbers with decimal commas",
        r"^\s*[+-]?[0-9]*,[0-9]+(e[+-]?[0-9]+)?\s*$",
        "write a point in place of the comma into the file",
    ),
    Form(
        "lists or JSON",
        r"^\s*(\[.*\]|\{.*\}|\(.*,.*\))\s*$",
        "give each element a column of its own in the file",
    ),
    Form(
        "numbers in the notation of a program",
        r"^\s*[+-]?(0x[0-9a-f]+|inf(inity)?|∞|[0-9]+(_[0-9]+)+(\.[0-9]+)?|[0-9.]+d[+-]?[0-9]+)\s*$",
        "write plain decimal numbers into the file, and an empty field for what is not finite",
    ),
)


SIGNS = Form(
    "numbers with signs beside them",
    r"^\s*([^\p{L}\p{N}\s]{1,3}\s*[0-9]+([.,][0-9]+)?\s*[^\p{L}\p{N}\s]{0,3}|[0-9]+([.,][0-9]+)?\s*[^\p{L}\p{N}\s]{1,3})"
    r"\s*$",
    "write plain numbers into the file, such as -12.5, without quotes, brackets or other signs",
)
"""Such as (12), 12- and \N{MINUS SIGN}12 for -12, ="12" of Excel, <12 and 12*."""
UNITS = Form(
    "numbers with units",
    rf"^\s*[+-]?[0-9]+([.,][0-9]+)?\s*({'|'.join(MEASURES)})\s*$",
    "write plain numbers into the file, and the unit into the column's name",
)
FEWEST = 10
"""Fewer different values, such as "36 months" and "60 months", or "<5" and ">5", are taken as categories."""


def marks(values: Values) -> Mask:
    """Tell which texts (m,) usually mean that a value is missing."""
    return matching(values.texts, MARKS)


def digits(values: Values) -> Mask:
    """Tell which texts (m,) are whole numbers, with leading zeros or not."""
    return matching(values.texts, r"^\s*[+-]?[0-9]+\s*$")


def led_by_zeros(values: Values) -> Mask:
    """Tell which texts (m,) have a zero before another digit, as codes have and numbers have not."""
    return matching(values.texts, r"^\s*[+-]?0[0-9]+\s*$")


def likeliest(values: Values, among: Mask) -> tuple[Form, Mask] | None:
    """Find the form that the texts ``among`` (m,) have in at least half of their rows, and which texts have it."""
    found = [(form, among & matching(values.texts, form.pattern)) for form in FORMS]
    if values.count(among) and int(among.sum()) >= FEWEST:
        found += [(form, among & matching(values.texts, form.pattern)) for form in (UNITS, SIGNS)]
    form, which = max(found, key=lambda pair: values.count(pair[1]))
    return (form, which) if np.any(which) and 2 * values.count(which) >= values.count(among) else None
