"""Reading a text with every state recorded."""

import numpy as np
import pytest
import torch

from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.sample import SampleConfig, sample_states

TEXT = "(abc) {def} ghij\n" * 30


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


def extracted(trained, text, path, **config):
    extract_states(trained, text, path, ExtractConfig(**config))
    return StateDump.open(path)


@pytest.mark.parametrize("context", [0, 7, 1000])
def test_states_are_those_of_the_model_reading_context_and_sequence(lstm, text, tmp_path, context):
    # In float64 only the rounding of the recorded float32 is left.
    model, encode = lstm.model.double(), lstm.vocabulary.encode
    dump = extracted(lstm, text, tmp_path / "e.zarr", length=40, context=context, dtype="float32", capture=("h", "c"))
    assert dump.text() == TEXT
    starts = dump.sequence_starts
    assert starts.tolist() == [*range(0, len(TEXT), 40), len(TEXT)]
    assert dump.document_starts.tolist() == [0, len(TEXT)]
    for sequence in (0, 1, 5, len(starts) - 2):
        start, stop = int(starts[sequence]), int(starts[sequence + 1])
        before = "\n" + TEXT[max(0, start - context) : start]
        ids = torch.from_numpy(encode(before + TEXT[start:stop]).astype(np.int64))[:, None]
        state = model.zero_state(1)
        with torch.no_grad():
            for place, token in enumerate(ids):
                _, state = model(token[None], state)
                row = start + place - len(before)
                for layer in range(2):
                    found = dump.initial(f"layer{layer}/c")[sequence] if row == start - 1 else None
                    found = dump["c"][layer][row] if row >= start else found
                    if found is not None:
                        np.testing.assert_allclose(found, state[1][layer, 0].numpy(), rtol=1e-6)


def test_extraction_of_sampled_text_gives_the_sampled_states(lstm, tmp_path):
    sample_states(lstm, tmp_path / "s.zarr", SampleConfig(sequences=70, length=30, capture=("h", "c", "gates")))
    sampled = StateDump.open(tmp_path / "s.zarr")
    (tmp_path / "sampled.txt").write_text(sampled.text())
    read = extracted(
        lstm, str(tmp_path / "sampled.txt"), tmp_path / "e.zarr", length=30, context=0, capture=("h", "c", "gates")
    )
    for name in sampled.names:
        # The input products are of other heights, so float32 differs in its last bits, float16 in one step at most.
        found, expected = read.array(name)[:], sampled.array(name)[:]
        assert (found == expected).mean() > 0.99
        np.testing.assert_array_max_ulp(found, expected, 1)
        if name.split("/")[1] in "hc":
            assert np.array_equal(read.initial(name), sampled.initial(name))


def test_what_the_vocabulary_lacks_is_named_by_offset(lstm, tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text("abc\nXYZ")
    with pytest.raises(InputError, match=r"'X' \(U\+0058\) at offset 4"):
        extracted(lstm, str(path), tmp_path / "e.zarr")
    path.write_text("")
    with pytest.raises(InputError, match="is empty"):
        extracted(lstm, str(path), tmp_path / "e.zarr")
    path.write_bytes(b"ab\xff")
    with pytest.raises(InputError, match=r"not UTF-8.*offset 2"):
        extracted(lstm, str(path), tmp_path / "e.zarr")
    assert not (tmp_path / "e.zarr").exists()


def test_settings_out_of_range():
    with pytest.raises(InputError, match="--length"):
        ExtractConfig(length=0)
    with pytest.raises(InputError, match="--context"):
        ExtractConfig(context=-1)
