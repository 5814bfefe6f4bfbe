"""Texts, their vocabularies and their ids."""

import hashlib

import numpy as np
import pytest

from gatescope.engine import corpus as corpus_module
from gatescope.engine.corpus import encode_corpus, read_pieces, stdlib_files, survey_corpus
from gatescope.engine.errors import InputError
from gatescope.engine.vocabulary import UNKNOWN


def encoded(tmp_path, content, errors="strict"):
    path = tmp_path / "text.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return encode_corpus(survey_corpus(str(path), errors), tmp_path / "tokens.npy")


def test_ids_and_vocabulary_round_trip(tmp_path):
    text = 'naïve — "quoted"\n\ttab 😀\r\n'
    corpus = encoded(tmp_path, text)
    assert corpus.vocabulary.characters == tuple(sorted(set(text)))
    assert corpus.vocabulary.decode(corpus.tokens) == text
    assert corpus.vocabulary.encode(text).tolist() == corpus.tokens.tolist()
    assert corpus.tokens.dtype == np.uint8
    assert isinstance(corpus.tokens, np.memmap)
    survey = survey_corpus(str(tmp_path / "text.txt"))
    assert survey.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert survey.n_characters == len(text) and survey.head == text
    assert corpus.rare == 0


def test_more_than_256_characters_take_two_bytes(tmp_path):
    corpus = encoded(tmp_path, "".join(map(chr, range(0x4E00, 0x4E00 + 300))))
    assert len(corpus.vocabulary) == 300
    assert corpus.tokens.dtype == np.uint16


def test_rare_characters_share_one_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "RARE", 100)
    # 300 characters: three occurrences are needed to be kept.
    corpus = encoded(tmp_path, "a" * 290 + "bbb" + "cc" + "d" * 4 + "é")
    assert corpus.vocabulary.characters == ("a", "b", "d", UNKNOWN)
    assert corpus.rare == 2
    assert corpus.vocabulary.decode(corpus.tokens[-8:]) == "b" + UNKNOWN * 2 + "dddd" + UNKNOWN
    # No character is rarer than one in a hundred here, so there is no entry for unknown ones.
    assert UNKNOWN not in encoded(tmp_path, "ab" * 99).vocabulary.characters


def test_pieces_cut_inside_a_character_are_joined(tmp_path, monkeypatch):
    text = "aé😀—" * 50
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(corpus_module, "PIECE_BYTES", size)
        assert "".join(read_pieces(str(path))) == text


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("content", "offset"), [(b"ab\xffcd", 2), (b"\xc3", 0), (b"abcdef\xe2\x82", 6), (b"\xe2\x82a", 0)]
)
def test_bytes_that_are_not_utf8_are_named_by_offset(tmp_path, monkeypatch, content, offset, size):
    monkeypatch.setattr(corpus_module, "PIECE_BYTES", size)
    with pytest.raises(InputError, match=rf"offset {offset} cannot be decoded.*--errors replace"):
        encoded(tmp_path, content)
    replaced = encoded(tmp_path, content + b" more text", errors="replace")
    assert replaced.vocabulary.decode(replaced.tokens) == (content + b" more text").decode(errors="replace")


def test_characters_that_editors_hide_are_counted(tmp_path):
    (tmp_path / "plain").write_text("a\n" * 3)
    assert survey_corpus(tmp_path / "plain").warning is None
    (tmp_path / "hidden").write_bytes(b"\xef\xbb\xbf" + b"a\r\n" * 3)
    assert survey_corpus(tmp_path / "hidden").warning == (
        f"{tmp_path}/hidden has 3 carriage returns and 1 byte order marks, which the model learns as characters"
    )


@pytest.mark.parametrize(("content", "count"), [("", "no character"), ("x", "1 character")])
def test_empty_and_one_character_texts_are_refused(tmp_path, content, count):
    with pytest.raises(InputError, match=f"has {count}: at least 2"):
        encoded(tmp_path, content)


def test_unknown_error_handlers_are_refused(tmp_path):
    (tmp_path / "text").write_bytes(b"ab\xff")
    with pytest.raises(InputError, match="errors 'ignore' is unknown: expected 'strict' or 'replace'"):
        survey_corpus(tmp_path / "text", "ignore")


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="not found"):
        survey_corpus(str(tmp_path / "absent.txt"))
    (tmp_path / "two words").mkdir()
    with pytest.raises(InputError, match=r"is a folder.*gatescope corpus '.*/two words' --glob"):
        survey_corpus(str(tmp_path / "two words"))


def test_split_is_contiguous(tmp_path):
    corpus = encoded(tmp_path, "".join(chr(32 + i % 64) for i in range(1000)))
    training, validation = corpus.split(0.05)
    assert len(validation) == 50
    assert np.concatenate([training, validation]).tolist() == corpus.tokens.tolist()


def test_standard_library_is_the_same_every_time_and_large(tmp_path):
    names = [path.name for path in stdlib_files()]
    assert "argparse.py" in names and "test_argparse.py" not in names
    assert not any("site-packages" in str(path) or "/test/" in str(path) for path in stdlib_files())
    survey, repeated = survey_corpus("stdlib"), survey_corpus("stdlib")
    first, _ = encode_corpus(survey, tmp_path / "a.npy"), encode_corpus(repeated, tmp_path / "b.npy")
    assert 5e6 < len(first.tokens) < 30e6
    assert survey.sha256 == repeated.sha256
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert first.vocabulary.decode(first.tokens[:1000]) == "".join(read_pieces("stdlib"))[:1000]


@pytest.mark.parametrize("change", ["shorter", "longer", "other", "other characters"])
def test_a_text_that_changed_since_the_survey_is_refused(tmp_path, change):
    path = tmp_path / "text.txt"
    path.write_text("abcab" * 100)
    survey = survey_corpus(str(path))
    texts = {"shorter": "abcab" * 99, "longer": "abcab" * 101, "other": "bacab" * 100, "other characters": "xyz" * 200}
    path.write_text(texts[change])
    with pytest.raises(InputError, match=r"text\.txt' changed while it was being read"):
        encode_corpus(survey, tmp_path / "tokens.npy")
    assert [each.name for each in tmp_path.iterdir()] == ["text.txt"]


def test_the_id_file_grows_as_ids_are_written(tmp_path, monkeypatch):
    """A mapped file of full size from the start would kill the program on a full disk, so the file must grow."""
    path, sizes = tmp_path / "text.txt", []
    path.write_text("abcab" * 200_000)
    survey = survey_corpus(str(path))
    monkeypatch.setattr(corpus_module, "PIECE_BYTES", 100_000)

    def watched(*given):
        for piece in read_pieces(*given):
            sizes.append(sum(file.stat().st_size for file in tmp_path.glob("tokens.npy.*.partial")))
            yield piece

    monkeypatch.setattr(corpus_module, "read_pieces", watched)
    corpus = encode_corpus(survey, tmp_path / "tokens.npy")
    assert all(size <= 100_000 * number + 128 for number, size in enumerate(sizes))
    np.save(tmp_path / "whole.npy", corpus.vocabulary.encode(path.read_text()))
    assert (tmp_path / "tokens.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
