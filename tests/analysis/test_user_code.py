import pytest

from gatescope.analysis.user_code import LONGEST_REASON, user_code
from gatescope.engine.errors import InputError


def fails():
    raise OSError("two\nlines")


LINE = fails.__code__.co_firstlineno + 1


@pytest.mark.parametrize(
    ("what", "file", "message"),
    [
        ("hypothesis 'a'", __file__, f"hypothesis 'a' at test_user_code.py, line {LINE}: OSError: two lines"),
        ("hypothesis 'a'", "/nowhere/b.py", "hypothesis 'a' at b.py: OSError: two lines"),
        (__file__, __file__, f"{__file__}, line {LINE}: OSError: two lines"),
    ],
)
def test_the_error_names_the_line_in_the_user_file(what, file, message):
    with pytest.raises(InputError) as caught, user_code(what, file):
        fails()
    assert str(caught.value) == message
    assert isinstance(caught.value.__cause__, OSError)


def test_the_innermost_line_of_that_file_is_named():
    def outer():
        fails()

    with pytest.raises(InputError, match=f"line {LINE}:"), user_code("a", __file__):
        outer()


def test_a_long_reason_is_cut():
    with pytest.raises(InputError) as caught, user_code("a", __file__):
        raise ValueError("x" * 10_000)
    assert str(caught.value).count("x") < LONGEST_REASON + 10


def test_an_input_error_of_a_hypothesis_passes_unchanged():
    with pytest.raises(InputError, match=r"^get the data$"), user_code("hypothesis 'a'", __file__):
        raise InputError("get the data")


def test_an_input_error_in_a_file_gets_its_line():
    with (
        pytest.raises(InputError, match=r"test_user_code.py, line \d+: InputError: taken"),
        user_code(__file__, __file__),
    ):
        raise InputError("taken")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit])
def test_exits_and_interrupts_pass_through_user_code(kind):
    with pytest.raises(kind), user_code("a", __file__):
        raise kind


def test_successful_code_is_unaffected():
    with user_code("a", __file__):
        done = True
    assert done
