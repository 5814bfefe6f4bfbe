"""The layout of what chosen modules put out."""

import pytest
from torch import nn

from gatescope.engine.chosen_modules import layout_of
from gatescope.engine.errors import InputError
from gatescope.kernels.lstm import LSTM

FIRST, LAST = nn.GRU(2, 3, batch_first=True), nn.GRU(2, 3)


def transformer(kind, **options):
    layer = getattr(nn, f"Transformer{kind}Layer")(4, 2, 8, **options)
    return layer, getattr(nn, f"Transformer{kind}")(layer, 1)


def turned(output):
    return output[0].transpose(0, 1)


@pytest.mark.parametrize(
    ("modules", "layout", "expected"),
    [
        ([(FIRST, None)], None, "BTH"),
        ([(LAST, None), (nn.Tanh(), None)], None, "TBH"),
        ([(LSTM(2, 3), None)], None, "TBH"),
        ([(nn.Tanh(), None)], None, "BTH"),
        ([(nn.Tanh(), None)], "TBH", "TBH"),
        ([(LAST, turned)], None, "BTH"),
        ([(LAST, turned)], "BTH", "BTH"),
        ([(LAST, turned), (FIRST, None)], None, "BTH"),
        ([(LAST, None)], "TBH", "TBH"),
        *(([(module, None)], None, "TBH") for kind in ("Encoder", "Decoder") for module in transformer(kind)),
        *(
            ([(module, None), (FIRST, None)], None, "BTH")
            for kind in ("Encoder", "Decoder")
            for module in transformer(kind, batch_first=True)
        ),
        ([(nn.Sequential(LAST), None)], None, "BTH"),
    ],
)
def test_the_layout_matches_the_modules(modules, layout, expected):
    assert layout_of({f"layer{number}/h": each for number, each in enumerate(modules)}, layout) == expected


@pytest.mark.parametrize(
    ("modules", "layout", "message"),
    [
        ([(LAST, None)], "BTH", "layer0/h: its module has batch_first=False, and layout='BTH' is given"),
        ([(FIRST, None)], "TBH", "layer0/h: its module has batch_first=True, and layout='TBH' is given"),
        (
            [(LAST, None), (FIRST, None)],
            None,
            "layer1/h: its module has batch_first=True, and that of layer0/h does not",
        ),
    ],
)
def test_a_layout_that_does_not_match_the_modules_is_refused(modules, layout, message):
    with pytest.raises(InputError, match=message):
        layout_of({f"layer{number}/h": each for number, each in enumerate(modules)}, layout)
