import random

import pytest

from gatescope.analysis.language import detect_language
from gatescope.engine.corpus import read_pieces

FRENCH = (
    "Longtemps, je me suis couché de bonne heure. Parfois, à peine ma bougie éteinte, mes yeux se fermaient si vite "
    "que je n'avais pas le temps de me dire : « Je m'endors. »"
)
GERMAN = (
    "Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem Bett zu einem ungeheueren "
    "Ungeziefer verwandelt."
)
# With many words that are also English words.
FRENCH_ALIKE = "On a dit que tu as raison, il y a un homme à la porte, on y va, il a tout vu, on a tort, a-t-on dit. "
SPANISH_ALIKE = (
    "Fue a la casa, y a todos les dijo que iba a la plaza a ver a su hermano, que no ha de volver a su lugar a pie. "
)
ITALIAN_ALIKE = "I figli a casa, I re a cavallo; I versi a memoria, a poco a poco, a mano a mano, con I libri a terra. "
LATIN = (
    "Gallia est omnia divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani, tertiam qui ipsorum lingua"
)
C = "static int f(struct a *b)\n{\n\tif (!b->c)\n\t\treturn -EINVAL;\n\treturn 0;\n}\n"
PYTHON = "def f(self, a):\n    if a is None:\n        return []\n    return [b for b in a]\n"
ENGLISH = "Then came the king with all his men, and spoke of what they had seen upon the road to the north.\n"
SAMPLE = 100_000


def misspelt(text, share, seed):
    generator = random.Random(seed)
    return "".join(generator.choice(text) if generator.random() < share else character for character in text)


@pytest.fixture(scope="module")
def corpora(data):
    return {
        "linux": ("c", (data / "linux.txt").read_text(encoding="utf-8")),
        "stdlib": ("python", "".join(read_pieces("stdlib"))[:4_000_000]),
        "shakespeare": ("english", (data / "shakespeare.txt").read_text(encoding="utf-8")),
        "tinyshakespeare": ("english", (data / "tinyshakespeare.txt").read_text(encoding="utf-8")),
    }


@pytest.mark.parametrize("name", ["linux", "stdlib", "shakespeare", "tinyshakespeare"])
def test_corpora_and_misspelt_samples_are_recognised(corpora, name):
    language, text = corpora[name]
    assert detect_language(text) == language
    starts = range(0, len(text) - SAMPLE, len(text) // 10)
    for seed, start in enumerate(starts):
        sample = text[start : start + SAMPLE]
        assert detect_language(sample) == language
        assert detect_language(misspelt(sample, share=0.05, seed=seed)) == language


@pytest.mark.parametrize(("text", "language"), [(C, "c"), (PYTHON, "python"), (ENGLISH, "english")])
def test_short_texts_are_recognised(text, language):
    assert detect_language(text) == language
    assert detect_language(text * 1000) == language


def test_programs_with_much_prose_are_recognised():
    prose = ENGLISH * 4
    assert detect_language(f"/*\n * {prose} */\n{C}") == "c"
    assert detect_language(f'"""{prose}"""\n{PYTHON}') == "python"
    assert detect_language(prose + "So he said; and they went.\n") == "english"


@pytest.mark.parametrize(
    "text",
    {
        "empty": "",
        "one character": "a",
        "French": FRENCH,
        "French like English": FRENCH_ALIKE,
        "Spanish like English": SPANISH_ALIKE,
        "Italian like English": ITALIAN_ALIKE,
        "German": GERMAN,
        "Latin": LATIN,
        "Chinese": "北冥有魚，其名為鯤。鯤之大，不知其幾千里也。" * 9,
        "digits": "3.14159 2.71828\n" * 50,
        "CSV": "id,name,value\n1,item,3\n" * 50,
        "JSON": '{"name": "x", "values": [1, 2, 3], "flag": true, "child": {"a": null}},\n' * 30,
        "HTML": '<div class="row"><p>12 &amp; 13</p><a href="/x">y</a></div>\n' * 30,
        "letters": "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz ", k=3000)),
        "ASCII": "".join(map(chr, random.Random(1).choices([10, *range(32, 127)], k=3000))),
        "music": "X:1\nT:The Legacy Jig\nM:6/8\nK:G\nGFG BAB | gfg gab | GFG BAB | d2A AFD |\n" * 5,
    }.values(),
)
def test_other_texts_have_no_language(text):
    assert detect_language(text) == "any"
