"""Flags that make a small run of every command, and the text that it runs on."""

TRAIN = ["--hidden", "16", "--batch", "8", "--length", "25", "--steps", "40", "--warm-up", "0"]
TRAIN += ["--evaluate-every", "10"]
SAMPLE = ["--sequences", "12", "--length", "60"]
PROBE = ["--bootstrap", "20", "--hypotheses", "any", "--pattern", "word=[a-z]+"]
RUN = [f"--train.{flag[2:]}" if flag.startswith("--") else flag for flag in TRAIN]
RUN += [f"--sample.{flag[2:]}" if flag.startswith("--") else flag for flag in SAMPLE]
TEXT = "def f(x):  # comment <script>alert(1)</script> & more\n    return {'a': x}\n\n" * 60
