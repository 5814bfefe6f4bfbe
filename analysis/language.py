"""Detection of the language of a text from its characters.

Each language has marks: words and line shapes that it has and the others lack. What counts is their density, so that a
sampled text, full of misspellings, is recognised as surely as the text it imitates.
"""

from __future__ import annotations

import re

LANGUAGES = ("c", "python", "english", "any")
WINDOW = 4096  # characters
N_WINDOWS = 32  # spread over a long text
# Least weight of its marks per 100 characters of a text in a language. Programs contain prose in their comments, but
# prose contains no programs: a text is a program if the marks of one weigh just 0.15 times those of English.
CODE_AT_LEAST, CODE_TO_ENGLISH, ENGLISH_AT_LEAST = 0.5, 0.15, 1.5

# Without words that are common in other languages: "a" in French, Spanish and Italian, "on" in French, "I" in Italian.
_FUNCTION_WORD = (
    r"(?<![^\s\"'(\[“‘-])(?:[Tt]he|[Aa]nd|[Oo]f|[Tt]o|[Tt]hat|is|[Yy]ou|with|for|his|he|she|they|[Mm]y|your|this|have|"
    r"not|[Bb]ut|it|are|were|from|which|shall|thou|thy|[Ww]hat|when|who|our|their|be|by|all|him|will)"
    r"(?=[ \n,.;:!?'])"
)
# Pairs of an expression and the weight of each of its matches.
_MARKS: dict[str, tuple[tuple[re.Pattern[str], float], ...]] = {
    language: tuple((re.compile(expression, re.M), weight) for expression, weight in marks)
    for language, marks in {
        "c": (
            (r"[\w)\]\"'];[ \t]*(?:/[/*].*)?$", 0.4),
            (r"[)\]][ \t]*;|= ?[^=;\n]+;[ \t]*$|\w\(.*;$", 1.0),
            (r"\{[ \t]*$|^[ \t]*\}", 1.0),
            (r"->\w|/\*|\*/|&&|\|\||^[ \t]*//", 1.0),
            (r"^[ \t]*#[ \t]*(?:include|define|undef|ifn?def|if|endif|else|elif|pragma|error)\b", 3.0),
            (r"\b(?:struct|static|void|int|char|unsigned|const|u8|u16|u32|u64|goto|sizeof|NULL|enum|extern)\b", 1.0),
            (r"^[ \t]+\* |^\t[A-Z][A-Z0-9]*_[A-Z0-9_]+(?: = [^,\n]+)?,$", 1.0),
        ),
        "python": (
            (r"^[ \t]*(?:def|class|if|elif|else|for|while|try|except|finally|with)\b[^;{\n]*:[ \t]*(?:#.*)?$", 3.0),
            (r"\bself\b|\"\"\"|'''|\b__\w+__\b", 1.0),
            (r"\b(?:None|True|False|elif|def|lambda|isinstance|raise|except|import|yield|assert|pass)\b", 1.0),
            (r"^[ \t]*(?:from [\w.]+ )?import \w|^[ \t]*@\w", 2.0),
            (r"^[ \t]*#(?![ \t]*(?:include|define|undef|ifn?def|if|endif|else|pragma)\b)", 1.0),
            (r"^[ \t]*(?:return|raise|yield|del|assert)\b[^;\n]*$", 1.0),
            (r"^[ \t]*[\w.]+(?:\[[^\]\n]*\])? [-+]?= [^;\n]*[^;,{\\\n]$", 0.5),
            (r"^(?:    )+[\w.]+\([^;{\n]*\)$", 1.0),
        ),
        "english": (
            (_FUNCTION_WORD, 1.0),
            (r"[a-z][,;:.!?]? [a-zA-Z][a-z']+", 0.05),
        ),
    }.items()
}


def detect_language(text: str) -> str:
    """Return the language of a text: "c", "python", "english", or "any" if it is none of these.

    Args:
        text: a few hundred characters are enough; in a long text, only windows spread over it are read.
    """
    scores = language_scores(text)
    english = scores.pop("english")
    best = max(scores, key=lambda language: scores[language])
    if scores[best] >= max(CODE_AT_LEAST, CODE_TO_ENGLISH * english):
        return best
    return "english" if english >= ENGLISH_AT_LEAST else "any"


def language_scores(text: str) -> dict[str, float]:
    """Return for each language the weight of its marks per 100 characters of the text."""
    step = max(WINDOW, (len(text) - WINDOW) // (N_WINDOWS - 1))
    windows = [text[start : start + WINDOW] for start in range(0, max(len(text) - WINDOW, 0) + 1, step)]
    total = max(sum(len(window) for window in windows), 1)
    return {
        language: 100 / total * sum(weight * _count(mark, windows) for mark, weight in marks)
        for language, marks in _MARKS.items()
    }


def _count(mark: re.Pattern[str], windows: list[str]) -> int:
    return sum(1 for window in windows for _ in mark.finditer(window))
