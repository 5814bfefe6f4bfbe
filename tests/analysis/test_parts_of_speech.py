import json

import nltk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis import parts_of_speech
from gatescope.analysis.hypotheses import select
from gatescope.analysis.parts_of_speech import tag_characters
from gatescope.engine.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def tagger(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLTK_DATA", str(data / "nltk_data"))
        parts_of_speech._tagger.cache_clear()
        yield
    parts_of_speech._tagger.cache_clear()


def tokens(text):
    """Each token with its tag, reassembled from the characters."""
    token, tag, names = tag_characters(text)
    found = []
    for number in range(token.max(initial=-1) + 1):
        here = np.flatnonzero(token == number)
        assert here.tolist() == list(range(here[0], here[-1] + 1))
        (name,) = {names[tag[place]] for place in here}
        found.append((text[here[0] : here[-1] + 1], name))
    return found


def test_tags_equal_nltk():
    sentence = "The old dog can't have eaten 3.88 dollars' worth of muffins."
    words = nltk.tokenize.TreebankWordTokenizer().tokenize(sentence)
    assert tokens(sentence) == nltk.tag.perceptron.PerceptronTagger().tag(words)


@pytest.mark.parametrize(
    ("sentence", "quotes"),
    [('"Will you come?" he said.', '""'), ('He said,\n"Yes."', '""'), ("“Will you come?” he said.", "“”")],
    ids=["straight", "begins a line", "curly"],
)
def test_double_quotes_are_tagged_in_treebank_style(sentence, quotes):
    assert [pair for pair in tokens(sentence) if pair[0] in quotes] == list(zip(quotes, ("``", "''"), strict=True))


@pytest.mark.parametrize(
    ("typeset", "typed"),
    [
        ("He’ll say it isn’t John’s dog. ", "He'll say it isn't John's dog. "),
        ("‘Will you come?’ he said. ", "\"Will you come?' he said. "),
        ("It was—well—late… then. ", "It was;well;late; then. "),
        ("From 1914–18 – or so. ", "From 1914;18 ; or so. "),
    ],
    ids=["apostrophes", "single quotes", "dashes and ellipsis", "short dashes"],
)
def test_typographic_marks_are_tagged_like_ascii(typeset, typed):
    tags = [tag for _, tag in tokens(typeset)]
    assert tags == [tag for _, tag in tokens(typed)]
    assert {tag for word, tag in tokens(typeset) if word in "–—…"} <= {":"}
    assert not {tag for word, tag in tokens(typeset) if word in "‘’"} - {"``", "''"}


def test_the_word_in_a_quote_is_tagged_as_elsewhere():
    assert ("Will", "MD") in tokens('"Will you come?" he said.')


def test_quotes_around_real_speeches_are_never_nouns_or_verbs(data):
    parts = (data / "tinyshakespeare.txt").read_text()[:20_000].split("\n\n")
    speeches = [part.partition(":\n")[2] for part in parts[:-1]]
    text = "\n\n".join(f'"{speech}"' for speech in speeches)
    _, tag, names = tag_characters(text)
    quotes = [names[tag[place]] for place in range(len(text)) if text[place] == '"']
    assert quotes == ["``", "''"] * len(speeches)


@settings(max_examples=200, deadline=None)
@given(st.text("abcnot \"'`.?!\n()[]{}<>:,$-;\x85é漢", max_size=30) | st.text(max_size=20))
def test_token_spans_equal_nltk(sentence):
    words, spans = parts_of_speech._tokens(sentence)
    assert words == nltk.tokenize.TreebankWordTokenizer().tokenize(sentence)
    assert spans == list(nltk.tokenize.TreebankWordTokenizer().span_tokenize(sentence))


def test_tokens_missing_from_the_text_are_replaced_by_its_words(monkeypatch):
    """Words and marks of the text take their place, and quotes are still quotes."""
    monkeypatch.setattr(nltk.tokenize.TreebankWordTokenizer, "tokenize", lambda self, text: ["``", "``", "``"])
    found = tokens('"The dog" ran')
    assert [word for word, _ in found] == ['"', "The", "dog", '"']
    assert [tag for word, tag in found if word == '"'] == ["''"] * 2


def test_sentences_are_tagged_one_by_one():
    assert tokens("I saw. The saw!\n\nRun: ") == [*tokens("I saw. "), *tokens("The saw!\n\n"), *tokens("Run: ")]


def test_a_repeated_word_is_found_at_its_own_position():
    assert [word for word, _ in tokens('the "the" the the ')] == ["the", '"', "the", '"', "the", "the"]


def test_blanks_and_a_word_at_the_end_are_undefined():
    token, tag, _ = tag_characters("a dog ran")
    assert token.tolist() == [0, -1, 1, 1, 1, -1, -1, -1, -1]
    assert ((token < 0) == (tag < 0)).all()
    assert tag_characters("a dog.")[0].tolist() == [0, -1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    "text", ["", " ", "\n\n", '"', "''``\"", "`` '' \" ''", "cannot gonna 'tis d'ye", "(a)--b...c"]
)
def test_odd_texts_are_tagged_without_error(text):
    token, tag, _ = tag_characters(text)
    assert len(token) == len(tag) == len(text)
    blank = np.array([character.isspace() for character in text], bool)
    assert (token[blank] == -1).all()


@settings(max_examples=100, deadline=None)
@given(text=st.text("ab \"'`“.?!\n()-,", max_size=40) | st.text(max_size=20))
def test_every_nonblank_character_of_any_text_has_a_token(text):
    token, tag, _ = tag_characters(text)
    assert len(token) == len(tag) == len(text)
    # Every character except blanks has a token, and the last token may be unfinished.
    lacking = [place for place in range(len(text)) if token[place] < 0 and not text[place].isspace()]
    assert lacking == list(range(len(text) - len(lacking), len(text)))
    assert not lacking or text[-1].isalnum()


@pytest.mark.parametrize("damaged", [False, True], ids=["absent", "damaged"])
def test_missing_tagger_data_is_reported(tmp_path, monkeypatch, damaged):
    if damaged:
        folder = tmp_path / "taggers" / parts_of_speech.DATA
        folder.mkdir(parents=True)
        for part in ("weights", "tagdict", "classes"):
            (folder / f"{parts_of_speech.DATA}.{part}.json").write_text(json.dumps({})[:1])
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    parts_of_speech._tagger.cache_clear()
    (verbs,) = select(["verbs"], "english")
    with pytest.raises(InputError, match=r"python -m nltk\.downloader averaged_perceptron_tagger_eng") as caught:
        verbs.label("a dog")
    assert "NLTK_DATA" in str(caught.value)
    assert "\n" not in str(caught.value)
