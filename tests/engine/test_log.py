"""The log of a run."""

import json
import math

from gatescope.engine.log import log


def test_every_line_is_json(tmp_path):
    log(tmp_path / "log.jsonl", "train", nats=math.nan, norms=(math.inf, 1.5), about={"rate": -math.inf, "step": 3})
    log(tmp_path / "log.jsonl", "validate", nats=2.5)

    def refuse(constant):
        raise AssertionError(constant)

    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line.pop("time") > 0 for line in lines] == [True, True]
    assert lines == [
        {"stage": "train", "nats": None, "norms": [None, 1.5], "about": {"rate": None, "step": 3}},
        {"stage": "validate", "nats": 2.5},
    ]
