"""Reading a text with every state recorded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from killing import contents

from gatescope.engine import extract, walk
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.extract import ExtractConfig, _planned, extract_in_memory, extract_states
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.source_tree import TreeConfig, write_corpus

TEXT = "(abc) {def} ghij\n" * 30


@pytest.fixture
def documents(tmp_path):
    """Paths of 120 documents of 1 to 130 characters: more sequences than a tile has rows."""
    random, paths = np.random.default_rng(0), []
    for number, n in enumerate([130, 1, 40, 41, 39, 80, *random.integers(1, 60, 114)]):
        paths.append(tmp_path / f"{number}.txt")
        paths[-1].write_text("".join(random.choice(list("\n abcdefghij(){}"), n)))
    return [str(path) for path in paths]


def extracted(trained, text, path, **config):
    extract_states(trained, text, path, ExtractConfig(**config))
    return StateDump.open(path)


@pytest.mark.parametrize("context", [0, 7, 1000])
def test_states_equal_the_model_reading_context_and_sequence(lstm, text, tmp_path, context):
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
        # The input products have other heights, so float32 differs in its last bits, and float16 by at most one step.
        found, expected = read.array(name)[:], sampled.array(name)[:]
        assert (found == expected).mean() > 0.99
        np.testing.assert_array_max_ulp(found, expected, 1)
        if name.split("/")[1] in "hc":
            assert np.array_equal(read.initial(name), sampled.initial(name))


@pytest.mark.parametrize("precise", [True, False], ids=["float64", "float32"])
def test_states_of_a_document_do_not_depend_on_its_neighbours(lstm, documents, precise):
    if precise:
        lstm.model.double()
    dtype = "float32" if precise else "float16"
    config = ExtractConfig(length=40, context=7, capture=("h", "c", "gates", "entropy"), dtype=dtype)
    states = extract_in_memory(lstm, documents, config)
    bounds, starts = states.document_starts, states.sequence_starts
    assert np.array_equal(np.diff(bounds), [len(Path(path).read_text()) for path in documents]) and len(starts) > 120
    for number in [*range(7), *range(7, 120, 8)]:
        alone = extract_in_memory(lstm, documents[number], config)
        rows = slice(bounds[number], bounds[number + 1])
        first, behind = np.searchsorted(starts, [rows.start, rows.stop])
        assert np.array_equal(states.tokens[rows], alone.tokens)
        assert np.array_equal(starts[first : behind + 1] - rows.start, alone.sequence_starts)
        pairs = [(states.arrays[name][rows], values) for name, values in alone.arrays.items()]
        pairs += [(states.initial[name][first:behind], values) for name, values in alone.initial.items()]
        for found, expected in pairs:
            if precise:
                # Only the rounding of the recorded float32 is left.
                np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-12)
            elif number == 0:
                # The first document's sequences take the same rows of the same tile either way.
                assert torch.equal(found, expected)
            else:
                np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)


def test_a_dump_of_documents_equals_the_states_in_memory(lstm, documents, tmp_path, monkeypatch):
    config = {"length": 40, "context": 7, "capture": ("h", "c", "log_probability")}
    monkeypatch.setattr(walk, "PIECE_BYTES", 1)
    dump = extracted(lstm, documents, tmp_path / "e.zarr", **config)
    monkeypatch.undo()
    states = extract_in_memory(lstm, documents, ExtractConfig(**config))
    assert dump.verify() == [] and dump.text() == "".join(Path(path).read_text() for path in documents)
    assert dump.attributes["settings"]["text"] == documents
    for name in ("tokens", "sequence_starts", "document_starts"):
        assert np.array_equal(getattr(dump, name), getattr(states, name)), name
    for name in dump.names:
        assert np.array_equal(dump.array(name)[:], states.arrays[name].numpy())
    for name, values in states.initial.items():
        assert np.array_equal(dump.initial(name), values.numpy())


def test_files_of_a_corpus_are_documents(lstm, tmp_path):
    tree, text = tmp_path / "tree", tmp_path / "text.txt"
    tree.mkdir()
    for name, content in (("a.c", "abc {def}\n" * 5), ("b.c", "(ghij"), ("c.c", "{}\n")):
        (tree / name).write_text(content)
    write_corpus(tree, text, TreeConfig())
    whole = extracted(lstm, text, tmp_path / "whole.zarr", length=20)
    assert whole.document_starts.tolist() == [0, 50, 56, 59]
    # As if each file had been given alone, except for the newline that a file lacks at its end.
    (tree / "b.c").write_text("(ghij\n")
    apart = extracted(lstm, sorted(tree.iterdir()), tmp_path / "apart.zarr", length=20)
    for name in ("sequence_starts", "document_starts", "tokens"):
        assert getattr(whole, name).tolist() == getattr(apart, name).tolist()
    assert np.array_equal(whole.array("layer1/h")[:], apart.array("layer1/h")[:])


def test_interrupted_documents_resume_where_they_stopped(lstm, documents, tmp_path, monkeypatch):
    config = ExtractConfig(length=40, context=7)
    extract_states(lstm, documents, tmp_path / "whole.zarr", config)
    monkeypatch.setattr(walk, "PIECE_BYTES", 1)
    count_steps, pieces = DumpWriter.count_steps, []

    def count(self, point, start):
        if len(pieces) == 1:
            raise KeyboardInterrupt
        pieces.append((point.first, start))
        return count_steps(self, point, start)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(DumpWriter, "count_steps", count)
        extract_states(lstm, documents, tmp_path / "cut.zarr", config)
    monkeypatch.setattr(
        DumpWriter,
        "count_steps",
        lambda self, point, start: pieces.append((point.first, start)) or count_steps(self, point, start),
    )
    extract_states(lstm, documents, tmp_path / "cut.zarr", config)
    # It resumed inside the first tile, where some sequences had ended already; nothing was computed twice.
    assert pieces == [(0, 0), (0, 32), (100, 0), (100, 32)]
    assert contents(tmp_path / "cut.zarr") == contents(tmp_path / "whole.zarr")


def test_no_steps_are_spent_on_nonexistent_context(lstm, documents):
    config = ExtractConfig(length=200, context=100, prime="ab")
    _, spec, reader = _planned(lstm, documents, config)
    assert (spec.document_starts == spec.sequence_starts).all()
    assert [piece.shape for piece in reader.warm_up(np.arange(100))] == [(2, 100)]


def test_a_long_context_is_read_in_pieces(lstm, text, tmp_path, monkeypatch):
    config = ExtractConfig(length=40, context=300, prime="ab", dtype="float32")
    whole = extract_in_memory(lstm, text, config)
    monkeypatch.setattr(extract, "WARM_UP_STEPS", 37)
    _, _, reader = _planned(lstm, text, config)
    pieces = list(reader.warm_up(np.arange(100)))
    assert [len(piece) for piece in pieces] == [37] * 8 + [6]
    cut = extract_in_memory(lstm, text, config)
    assert all(torch.equal(values, cut.arrays[name]) for name, values in whole.arrays.items())
    # No document has more to read, however much context is asked for.
    all_, more = (
        extract_in_memory(lstm, text, ExtractConfig(length=40, context=context, dtype="float32")).arrays["layer1/h"]
        for context in (len(TEXT), 10**30)
    )
    assert torch.equal(all_, more)


@pytest.mark.parametrize("is_finished", [True, False], ids=["finished", "begun"])
def test_a_changed_text_counts_as_another_setting(lstm, text, tmp_path, monkeypatch, is_finished):
    if not is_finished:
        count_steps = DumpWriter.count_steps
        monkeypatch.setattr(walk, "PIECE_BYTES", 1)

        def count(self, point, start):
            count_steps(self, point, start)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(DumpWriter, "count_steps", count)
            extracted(lstm, text, tmp_path / "e.zarr", length=100)
    else:
        extracted(lstm, text, tmp_path / "e.zarr", length=100)
    Path(text).write_text(TEXT.replace("a", "b"))
    with pytest.raises(InputError, match=r"begun with other settings: settings\.tokens_sha256 is"):
        extracted(lstm, text, tmp_path / "e.zarr", length=100)
    Path(text).write_text(TEXT)
    assert extracted(lstm, text, tmp_path / "e.zarr", length=100).text() == TEXT


def test_errors_name_the_bad_document_among_many(lstm, documents, tmp_path):
    for content, message in ((b"ab\nX", r"bad.txt'.*'X' .*offset 3"), (b"", "bad.txt' is empty"), (b"\xff", "bad.txt")):
        (tmp_path / "bad.txt").write_bytes(content)
        with pytest.raises(InputError, match=message):
            extracted(lstm, [documents[0], str(tmp_path / "bad.txt")], tmp_path / "e.zarr")
    with pytest.raises(InputError, match="no text to read"):
        extracted(lstm, [], tmp_path / "e.zarr")
    assert not (tmp_path / "e.zarr").exists()


def test_unknown_characters_are_named_by_offset(lstm, tmp_path):
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


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="--length"):
        ExtractConfig(length=0)
    with pytest.raises(InputError, match="--context"):
        ExtractConfig(context=-1)


def test_a_path_in_place_of_the_model_is_refused(lstm, text):
    with pytest.raises(InputError, match="trained is of type str: expected TrainedModel"):
        extract_in_memory("model", text, ExtractConfig())
    with pytest.raises(InputError, match="config is of type SampleConfig: expected ExtractConfig"):
        extract_in_memory(lstm, text, SampleConfig())


@pytest.mark.parametrize("source", [None, 5, b"text", [5]])
def test_a_source_that_is_not_a_path_is_refused(lstm, source):
    with pytest.raises(InputError, match="is not a path: expected a str or a Path"):
        extract_in_memory(lstm, source, ExtractConfig())
