"""Languages by any usual code or name, and the scripts that put no blanks between words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

# The languages that a metric treats in its own way, by their ISO 639-1 code: every other code and name in use
# (ISO 639-3 and 639-2, English names, members of a macrolanguage that share its script).
OTHER_NAMES = {
    "en": "eng english",
    "zh": "zho chi cmn yue wuu nan hak gan lzh cdo cjy cpx czh czo hsn mnp cn chinese mandarin cantonese",
    "ja": "jpn jp japanese",
    "ko": "kor korean",
    "th": "tha thai",
    "lo": "lao laotian",
    "km": "khm khmer",
    "my": "mya bur burmese myanmar shn",
    "bo": "bod tib tibetan dz dzo dzongkha",
}
# By its script (ISO 15924), a language whose own code is none of these is treated as theirs.
SCRIPTS = dict.fromkeys(("hans", "hant", "hani"), "zh") | {"jpan": "ja", "hira": "ja", "kana": "ja"}
SCRIPTS |= {"thai": "th", "laoo": "lo", "khmr": "km", "mymr": "my", "tibt": "bo"}
CODES = {name: code for code, names in OTHER_NAMES.items() for name in (code, *names.split())}
# The codes of a language in ISO 639-1 and in NLLB (ISO 639-3), others that are in use, and its name: one may
# be meant by another.
LANGUAGES = """
af afr Afrikaans, am amh Amharic, ar arb ara Arabic, az azj aze Azerbaijani, be bel Belarusian, bg bul
Bulgarian, bn ben Bengali, bs bos Bosnian, ca cat Catalan, cs ces cze Czech, cy cym wel Welsh, da dan Danish,
de deu ger German, el ell gre Greek, en eng English, eo epo Esperanto, es spa Spanish, et est ekk Estonian,
eu eus baq Basque, fa pes fas per Persian, fi fin Finnish, fr fra fre French, ga gle Irish, gl glg Galician,
gu guj Gujarati, ha hau Hausa, he heb iw Hebrew, hi hin Hindi, hr hrv Croatian, hu hun Hungarian, hy hye arm
Armenian, id ind in Indonesian, ig ibo Igbo, is isl ice Icelandic, it ita Italian, ja jpn Japanese, jv jav
Javanese, ka kat geo Georgian, kk kaz Kazakh, km khm Khmer, kn kan Kannada, ko kor Korean, ky kir Kyrgyz, lo
lao Lao, lt lit Lithuanian, lv lvs lav Latvian, mg plt mlg Malagasy, mk mkd mac Macedonian, ml mal Malayalam,
mn khk mon Mongolian, mr mar Marathi, ms zsm msa may Malay, mt mlt Maltese, my mya Burmese, ne npi nep
Nepali, nl nld dut Dutch, no nob Norwegian, pa pan Punjabi, pl pol Polish, ps pbt pus Pashto, pt por
Portuguese, ro ron rum Romanian, ru rus Russian, sd snd Sindhi, si sin Sinhala, sk slk slo Slovak, sl slv
Slovenian, so som Somali, sq als sqi alb Albanian, sr srp Serbian, su sun Sundanese, sv swe Swedish, sw swh
swa Swahili, ta tam Tamil, te tel Telugu, th tha Thai, tl tgl Tagalog, tr tur Turkish, uk ukr Ukrainian, ur
urd Urdu, uz uzn uzb Uzbek, vi vie Vietnamese, xh xho Xhosa, yo yor Yoruba, zh zho chi Chinese, zu zul Zulu
"""
# The other codes of ISO 639-1. Those of ISO 639-3 are thousands: any three letters are taken for one.
OTHER_CODES = """
aa ab ae ak an as av ay ba bh bi bm bo br ce ch co cr cu cv dv dz ee ff fj fo fy gd gn gv ho ht hz ia ie ii ik
io iu kg ki kj kl kr ks ku kv kw la lb lg li ln lu mh mi na nb nd ng nn nr nv ny oc oj om or os pi qu rm rn rw
sa sc se sg sh sm sn ss st tg ti tk tn to ts tt tw ty ug ve vo wa wo za
"""
NAMES = [frozenset(entry.lower().split()) for entry in LANGUAGES.split(",")]
KNOWN = frozenset[str]().union(CODES, OTHER_CODES.split(), *NAMES)
ROMANIZED = {"latn", "latin", "pinyin", "romaji", "romanized"}
# Characters of scripts without blanks: Thai, Lao, Burmese, Khmer, Tai, Javanese, kana, Chinese characters
UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1980-\u19df\u1a20-\u1aaf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua980-\ua9df\ua9e0-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af])"
)
TIBETAN = re.compile("[\u0f00-\u0fff]")  # has signs between syllables, and blanks between clauses alone
NOTED_SHARE = 0.1  # of the references, above which a metric that cannot split them says so


def code_of(language: str) -> str:
    """Return the ISO 639-1 code of a language that metrics treat in their own way; else "".

    Codes may have a region or a script (zh-CN, zho_Hans, en_US). A romanized language has blanks: it is
    treated as any other.
    """
    first, *rest = re.split(r"[^a-z]+", language.strip().lower())
    code = CODES.get(first) or next((SCRIPTS[part] for part in rest if part in SCRIPTS), "")
    return "" if code != "en" and ROMANIZED & set(rest) else code


def unknown(language: str) -> str | None:
    """Return why a language is none that has a code, as a clause; None if it is one, or is not stated."""
    stated = language.strip().lower()
    first = re.split(r"[^a-z]+", stated)[0]
    if not stated or first in KNOWN or (len(first) == 3 and first.isascii()):
        return None
    near = difflib.get_close_matches(first, KNOWN, 1)
    hint = f"did you mean {near[0]}?" if near else "codes are such as de, deu, zho_Hans"
    return f"{language!r} is no language that is known ({hint})"


def is_unspaced(text: str) -> bool:
    """Whether most letters of a text belong to a script without blanks."""
    letters = sum(map(str.isalpha, text))
    return 2 * (len(UNSPACED.findall(text)) + len(TIBETAN.findall(text))) > max(1, letters)


def note_on(texts: Sequence[Sequence[str]], lost: Mapping[str, bool], what: str) -> str | None:
    """Return `what` with the number of references that are lost; None where they are few.

    Args:
        texts: the references of each example.
        lost: for each distinct reference, whether the metric cannot split it.
        what: a clause with a place for "3 of 4 references".
    """
    count = sum(any(lost[text] for text in group) for group in texts)
    if count <= NOTED_SHARE * len(texts):
        return None
    return what.format(f"{count:,} of {len(texts):,} references")
