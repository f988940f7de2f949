"""Letters that look alike: one spelling for texts that a reader cannot tell apart; scripts; class names in a text.

The tables are a small part of Unicode Technical Standard 39, "Unicode Security Mechanisms": the letters that pass for Latin.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

_TABLE = """
а a в b с c ԁ d е e һ h і i ј j к k м m н h о o р p ѕ s т t у y х x ԛ q ԝ w ѵ v г r п n ӏ l
А a В b С c Ԁ d Е e Һ h І i Ј j К k М m Н h О o Р p Ѕ s Т t У y Х x Ԛ q Ԝ w Ѵ v Ӏ l
α a β b ε e η n ι i κ k ν v ο o ρ p τ t υ u χ x γ y ω w σ o
Α a Β b Ε e Ζ z Η h Ι i Κ k Μ m Ν n Ο o Ρ p Τ t Υ y Χ x
օ o ս u հ h ո n ց g զ q յ j լ l ա w ք p
Ꭰ d Ꭱ r Ꭲ t Ꭺ a Ꭻ j Ꭼ e Ꮃ w Ꮇ m Ꮋ h Ꮐ g Ꮓ z Ꮪ s Ꮩ v Ꮮ l Ꮯ c Ꮲ p Ꮶ k Ᏼ b
ꓐ b ꓑ p ꓓ d ꓔ t ꓖ g ꓗ k ꓙ j ꓚ c ꓜ z ꓝ f ꓟ m ꓠ n ꓡ l ꓢ s ꓣ r ꓦ v ꓧ h ꓪ w ꓫ x ꓬ y ꓮ a ꓰ e ꓲ i ꓳ o ꓴ u
ᴀ a ʙ b ᴄ c ᴅ d ᴇ e ꜰ f ɢ g ʜ h ɪ i ᴊ j ᴋ k ʟ l ᴍ m ɴ n ᴏ o ᴘ p ʀ r ꜱ s ᴛ t ᴜ u ᴠ v ᴡ w ʏ y ᴢ z
ɑ a ɡ g ı i ȷ j ɩ i ʋ u ø o ł l đ d ħ h ŧ t
"""
_ALIKE = [str(letter) for letter in _TABLE.split()]
LATIN: dict[str, str] = dict(zip(_ALIKE[::2], _ALIKE[1::2], strict=True))
"""A letter -> the Latin letter that it passes for."""
_SAME = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l"})
_UNITS = {"μm", "μg", "μl", "μs", "μmol"}
_EAST = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"}


def plain(text: str) -> str:
    """The text as Latin letters as far as its letters pass for them: without accents, in lower case."""
    apart = unicodedata.normalize("NFKD", text)
    bare = "".join(LATIN.get(ch, ch) for ch in apart if unicodedata.category(ch) != "Mn")
    return "".join(LATIN.get(ch, ch) for ch in bare.casefold())


def skeleton(text: str) -> str:
    """``plain``, with 0 as o, and 1 and i as l: two texts with one skeleton look alike."""
    return plain(text).translate(_SAME)


def words(text: str) -> list[str]:
    """Runs of letters and digits."""
    return re.findall(r"[^\W_]+", text)


def scripts(text: str) -> list[str]:
    """The scripts of the letters of a text, by Unicode's names, in order of appearance: ['LATIN', 'CYRILLIC'].

    Chinese, Japanese and Korean letters, which stand side by side in one word, count as 'CJK'.
    """
    found: dict[str, None] = {}
    for ch in text:
        if ch.isalpha():
            name = unicodedata.name(ch, "UNNAMED").split()[0]
            found["CJK" if name in _EAST else "GREEK" if name == "MICRO" else name] = None
    return list(found)


def mixed(text: str) -> str | None:
    """The first word whose letters are of more than one script; None where there is none. Units such as μm may mix."""
    for word in words(text):
        if len(set(scripts(word)) - {"CJK"}) > 1 and unicodedata.normalize("NFKC", word) not in _UNITS:
            return word
    return None


def _plurals(word: str) -> set[str]:
    """A word with its simple plurals and singulars: box, boxes; fly, flies; wolf, wolves; cats, cat."""
    found = {word, word + "s", word + "es"}
    if len(word) > 2:
        found |= {word[:-1] + "ies"} if word.endswith("y") else set()
        found |= {word[:-1] + "ves"} if word.endswith("f") else {word[:-2] + "ves"} if word.endswith("fe") else set()
        found |= {word[:-1]} if word.endswith("s") and not word.endswith("ss") else set()
        found |= {word[:-2]} if word.endswith(("ses", "xes", "zes", "ches", "shes")) else set()
        found |= {word[:-3] + "y"} if word.endswith("ies") else set()
    return found


@lru_cache(maxsize=64)
def _forms(classes: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Skeletons of the class names, words run together, to the names; and names of one letter or digit as they are."""
    found: dict[str, str] = {}
    single: dict[str, str] = {}
    for name in classes:
        parts = words(unicodedata.normalize("NFKC", name))
        numbered = len(parts) > 1 and parts[0].isdigit()  # 001.Black_footed_Albatross
        for each in [parts, parts[1:]] if numbered else [parts]:
            joined = "".join(each)
            if len(joined) == 1:
                single[joined] = name
            elif joined:
                found |= {skeleton(form): name for form in _plurals(plain(joined))}
    return found, single


def named(text: str, classes: Sequence[str]) -> str | None:
    """The class whose name stands in ``text`` as whole words, or None.

    Case, accents, look-alike letters, hyphens and spaces make no difference, nor does a simple plural; a number in front of
    a class name may be left out. A name of one letter or digit is found as it is written only.
    """
    whole, single = _forms(tuple(classes))
    normal = unicodedata.normalize("NFKC", text)
    for word in words(normal):
        if word in single:
            return single[word]
    parts = words(skeleton(normal))
    for start in range(len(parts)):
        joined = ""
        for part in parts[start:]:
            joined += part
            if joined in whole:
                return whole[joined]
    return None


def consecutive(text: str, category: str) -> int:
    """The longest run of characters of a Unicode category."""
    runs = groupby(text, key=lambda ch: unicodedata.category(ch) == category)
    return max((len(list(run)) for of_it, run in runs if of_it), default=0)
