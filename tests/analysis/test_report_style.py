"""report_style.py: colours that can be read and told apart."""

import re

import numpy as np
import pytest

from gatescope.analysis.coloured_text import STEPS, tint
from gatescope.analysis.palette import DARK, LIGHT
from gatescope.analysis.report_style import STYLE


def luminance(colour):
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_is_readable_on_every_tint(theme):
    steps = [(step, False) for step in range(STEPS + 1)] + [(step, True) for step in range(-STEPS, STEPS + 1)]
    assert tint(0, False, theme) == tint(0, True, theme) == theme["paper"]
    assert tint(STEPS, False, theme) == theme["high"]
    assert (tint(-STEPS, True, theme), tint(STEPS, True, theme)) == (theme["negative"], theme["positive"])
    # WCAG 2.2 requires 4.5 for text and 3 for graphical marks.
    for step, signed in steps:
        assert contrast(theme["ink"], tint(step, signed, theme)) >= 4.5
    for name in ("muted", "plain", "balanced"):
        assert contrast(theme[name], theme["paper"]) >= 4.5
    assert contrast(theme["faint"], theme["paper"]) >= 3


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DICHROMATS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, vision):
    """CIE L*a*b* of an sRGB colour as seen by somebody with this vision."""
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(DICHROMATS[vision]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(to_xyz @ seen / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", DICHROMATS)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_ends_of_the_scales_differ_for_colour_blind_readers(theme, vision):
    ends = [lab(theme[name], vision) for name in ("negative", "paper", "positive")]
    # A difference of 2.3 is just noticeable (Mahy, Van Eycken and Oosterlinck 1994); ten times that is plain to see.
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert np.linalg.norm(ends[i] - ends[j]) > 23
    assert np.linalg.norm(lab(theme["high"], vision) - lab(theme["paper"], vision)) > 23


def test_every_colour_in_use_is_defined_for_both_themes():
    used = set(re.findall(r"var\(--(\w+)\)", STYLE))
    themes = [set(re.findall(r"--(\w+):#[0-9a-f]{6};", theme)) for theme in re.findall(r":root\{(.*?)\}", STYLE)]
    assert len(themes) == 2 and {"s0", f"s{STEPS}", f"n{STEPS}", "n0", f"p{STEPS}", "ink"} <= used
    assert all(used <= defined for defined in themes)
