"""A barrier whose programs come late, for tests of results that must not depend on timing."""

import importlib

import triton
import triton.language as tl


@triton.jit
def delayed_wait(counter_ptr, arrivals):
    """The wait of `gatescope.kernels.grid`, after a sleep of up to two microseconds that is drawn from the clock."""
    tl.inline_asm_elementwise(
        """
        {
        .reg .pred %waiting;
        .reg .s32 %seen;
        .reg .u32 %sleep;
        mov.u32 %sleep, %clock;
        shr.u32 %sleep, %sleep, 3;
        and.b32 %sleep, %sleep, 2047;
        nanosleep.u32 %sleep;
        again:
        ld.acquire.gpu.global.s32 %seen, [$1];
        setp.lt.s32 %waiting, %seen, $2;
        @%waiting bra again;
        mov.s32 $0, %seen;
        }
        """,
        "=r,l,r",
        [counter_ptr, arrivals],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


def delay(monkeypatch, cell):
    """Make the programs of a layer's kernels come late to every barrier."""
    kernels, launch = (importlib.import_module(f"gatescope.kernels.{cell}_{part}") for part in ("kernels", "launch"))
    monkeypatch.setattr(kernels, "wait", delayed_wait)
    for name in ("forward_kernel", "backward_kernel"):
        # Jitted again, since kernels that are already compiled keep their old barrier.
        delayed = triton.jit(getattr(kernels, name).fn, do_not_specialize=kernels.RUNTIME)
        monkeypatch.setattr(launch, name, delayed)
