"""How the sampler's kernel is divided: plans that fit models, devices and numbers of sequences."""

from dataclasses import replace

import pytest

pytest.importorskip("triton")

import triton

from gatescope.kernels.gpu import A100, H200, Device
from gatescope.kernels.sample_plan import STEPS, ModelShape, fitted, plan, streaming


def test_gpus_before_compute_capability_8_run_step_by_step():
    model = ModelShape("lstm", 128, 2, 96, 2)
    assert plan(model, A100) != STEPS and plan(model, replace(A100, tensor_cores=False)) == STEPS


@pytest.mark.parametrize("device", [A100, H200, Device(16, 100 * 1024)], ids=["a100", "h200", "small"])
@pytest.mark.parametrize("cell_name", ["lstm", "gru", "rnn"])
def test_streamed_weights_cover_the_model_and_fit_the_device(device, cell_name):
    for hidden in (1, 3, 21, 64, 100, 128, 129, 160, 512, 768, 1024, 2048):
        for layers, n_characters, itemsize in ((1, 2, 2), (3, 96, 2), (2, 300, 4)):
            model = ModelShape(cell_name, hidden, layers, n_characters, itemsize)
            found = streaming(model, device)
            if found == STEPS:
                assert hidden > device.multiprocessors * 32 or (n_characters, itemsize) == (300, 4)
                continue
            assert found.columns * found.block_h == found.width >= hidden > found.width - max(128, found.block_h)
            assert found.width % found.block_k == 0 and found.columns * found.groups <= device.multiprocessors
            # The first programs of a group choose for 16 rows each.
            assert found.columns * 16 >= found.block_b and (found.columns > 1 or found.block_b == 16)
            slots = {"lstm": 4, "gru": 4, "rnn": 1}[cell_name]
            part = found.block_k * itemsize * (slots * found.block_h + found.block_b)
            output = found.output_k * itemsize * (triton.next_power_of_2(n_characters) + 16)
            assert max(found.stages * part, found.output_stages * output) <= device.shared
            for n_rows in (1, 64, 128, 300, 1024, 10_000):
                own = fitted(found, model, n_rows, device)
                # A tile is made of whole tiles of the plan, and its rows are summed in the same order.
                assert own.block_b % found.block_b == 0 and own.block_k == found.block_k and own.width == found.width
                assert own.columns * own.block_h == own.width and own.columns * own.groups <= device.multiprocessors
                assert own.columns * 16 >= own.block_b or own.columns == 1
                part = own.block_k * itemsize * (slots * own.block_h + own.block_b)
                output = own.output_k * itemsize * (triton.next_power_of_2(n_characters) + 16)
                assert max(own.stages * part, own.output_stages * output) <= device.shared and own.output_stages > 0
                launches = [-(-n_rows // (each.block_b * each.groups)) for each in (own, found)]
                assert launches[0] <= launches[1]
    assert plan(ModelShape(cell_name, 128, 1, 5000, 2), device) == STEPS


@pytest.mark.parametrize("cell_name", ["lstm", "gru", "rnn"])
def test_few_sequences_get_narrow_columns_and_many_get_tall_tiles(cell_name):
    for reset_after in (True, False):
        model = ModelShape(cell_name, 512, 3, 96, 2, reset_after)
        wide = plan(model, H200)
        several = [fitted(wide, model, n_rows, H200) for n_rows in (128, 256, 512, 1024)]
        # A column of an Elman network has one weight row for each unit, and a product needs at least 16.
        columns = [each.columns for each in several]
        assert columns == [32 if cell_name == "rnn" or not reset_after else 64, 32, 16, 16]
        assert [each.block_b for each in several] == [64, 64, 64, 128 if cell_name == "lstm" else 64]
        # Tall tiles are for an LSTM of which little is kept, with few characters, in whole launches.
        for other, n_rows, kept in ((model, 1024, 6), (replace(model, n_characters=200), 1024, 2), (model, 1500, 2)):
            assert fitted(wide, other, n_rows, H200, kept) == wide
    model = ModelShape(cell_name, 128, 2, 96, 2)
    forms = [fitted(streaming(model, H200), model, n_rows, H200).form for n_rows in (5, 1024, 1025)]
    assert forms == (["columns", "columns", "program"] if cell_name == "lstm" else ["program"] * 3)


@pytest.mark.parametrize("cell_name", ["lstm", "gru", "rnn"])
def test_resident_weights_fit_the_device(cell_name):
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell_name]
    for hidden in (1, 16, 21, 64, 100, 128, 129):
        for layers in range(1, 9):
            for n_characters in (2, 96, 128, 129, 300):
                for itemsize, device in ((2, H200), (2, A100), (4, H200)):
                    model = ModelShape(cell_name, hidden, layers, n_characters, itemsize)
                    found = plan(model, device)
                    if found.form != "resident":
                        assert found == streaming(model, device)
                        continue
                    assert (itemsize, device) == (2, H200) and found.block_b == 8
                    width, tiles = found.width, gates * (2 * layers - 1)
                    assert width >= hidden > width // 2 or width == 32
                    assert gates <= found.resident <= tiles and layers <= 3
                    in_registers = 2 * found.resident * width**2 / (4 * 32 * min(8, width // 16))
                    in_shared = 2 * width * ((tiles - found.resident) * width + triton.next_power_of_2(n_characters))
                    states = (2 if layers > 2 else 1) * 2 * 8 * width
                    assert in_registers <= 192 and in_shared + states <= 227 * 1024
                    assert all(fitted(found, model, n, H200) == found for n in (1, 1024, 9999))
    for shape in ((128, 2, 96), (128, 2, 128), (64, 3, 96), (100, 1, 128)):
        assert plan(ModelShape(cell_name, *shape, 2), H200).form == "resident"
    for shape in ((128, 3, 96), (128, 2, 129)):
        assert plan(ModelShape("lstm", *shape, 2), H200).form == "program"
