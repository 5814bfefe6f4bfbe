"""Parts of speech of English text: NLTK's tokenizer and tagger, with a tag for every character.

Tokens come from `TreebankWordTokenizer`, which writes double quotes as the Penn Treebank does, `` and ''. Tags are the
Treebank's, from the averaged perceptron tagger (Collins, 2002), which knows no other double quotes. Both work on one
sentence at a time.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from gatescope.analysis.english_scan import SENTENCE_END
from gatescope.engine.errors import InputError

DATA = "averaged_perceptron_tagger_eng"
# The tokenizer's rules know only straight quotes and apostrophes, no dash or ellipsis of one character, and only a
# blank beside an opening quote or after a contraction. The Treebank tags dashes and ellipses like a semicolon.
_PLAIN = str.maketrans("“”‘’–—…\n\t", '"""\';;;  ')
_QUOTES = re.compile("``|''|\"")
_ANY_TOKEN = re.compile(r"\w+|[^\w\s]")


def tag_characters(text: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the token and the tag of every character.

    Args:
        text: n characters.

    Returns:
        token int32 [n], the number of the token that a character belongs to, -1 for blanks and for a last token that
        may continue after the text; tag int32 [n], an index into the third value, -1 likewise; and the names of tags.

    Raises:
        InputError: the tagger's data is not installed.
    """
    tagger = _tagger()
    names: dict[str, int] = {}
    spans: list[tuple[int, int]] = []
    tags: list[int] = []
    for start, end in _sentences(text):
        words, found = _tokens(text[start:end].translate(_PLAIN))
        tags += [names.setdefault(tag, len(names)) for _, tag in tagger.tag(words)]
        spans += [(start + first, start + after) for first, after in found]
    if spans and spans[-1][1] == len(text) and text[-1].isalnum():
        spans.pop()
        tags.pop()
    tokens = np.array(spans, np.int64).reshape(-1, 2)
    lengths = np.diff(np.concatenate(([0], tokens.ravel(), [len(text)])))
    token = np.full(2 * len(tokens) + 1, -1, np.int32)
    tag = token.copy()
    token[1::2], tag[1::2] = np.arange(len(tokens)), tags
    return np.repeat(token, lengths), np.repeat(tag, lengths), list(names)


def _sentences(text: str) -> list[tuple[int, int]]:
    borders = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    return list(pairwise(borders))


def _tokens(sentence: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the tokens that the tagger reads, and the span of each."""
    from nltk.tokenize import TreebankWordTokenizer
    from nltk.tokenize.util import align_tokens

    words = TreebankWordTokenizer().tokenize(sentence)
    quotes = _QUOTES.finditer(sentence)
    try:
        return words, align_tokens([next(quotes)[0] if word in ("``", "''") else word for word in words], sentence)
    except (ValueError, StopIteration):
        # No text is known whose tokens cannot be aligned with it, but nothing guarantees that there is none.
        spans = [match.span() for match in _ANY_TOKEN.finditer(sentence)]
        return [sentence[first:after].replace('"', "''") for first, after in spans], spans


@lru_cache(maxsize=1)
def _tagger() -> Any:
    # NLTK takes a second to import, and only these hypotheses need it.
    import nltk
    from nltk.tag.perceptron import PerceptronTagger

    for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep):
        if folder and folder not in nltk.data.path:
            nltk.data.path.insert(0, folder)
    try:
        return PerceptronTagger()
    except (LookupError, OSError, ValueError):
        raise InputError(
            f"parts of speech need NLTK's {DATA}, which is missing or incomplete; get it with `python -m "
            f"nltk.downloader {DATA}`, or set NLTK_DATA to the folder that holds it"
        ) from None
