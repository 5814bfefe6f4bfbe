"""Models of several moments of one training, each a folder of its own within that of the training.

`steps/000100` is the model after 100 steps and `steps/000000` the one before training: `model.json` and
`model.safetensors`, as for every model, so that whatever takes a model takes these. Their names have the order of the
steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gatescope.engine.errors import InputError
from gatescope.engine.files import write_atomic
from gatescope.engine.model import CharacterModel
from gatescope.engine.model_description import DESCRIPTION
from gatescope.engine.trained_model import WEIGHTS, write_weights

STEPS = "steps"


def kept_folder(folder: Path, step: int) -> Path:
    """Return where the model after some steps of a training is kept."""
    return folder / STEPS / f"{step:06d}"


def kept_models(folder: Path) -> list[Path]:
    """Return the folders of the models that a training has kept so far, in the order of their steps."""
    found = (path.parent for path in folder.glob(f"{STEPS}/[0-9]*/{DESCRIPTION}"))
    return sorted(found, key=lambda kept: (len(kept.name), kept.name))


def kept_names(folder: Path) -> list[str]:
    """Return the names, within its folder, of what a training has kept, begun ones too; what else is there is not its.

    A killed one may have left a model without its description, or a half of either file.
    """
    found = {path.parent for name in (WEIGHTS, DESCRIPTION) for path in folder.glob(f"{STEPS}/[0-9]*/{name}*")}
    return sorted(kept.relative_to(folder).as_posix() for kept in found)


def keep_model(folder: Path, model: CharacterModel, step: int, nats: float) -> None:
    """Write the model after some steps; the folder of its training has the description already.

    Args:
        folder: of the training.
        model: as it is now.
        step: how many steps it was trained.
        nats: its validation loss, in nats per character.
    """
    kept = kept_folder(folder, step)
    kept.mkdir(parents=True, exist_ok=True)
    write_weights(kept, model, {"step": step, "validation_nats": nats})
    # Last, for it makes a model of the folder.
    write_atomic(kept / DESCRIPTION, (folder / DESCRIPTION).read_bytes())


def require_kept(folder: Path, steps: Sequence[int]) -> None:
    """Check that the models after these steps are still there.

    Raises:
        InputError: one is gone.
    """
    for kept in (kept_folder(folder, step) for step in steps):
        for name in (WEIGHTS, DESCRIPTION):
            if not (kept / name).is_file():
                raise InputError(
                    f"{kept / name}, which the training kept, is missing: copy it back, or start over with --overwrite"
                )
