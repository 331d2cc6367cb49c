"""From a study's folder back to its yaml, so that ``pcdet-distill report FOLDER`` can open it.

``call.json`` in ``output/study/NAME`` keeps what the command line said. Folders of earlier versions
have only ``study.json``, which names the yaml too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...errors import ConfigError, DataError
from .records import OWNER, read_json, write_json
from .spec import StudySpec, override, read_study

CALL = "call.json"
LEVELS_BELOW_ROOT = 3  # of output/study/NAME


@dataclass(frozen=True)
class Call:
    """What the command line of a study said.

    Attributes:
        file: the study's yaml, as seen from the checkout.
        epochs: of ``--epochs``.
        seeds: of ``--seeds``.
        device: of ``--device``.
        workers: data loading processes of each training.
        on_gpu: whether its trainings run on GPUs.
    """

    file: str
    epochs: int | None = None
    seeds: Sequence[int] | None = None
    device: str | None = None
    workers: int = 0
    on_gpu: bool = False


def keep_call(call: Call, folder: Path) -> None:
    """Store the call in the study's folder."""
    write_json(folder / CALL, asdict(call))


def is_study_folder(folder: Path) -> bool:
    """Whether a folder is ``output/study/NAME`` of a study that was begun."""
    return any((folder / name).is_file() for name in (CALL, OWNER))


def reopen(folder: Path) -> tuple[StudySpec, Path, Call]:
    """The study of a folder, the checkout it lies in, and the call that made it.

    Raises:
        ConfigError: its yaml is gone, or it describes another folder.
        DataError: the folder does not say which yaml it belongs to.
    """
    folder = folder.resolve()
    call = _read_call(folder)
    root = folder.parents[LEVELS_BELOW_ROOT - 1]
    spec = override(read_study(root / call.file), epochs=call.epochs, seeds=call.seeds)
    if root / "output" / "study" / spec.name != folder:
        raise ConfigError(
            f"{folder}: {call.file} is the study '{spec.name}', whose folder is "
            f"output/study/{spec.name}; expected a folder that was not moved or renamed. For one "
            "that --epochs or --seeds made, 'pcdet-distill study' with these flags and --table "
            "writes the page"
        )
    return spec, root, call


def _read_call(folder: Path) -> Call:
    """The stored call; for a folder of an earlier version, its yaml alone."""
    file = folder / CALL
    if not file.is_file():
        file = folder / OWNER
    content = read_json(file)
    if not isinstance(content, Mapping) or not isinstance(content.get("file"), str):
        raise DataError(f"{file}: does not name the yaml of a study; expected an entry 'file'")
    known = {key: content[key] for key in asdict(Call("")) if key in content}
    return Call(**known)
