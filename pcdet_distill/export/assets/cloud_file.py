"""Read the points of a file with numpy alone, for trying ``detect.py`` on recorded clouds."""

from pathlib import Path

import numpy as np

FEW_NEGATIVE = 0.01  # share of intensities
INTENSITY_NAMES = ("intensity", "i", "reflectivity", "reflectance", "remission")


class CloudFileError(ValueError):
    """One sentence that says what is wrong with a file."""


def read_points(path, features, columns=None):
    """Points (N, C) of a file; ``columns``: those of a file that names none (all but .pcd)."""
    path = Path(path)
    kinds = (".bin", ".npy", ".npz", ".pcd")
    if path.suffix not in kinds:
        raise CloudFileError(f"{path}: expected a file that ends in {', '.join(kinds)}")
    try:
        table = read_pcd(path) if path.suffix == ".pcd" else read_array(path, columns or features)
    except FileNotFoundError:
        raise CloudFileError(f"{path}: no such file") from None
    except (ValueError, LookupError, TypeError) as error:
        raise CloudFileError(f"{path} cannot be read: {error}") from None
    if "timestamp" not in table:
        table["timestamp"] = np.zeros(len(table["x"]))  # a single sweep
    for name in INTENSITY_NAMES:
        if name in table:
            table.setdefault("intensity", table[name])
    missing = [name for name in features if name not in table]
    if missing:
        found = ", ".join(table)
        raise CloudFileError(f"{path} has the columns {found}, the model also reads {missing[0]}")
    if (np.asarray(table.get("intensity", 0)) < 0).mean() > FEW_NEGATIVE:
        print(f"warning: {path}: negative intensities; does it have other columns? --columns")
    return np.stack([table[name] for name in features], axis=1).astype(np.float32)


def read_array(path, columns):
    """The columns of a .npy or .npz file, or of the float32 numbers of a .bin file."""
    if path.suffix == ".bin":
        array = np.fromfile(path, np.float32)
        array = array if len(array) % len(columns) else array.reshape(-1, len(columns))
    else:
        loaded = np.load(path, allow_pickle=False)
        array = loaded["points"] if path.suffix == ".npz" else loaded
    if array.ndim != 2 or array.shape[1] != len(columns):
        columns = ", ".join(columns)
        raise ValueError(f"its shape is {array.shape}, not that of {columns}; use --columns")
    return dict(zip(columns, array.T))


def read_pcd(path):
    """The columns of PCL's format, ASCII or binary. A column of several numbers gives its last."""
    header, _, rest = path.read_bytes().partition(b"\nDATA ")
    kind, _, data = rest.partition(b"\n")
    lines = [line.split() for line in header.decode("latin-1").splitlines()]
    entries = {words[0]: words[1:] for words in lines if words}
    counts = [int(count) for count in entries.get("COUNT", ["1"] * len(entries["FIELDS"]))]
    names = np.repeat([name.lower() for name in entries["FIELDS"]], counts).tolist()
    num_points = int(entries["POINTS"][0])
    if kind.strip() == b"binary":
        types = [f"<{of.lower()}{size}" for of, size in zip(entries["TYPE"], entries["SIZE"])]
        fields = [(str(place), of) for place, of in enumerate(np.repeat(types, counts).tolist())]
        table = np.frombuffer(data, np.dtype(fields), num_points)
        return {name: table[str(place)] for place, name in enumerate(names)}
    if kind.strip() == b"ascii":
        return dict(
            zip(names, np.array(data.split(), np.float64).reshape(num_points, len(names)).T)
        )
    raise ValueError(f"DATA {kind.decode('latin-1')} is not read here, only ascii and binary")
