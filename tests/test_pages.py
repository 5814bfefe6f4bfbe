"""The README and docs/: examples run as written, links resolve, and all files and fields are listed."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forked import run_redirected

from gatescope.analysis.record_fields import SCORES, WORDS
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.irls import LogisticProbes

REPOSITORY = Path(__file__).parents[1]
README, *DOCS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in (README, *DOCS)}
EXAMPLES = [each for text in TEXTS.values() for each in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)]
# Examples that need no other process.
ALONE = [example for example in EXAMPLES if "torchrun" not in example]
(SHARED,) = [example for example in EXAMPLES if "torchrun" in example]


@pytest.mark.parametrize("number", range(len(ALONE)))
def test_example_runs(number, tmp_path):
    done = run_redirected(exec, (ALONE[number], {"__name__": "__main__"}), tmp_path)
    assert done.returncode == 0, done.stderr


def write_dump(path):
    """Write a dump of 12,001 rows of h and c with 40 units each, whose letters depend on the states."""
    generator = np.random.default_rng(0)
    states = {name: generator.standard_normal((12_001, 40)) for name in ("layer0/h", "layer0/c")}
    logits = 0.5 * (states["layer0/h"][:, :6] + states["layer0/c"][:, 5:11])
    tokens = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
    spec = DumpSpec(
        arrays=dict.fromkeys(states, 40),
        sequence_starts=np.array([0, len(tokens)]),
        document_starts=np.array([0, len(tokens)]),
        initial=(),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(np.float16),
        attributes={"vocabulary": list("aeiou ")},
        block_rows=2500,
    )
    with DumpWriter(path, spec) as writer:
        writer.append(0, tokens, states)


def test_the_torchrun_script_equals_one_process(tmp_path):
    write_dump(tmp_path / "states.zarr")
    script = SHARED.replace('memory_limit="2GB"', 'memory_limit="2MB", tol=1e-12')
    assert script != SHARED
    (tmp_path / "probe.py").write_text(script)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, "probe.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    dump = StateDump.open(tmp_path / "states.zarr")
    Y = np.array(list(dump.text()))[:, None] == list("aeiou")
    alone = LogisticProbes(tol=1e-12).fit(dump.features(["layer0/h", "layer0/c"]), Y)
    assert (alone.status_ == "converged").all()
    with np.load(tmp_path / "probes.npz") as found:
        np.testing.assert_allclose(found["coef"], alone.coef_, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found["intercept"], alone.intercept_, rtol=0, atol=1e-10)


def test_every_package_is_used_in_an_example():
    imported = set(re.findall(r"from gatescope\.(\w+)\.", "".join(EXAMPLES)))
    assert imported == {"kernels", "engine", "analysis"} and len(EXAMPLES) >= 4


def test_the_readme_has_every_command_and_pages_name_no_others():
    from gatescope.analysis.cli import COMMANDS

    assert set(re.findall(r"`gatescope (\w+)", TEXTS[README])) - {"COMMAND"} == set(COMMANDS)
    for page in DOCS:
        assert set(re.findall(r"(?:`|^ {4}|&& )gatescope (\w+)", TEXTS[page], flags=re.MULTILINE)) <= set(COMMANDS), (
            page
        )


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page",
    [*TEXTS, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "benchmarks" / "README.md"],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
)
def test_every_link_has_a_target(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            led = page.parent / path if path else page
            assert led.exists(), target
            assert not anchor or anchor in anchors(led), target


@pytest.mark.parametrize("folder", ["kernels", "engine", "analysis"])
def test_every_source_file_is_in_the_table_of_its_folder(folder):
    (part,) = re.findall(
        rf"^## {folder}:.*?(?=^## |\Z)", TEXTS[REPOSITORY / "docs" / "code.md"], re.MULTILINE | re.DOTALL
    )
    named = [name for row in re.findall(r"^\|.*$", part, re.MULTILINE) for name in re.findall(r"`(\w+\.py)`", row)]
    assert sorted(named) == sorted(path.name for path in (REPOSITORY / folder).glob("*.py"))


def test_every_field_of_a_record_is_described():
    page = TEXTS[REPOSITORY / "docs" / "files.md"]
    for field in (*WORDS, *SCORES):
        assert f"`{re.sub('_(low|high)$', '', field)}`" in page, field
