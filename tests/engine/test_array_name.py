import pytest

from gatescope.engine.array_name import ARRAY_NAME, layer_and_state


@pytest.mark.parametrize(
    ("name", "expected"),
    [("layer0/h", (0, "h")), ("layer12/gates/f", (12, "gates/f")), ("layer2/log_probability", (2, "log_probability"))],
)
def test_an_array_name_gives_its_layer_and_state(name, expected):
    assert layer_and_state(name) == expected
    found = ARRAY_NAME.fullmatch(name)
    assert found and (int(found[1]), found[2]) == expected


@pytest.mark.parametrize(
    "name", ["h", "layer/h", "layer0", "layer0/", "layer0/a/b/c", "layer0/../h", "layer0/1", "Layer0/h"]
)
def test_other_names_are_not_array_names(name):
    assert not ARRAY_NAME.fullmatch(name)
