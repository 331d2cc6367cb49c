"""Write the tables of options in docs/ from the dataclasses that read them.

A page holds a table between two comments, ``<!-- table:NAME begin -->`` and
``<!-- table:NAME end -->``; NAME is a key of ``TABLES``.

    python tools/docs_tables.py            # write the tables
    python tools/docs_tables.py --check    # exit code 1 when a page is not up to date
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pcdet_distill.config import (
    Argo2Options,
    CloudOptions,
    DistillOptions,
    LidarEvalOptions,
    NuScenesOptions,
    TeacherOptions,
    TermOptions,
    WeightOptions,
    option_table,
)
from pcdet_distill.config.nodes import Block, Free, ListOf, Node
from pcdet_distill.config.schema import EXPERIMENT
from pcdet_distill.datasets.augmentor.thin_beams import ThinBeamsOptions
from pcdet_distill.datasets.processor.selection import BeamChoice, SensorChoice, SweepChoice
from pcdet_distill.datasets.synthetic import SceneOptions
from pcdet_distill.datasets.synthetic.sensors.sensor_options import (
    BeamBlockOptions,
    MountOptions,
    SensorOptions,
)
from pcdet_distill.distill.batch_transforms import BATCH_TRANSFORMS
from pcdet_distill.distill.init import InitOptions
from pcdet_distill.distill.losses import DISTILL_LOSSES
from pcdet_distill.distill.losses.graph_options import OFFICIAL, GraphOptions

DOCS = Path(__file__).resolve().parents[1] / "docs"
REGION = re.compile(
    r"(?P<begin><!-- table:(?P<name>[\w-]+) begin -->\n).*?(?P<end><!-- table:(?P=name) end -->)",
    re.DOTALL,
)
HEADING = ("key", "values", "default", "meaning")
# Blocks of an experiment that the table of all keys leaves out.
OTHER_TABLES = ("DISTILL", "MODEL_TEACHER")
# A block with more keys than this is written out once; then its first place is named.
SHORT = 2

Row = tuple[str, ...]


def markdown(heading: Row, rows: list[Row]) -> str:
    """A table of Markdown; a ``|`` inside a cell is escaped."""
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def in_yaml(value: object) -> str:
    """A default value, as one would write it in a yaml file."""
    if value is None or value in ("", {}, ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (int, float)):
        return f"`{value:g}`"
    if isinstance(value, (list, tuple)):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def option_rows(options: type[object], prefix: str = "") -> list[Row]:
    """key, values, default and meaning of every option; a nested block has rows of its own."""
    rows = []
    for info in option_table(options()):
        if not dataclasses.is_dataclass(info.default):
            row = (f"`{prefix}{info.key}`", info.accepts, in_yaml(info.default), info.help)
            rows.append(row)
    return rows


def distill_table() -> str:
    """The keys of DISTILL and of DISTILL.TEACHER."""
    rows = option_rows(TeacherOptions, "TEACHER.") + option_rows(DistillOptions)
    return markdown(HEADING, rows)


def methods_table() -> str:
    """The keys of every loss and batch transform but GraphDistillLoss, which has its own table."""
    rows = []
    for name, term_class in sorted({**DISTILL_LOSSES, **BATCH_TRANSFORMS}.items()):
        if name == "GraphDistillLoss":
            continue
        own_rows = option_rows(term_class.options_class)
        first, *others = own_rows or [("no keys", "", "", "")]
        rows.append((f"`{name}`", *first))
        rows += [("", *row) for row in others]
    return markdown(("NAME", *HEADING), rows)


def graph_table() -> str:
    """The keys of GraphDistillLoss with the values of every preset."""
    presets = {"default": GraphOptions(), **OFFICIAL}
    heading = (
        "key",
        "meaning",
        "`default`",
        "`official`, pillars",
        "`official`, BEV maps",
        "`official`, points",
    )
    rows = []
    for info in option_table(GraphOptions()):
        values = [preset_value(kind, preset, info.key) for kind, preset in presets.items()]
        has_choices = info.accepts.startswith("`")
        meaning = f"{info.help}. One of {info.accepts}" if has_choices else info.help
        rows.append((f"`{info.key}`", meaning, *values))
    return markdown(heading, rows)


def preset_value(kind: str, preset: GraphOptions, key: str) -> str:
    """One value of a preset, with a remark where its number alone would mislead."""
    if (kind, key) == ("point", "EMBED_DIM"):
        return "student's"  # see graph_options.preset_options
    value = in_yaml(getattr(preset, key.lower()))
    if key == "NUM_NODES" and preset.mix_frames:
        return f"{value} per batch"
    if key == "TEMPERATURE" and not preset.weighting.startswith("softmax"):
        return f"{value} (no effect)"
    return value


def scenes_table() -> str:
    """The keys of a scenes yaml, block by block."""
    rows = []
    for info in option_table(SceneOptions()):
        rows += option_rows(type(info.default), f"{info.key}.")
    return markdown(HEADING, rows)


def schema_rows(node: Node, path: str, seen: dict[Row, str]) -> Iterator[Row]:
    """block, keys and classes of every block of the schema, from the outside in.

    Args:
        node: the block at ``path``; a list of blocks counts as one.
        path: its key path.
        seen: keys -> path of the first block that has them; filled here.
    """
    if isinstance(node, ListOf):
        node = node.or_block or node.item
    if not isinstance(node, Block):
        return
    keys = tuple(node.keys)
    if keys in seen and len(keys) > SHORT:
        yield f"`{path}`", f"as `{seen[keys]}`", ""
        return
    seen.setdefault(keys, path)
    listed = [f"`{key}`" for key, below in node.keys.items() if isinstance(below, Free)]
    classes = [f"`{name}`" for name in node.names]
    if listed and path:
        yield f"`{path}`", " ".join(listed), " ".join(classes)
    for key, below in node.keys.items():
        yield from schema_rows(below, f"{path}.{key}".lstrip("."), seen)


def keys_table() -> str:
    """Every block of an experiment with its keys; DISTILL has tables of its own."""
    blocks = {key: node for key, node in EXPERIMENT.keys.items() if key not in OTHER_TABLES}
    rows = list(schema_rows(Block(blocks), "", {}))
    return markdown(("block", "keys", "classes"), rows)


def sensor_table() -> str:
    """The keys of a sensor of the simulator."""
    rows = []
    for row in option_rows(SensorOptions):
        rows.append(row)
        if row[0] == "`BEAMS`":
            rows += option_rows(BeamBlockOptions, "BEAMS[].")
    return markdown(HEADING, rows + option_rows(MountOptions, "MOUNT."))


def selection_table() -> str:
    """The keys of the steps and of the augmentation that select points."""
    blocks = {
        "`select_sensor`": SensorChoice,
        "`select_sweeps`": SweepChoice,
        "`thin_beams`": BeamChoice,
        "`thin_beams` as augmentation": ThinBeamsOptions,
    }
    rows = []
    for name, options in blocks.items():
        first, *others = option_rows(options)
        rows.append((name, *first))
        rows += [("", *row) for row in others]
    return markdown(("NAME", *HEADING), rows)


TABLES: dict[str, Callable[[], str]] = {
    "distill": distill_table,
    "term": lambda: markdown(HEADING, option_rows(TermOptions)),
    "weight": lambda: markdown(HEADING, option_rows(WeightOptions)),
    "init": lambda: markdown(HEADING, option_rows(InitOptions)),
    "methods": methods_table,
    "graph": graph_table,
    "keys": keys_table,
    "scenes": scenes_table,
    "nuscenes": lambda: markdown(HEADING, option_rows(NuScenesOptions)),
    "argoverse2": lambda: markdown(HEADING, option_rows(Argo2Options)),
    "evaluation": lambda: markdown(HEADING, option_rows(LidarEvalOptions)),
    "cloud": lambda: markdown(HEADING, option_rows(CloudOptions)),
    "selection": selection_table,
    "sensor": sensor_table,
}


def with_tables(text: str) -> str:
    """A page with its tables written anew."""

    def filled(region: re.Match[str]) -> str:
        return region["begin"] + TABLES[region["name"]]() + region["end"]

    return REGION.sub(filled, text)


def main() -> None:
    """Write or check every page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit code 1 if needed"
    )
    check = parser.parse_args().check
    outdated = []
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text()
        new_text = with_tables(text)
        if new_text != text:
            outdated.append(page.relative_to(DOCS.parent))
            if not check:
                page.write_text(new_text)
    for page in outdated:
        print(f"{page}: tables {'are not up to date' if check else 'written'}")
    sys.exit(bool(check and outdated))


if __name__ == "__main__":
    main()
