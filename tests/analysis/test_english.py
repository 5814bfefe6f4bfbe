import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis import parts_of_speech
from gatescope.analysis.english import PARTS_OF_SPEECH
from gatescope.analysis.english_scan import SENTENCE_END
from gatescope.analysis.hypotheses import library, select
from gatescope.analysis.parts_of_speech import tag_characters

NEED_THE_TAGGER = {*PARTS_OF_SPEECH, "after"}
PLAY = 'First Citizen:\nSpeak, ROME; DON\'T say: "I AM" to Caius.\n\nALL:\nResolved I'


@pytest.fixture
def tagger(data, monkeypatch):
    monkeypatch.setenv("NLTK_DATA", str(data / "nltk_data"))
    parts_of_speech._tagger.cache_clear()


def label(name, text):
    (chosen,) = select([name], "english")
    return chosen.label(text)


def positive(name, text):
    values, defined = label(name, text)
    runs = "".join(character if value else "\x00" for character, value in zip(text, values & defined, strict=True))
    return [run for run in runs.split("\x00") if run]


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "capitals": ["OME", "ON'T", "M", "LL"],
        "capitals_word": ["ROME", "DON'T", "AM", "ALL"],
        "title_case": ["irst", "itizen", "peak", "aius", "esolved"],
        "speaker_line": ["First Citizen:", "ALL:"],
        "sentence_start": ["First", "Speak", "ALL", "Resolved"],
        "inside_quotation": ['"I AM'],
        "inside_quotation+close": ['"I AM"'],
        "word_ends": list("tnkETyIMosLd"),
        "inside_word": [
            *("First", "Citizen", "Speak", "ROME", "DON'T", "say", "I", "AM", "to", "Caius", "ALL", "Resolved", "I")
        ],
    }.items(),
)
def test_boolean_hypotheses_hold_where_expected(name, expected):
    assert positive(name, PLAY) == expected


def test_word_position_counts_within_a_word():
    assert label("word_position", "a bcd")[0].tolist() == [1, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "holds"),
    {
        "Second Servingman:\n": True,
        "KING RICHARD III:\n": True,
        "Duke of York: \n": True,
        "  Nurse:\n": True,
        "He said to me thus:\n": False,
        "CORIOLANUS: Hail\n": False,
        "duke:\n": False,
        "A:B\n": False,
    }.items(),
)
def test_speaker_line_holds_up_to_the_colon(text, holds):
    values, _ = label("speaker_line", text)
    assert values.any() == holds
    assert not values[text.rindex(":") + 1 :].any()


@pytest.mark.parametrize(
    ("name", "text", "undefined"),
    [
        ("capitals_word", "ab CD", "CD"),
        ("capitals_word", "ab CD ", ""),
        ("word_ends", "ab, c'd", ", d"),
        ("word_ends", "ab.", "."),
        ("speaker_line", "A:\nB:", "B:"),
        ("speaker_line", "A:\n", ""),
    ],
)
def test_unfinished_words_and_sentences_are_undefined(name, text, undefined):
    _, defined = label(name, text)
    assert "".join(character for character, known in zip(text, defined, strict=True) if not known) == undefined


def test_parts_of_speech_hold_on_their_words(tagger):
    text = "The dogs will chase two cats. I ran"
    assert positive("nouns", text) == ["dogs", "cats"]
    assert positive("verbs", text) == ["will", "chase"]
    assert positive("determiners", text) == ["The"]
    assert positive("pronouns", text) == ["I"]


def test_parts_of_speech_at_one_character_of_each_word(tagger):
    text = "The dogs ran. "
    for suffix, known in (("", "Thedogsran."), ("_first", "Tdr."), ("_last", "esn.")):
        _, defined = label(f"nouns{suffix}", text)
        assert "".join(character for character, here in zip(text, defined, strict=True) if here) == known
        assert positive(f"nouns{suffix}", text) == [{"": "dogs", "_first": "d", "_last": "s"}[suffix]]


def test_the_number_of_the_last_noun(tagger):
    text = "The dogs near the old tree saw it. She sees two cats. He"
    _, defined = label("after_plural", text)
    assert positive("after_plural", text) == ["s near the old tre", "s. "]
    # The blank after a sentence is its last character.
    undefined = "".join(character for character, known in zip(text, defined, strict=True) if not known)
    assert undefined == "The dogShe sees two catHe"


def test_the_number_of_the_last_noun_in_real_text(tagger, data):
    text = (data / "tinyshakespeare.txt").read_text(encoding="utf-8")[:20_000]
    token, tag, names = tag_characters(text)
    borders = {match.end() for match in SENTENCE_END.finditer(text)}
    number, expected = None, []
    for place in range(len(text)):
        if place in borders:
            number = None
        ends = token[place] >= 0 and (place + 1 == len(text) or token[place + 1] != token[place])
        if ends and names[tag[place]] in ("NN", "NNP", "NNS", "NNPS"):
            number = names[tag[place]].endswith("S")
        expected.append(number)
    values, defined = label("after_plural", text)
    assert [bool(value) if known else None for value, known in zip(values, defined, strict=True)] == expected
    assert 0.1 < values[defined].mean() < 0.5 and defined.mean() > 0.5


def test_every_part_of_speech_has_three_forms():
    names = {each.name for each in library() if each.language == "english" and each.sees == "future"}
    assert {part + suffix for part in PARTS_OF_SPEECH for suffix in ("", "_first", "_last")} <= names


@settings(max_examples=40, deadline=None)
@given(text=st.text("aBc .!?\"'“”:\n", max_size=60) | st.text(max_size=20), cut=st.integers(0, 60))
def test_every_hypothesis_labels_any_text_causally(text, cut):
    for each in library():
        # Parts of speech are tested elsewhere, because they need the tagger's data.
        if each.language != "english" or each.name.partition("_")[0] in NEED_THE_TAGGER:
            continue
        values, defined = each.label(text)
        assert len(values) == len(defined) == len(text)
        if each.sees == "past":
            early, _ = each.label(text[:cut])
            np.testing.assert_array_equal(early, values[:cut])
        later, later_defined = each.label(text[cut:], prime=text[:cut])
        np.testing.assert_array_equal(later, values[cut:])
        np.testing.assert_array_equal(later_defined, defined[cut:])
