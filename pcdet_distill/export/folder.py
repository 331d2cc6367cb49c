"""The folder that a robot copies: the network, its config, the program that runs them, a README."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError
from .config import CONFIG_FILE, MODEL_FILE, ExportConfig

ASSETS = Path(__file__).parent / "assets"
PROGRAM = "detect.py"
PROGRAM_FILES = (PROGRAM, "cloud_file.py")  # the second one reads recorded clouds for the first


def write_runtime_folder(folder: str | Path, network: bytes, config: ExportConfig) -> list[Path]:
    """Write the network, config.json, README.md and the program; returns their paths.

    A network of which stages stand outside gets no program, which could not run it.
    """
    files: dict[str, bytes] = {MODEL_FILE: network}
    if not config.stages_outside:
        for name in PROGRAM_FILES:
            files[name] = (ASSETS / name).read_bytes()
    files["README.md"] = readme(config).encode()
    files[CONFIG_FILE] = config.to_text().encode()
    return write_files(folder, files)


def write_files(folder: str | Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write all files into a folder, which is made if it is not there, or none of them."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial") as name:
            for file, content in files.items():
                (Path(name) / file).write_bytes(content)
            for file in files:
                (Path(name) / file).replace(folder / file)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    return [folder / file for file in files]


def readme(config: ExportConfig) -> str:
    """What stands in README.md."""
    heading = f"# {config.detector} for {', '.join(config.class_names)}"
    made = (
        f"Made from `{config.checkpoint}` by pcdet_distill {config.package_version}. It reads "
        f"points with the columns {', '.join(config.points.features)}: in metres, x forward, y "
        "left, z up."
    )
    if config.stages_outside:
        return (
            f"{heading}\n\n{made}\n\n`{MODEL_FILE}` is a part of the network: "
            f"{', '.join(config.stages_outside)} must run before it, in pcdet_distill. "
            f"`{CONFIG_FILE}` describes its inputs and outputs.\n"
        )
    return f"""{heading}

{made}

    pip install numpy onnxruntime
    python {PROGRAM} cloud.bin --out boxes.json      # .bin, .npy, .npz, .pcd or .ply

    from {Path(PROGRAM).stem} import Detector
    boxes, scores, names = Detector("this folder")(points)

Copy the folder as a whole: `{MODEL_FILE}` and `{CONFIG_FILE}` belong together.
"""
