"""Something to type: sentences of everyday words and of coined ones that sound like English."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emgcodec.simulate.chance import Stream, stream

# Ours, the most usual first; they hold every letter.
_WORDS = """
the of and to in is it you that he was for on are with as they be at one have this from or had by
but some what there we can out other were all your when up use how said an each she which do their
time if will way about many then them would like so these her long make thing see him two has look
more day could go come did my no most who over know than call first people may down side been now
find any new work part take get place made live where after back little only round man year came
show every good me give our under name very just form great think say help low line before turn
cause same mean right old too tell set three want air well also play small end put home read hand
large spell add even land here must big high such why ask men change went light kind off need
house try us again point mother world near build self earth father head stand own page country
answer school grow study still learn plant cover food sun four state keep never last let thought
city tree cross farm hard start story saw far sea draw left late run while press close night real
life few open seem together next white begin walk example ease paper group always music both mark
book letter until mile river car feet care second enough plain girl usual young ready above ever
red list though feel talk bird soon body dog family direct pose leave song measure door product
black short class wind question happen complete ship area half rock order fire south problem piece
told knew pass since top whole king space heard best hour better quick lazy fox jumps dozen zero
jacket expect quiet voice judge maybe six extra box puzzle major joke
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
    chance = 1.0 / (np.arange(len(usual)) + 15.0)  # Zipf's law, softened
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
