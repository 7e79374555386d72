"""Something to type: sentences of everyday words and of coined ones that sound like English."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emgcodec.simulate.chance import Stream, stream

# Our own, roughly the most usual first; they hold every letter.
_WORDS = """
the a to and of in it you we is was for on with this that my our your not but so if at by or as
from they she he her his their them us me are were be been have has had do does did can could will
would should may might must what when where which who why how there here then now soon later never
always often again still just only even very too much many more most less few some any every each
both all none yes no maybe please thanks hello make take give get put keep hold bring send find
lose see look watch hear listen feel touch think know learn teach read write type press play work
rest sleep wake walk run jump climb drive ride fly swim cook bake eat drink wash clean fix build
break open close start stop wait meet visit call ask answer tell show help thank laugh smile cry
sing dance draw paint cut join move turn push pull lift carry drop throw catch buy sell pay save
spend grow change choose try hope wish friend sister brother parent child baby woman man girl boy
teacher doctor driver farmer pilot cousin house kitchen garden window door table chair bed lamp
box key clock phone letter paper pencil keyboard screen cable signal muscle finger thumb wrist
hand arm shoulder head face eye ear mouth knee foot bread butter cheese apple lemon orange grape
juice coffee sugar soup rice salad pizza dinner lunch river lake ocean beach island forest
mountain valley field road bridge street city village station train bus bicycle engine wheel
ticket journey map weather rain snow wind storm cloud sun moon star winter spring summer autumn
morning noon evening night today tomorrow yesterday week month year hour dog cat horse zebra fox
rabbit mouse bird owl duck fish frog bee spider tree leaf flower grass seed music song guitar
violin piano drum story novel poem movie picture game puzzle prize question example reason idea
plan project problem quiz exam school class lesson number zero two six seven eight dozen half
quarter piece part side edge top corner middle red blue green yellow black white grey brown big
small long short tall wide thin thick heavy light warm cold hot cool dry wet old new young early
late quick slow quiet loud soft hard easy simple strange happy sad proud brave kind honest lazy
busy ready tired hungry fresh sweet sour bitter clear dark bright sharp smooth rough empty full
cheap rich poor safe next last first second third
"""
_SYLLABLE = (
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sh sl st t th tr v w y z",
    "a e i o u ai ay ea ee oa oo ou ow",
    "- - b ck d ft g ld ll m mp n nd ng nt p r rd rk rn s sh sk ss st t th x zz",
)
_NUMBERS, _COINED = 0.03, 0.2  # of all words: who learns the list by heart has not learnt to read
_MARKS = {".": 0.55, "!": 0.06, "?": 0.09, "": 0.3}


def sentences(seed: int, *key: int) -> Iterator[str]:
    """Endless sentences of 3 to 9 words, all of them in the keys of `emgcodec.text`."""
    rng = stream(seed, Stream.TEXT, *key)
    usual, parts = _WORDS.split(), [part.split() for part in _SYLLABLE]
    chance = 1.0 / (np.arange(len(usual)) + 30.0)  # Zipf's law, softened
    chance /= chance.sum()

    def word() -> str:
        kind = rng.uniform()
        if kind < _NUMBERS:
            return str(rng.integers(2, 2100))
        if kind < _NUMBERS + _COINED:
            syllables = parts * int(rng.integers(1, 3))
            return "".join(part[rng.integers(len(part))] for part in syllables).replace("-", "")
        return usual[rng.choice(len(usual), p=chance)]

    while True:
        words = [word() + "," * (rng.uniform() < 0.06) for _ in range(rng.integers(3, 10))]
        text = " ".join(words).rstrip(",")
        if rng.uniform() < 0.6:
            text = text[0].upper() + text[1:]
        yield text + list(_MARKS)[rng.choice(len(_MARKS), p=list(_MARKS.values()))]
