"""Read the points of a file with numpy alone, for trying ``detect.py`` on recorded clouds."""

from pathlib import Path

import numpy as np

FEW_NEGATIVE = 0.01  # share of intensities
INTENSITY_NAMES = ("intensity", "i", "reflectivity", "reflectance", "remission")
PLY_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
PLY_TYPES |= {"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2"}
PLY_TYPES |= {"uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"}
PLY_ORDERS = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}


class CloudFileError(ValueError):
    """One sentence that says what is wrong with a file."""


def read_points(path, features, columns=None):
    """Points (N, C) of a file; ``columns``: those of a file that names none (.bin, .npy)."""
    path = Path(path)
    kinds = (".bin", ".npy", ".npz", *READERS)
    kind = path.suffix.lower()
    if kind not in kinds:
        raise CloudFileError(f"{path}: expected a file that ends in {', '.join(kinds)}")
    try:
        if kind in READERS:
            table = READERS[kind](path)
        else:
            table = read_array(path, columns or features)
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
    points = np.stack([table[name] for name in features], axis=1).astype(np.float32)
    warn(path, points, table.get("intensity", np.zeros(1)))
    return points


def warn(path, points, intensities):
    """Print what looks wrong with the points (N, C) of a file."""
    if not np.isfinite(points).all(axis=1).any():
        print(f"warning: {path} holds no point whose numbers are all finite")
    elif (intensities < 0).mean() > FEW_NEGATIVE:
        print(f"warning: {path}: negative intensities; does it have other columns? --columns")


def read_array(path, columns):
    """The columns of a .npy or .npz file, or of the float32 numbers of a .bin file."""
    kind = path.suffix.lower()
    if kind == ".bin":
        content = path.read_bytes()
        if len(content) % (4 * len(columns)):
            row = f"{len(columns)} float32 numbers ({', '.join(columns)}); use --columns"
            raise ValueError(f"its {len(content)} bytes are no whole number of points of {row}")
        array = np.frombuffer(content, np.float32).reshape(-1, len(columns))
    else:
        loaded = np.load(path, allow_pickle=False)
        array = loaded["points"] if kind == ".npz" else loaded
    if array.dtype.kind not in "fiu":
        raise ValueError(f"it holds {array.dtype}, not numbers")
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
    if not {"FIELDS", "SIZE", "TYPE", "POINTS"} <= entries.keys():
        raise ValueError("its header lacks FIELDS, SIZE, TYPE or POINTS")
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


def read_ply(path):
    """The columns of the vertices, ASCII or binary; they must be the first element of the file."""
    header, _, data = path.read_bytes().partition(b"end_header")
    data = data[data.find(b"\n") + 1 :]
    lines = [line.split() for line in header.decode("latin-1").splitlines()]
    elements = [number for number, words in enumerate(lines) if words[:1] == ["element"]]
    if lines[0] != ["ply"] or not elements or lines[elements[0]][1] != "vertex":
        raise ValueError("it is no PLY file whose first element is vertex")
    num_points = int(lines[elements[0]][2])
    rows = lines[elements[0] : elements[1] if len(elements) > 1 else None]
    properties = [words[1:] for words in rows if words[:1] == ["property"]]
    kinds = [words[1] for words in lines if words[:1] == ["format"]]
    byte_order = PLY_ORDERS[kinds[0]]
    fields = [(name.lower(), PLY_TYPES[of]) for of, name in properties]
    if byte_order is None:
        numbers = np.array(data.split()[: num_points * len(fields)], np.float64)
        return dict(zip([name for name, _ in fields], numbers.reshape(num_points, len(fields)).T))
    dtype = np.dtype([(name, byte_order + of) for name, of in fields])
    table = np.frombuffer(data, dtype, num_points)
    return {name: table[name] for name, _ in fields}


READERS = {".pcd": read_pcd, ".ply": read_ply}  # of files that name their columns
