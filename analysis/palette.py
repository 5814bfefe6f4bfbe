"""The colours of figures and of the report, sRGB: for light paper and for a dark screen.

`ink` is the text, on `paper`; `muted` is secondary text; `faint` and `rule` are lines, and `behind` is for lines in the
background of figures. `plain` and `balanced` are the two kinds of fit. `high`, `negative` and `positive` are the ends
of the scales that colour text. Text has a contrast of at least 4.5 with the paper.
"""

LIGHT = {
    "ink": "#16181d",
    "paper": "#ffffff",
    "muted": "#5c626c",
    "faint": "#868c95",
    "rule": "#dfe2e6",
    "behind": "#c9cdd3",
    "plain": "#1f5fae",
    "balanced": "#b65607",
    "high": "#4c96e8",
    "negative": "#35a79a",
    "positive": "#f0913a",
}
DARK = {
    "ink": "#eceef1",
    "paper": "#1b1d21",
    "muted": "#a6acb5",
    "faint": "#7d838c",
    "rule": "#383c43",
    "plain": "#7db3f2",
    "balanced": "#f0a35c",
    "high": "#2b69b3",
    "negative": "#0f7268",
    "positive": "#a3560d",
}
