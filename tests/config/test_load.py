"""Loading a config: OpenPCDet's rules for base files, and the message for every mistake."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from easydict import EasyDict

from pcdet_distill.config import errors_name_file, load_config, lookup, to_plain
from pcdet_distill.errors import ConfigError

CFGS = Path(__file__).parents[2] / "cfgs"
STUDIES = set((CFGS / "study").rglob("*.yaml"))  # lists of runs, not experiments
SENSORS = set((CFGS / "synthetic/sensors").glob("*.yaml"))
SCENES = set((CFGS / "synthetic/scenes").glob("*.yaml"))
ALL_CONFIGS = sorted(set(CFGS.rglob("*.yaml")) - STUDIES - SENSORS - SCENES)


@pytest.fixture
def cfgs(repo: Path) -> Path:
    return repo / "cfgs"


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def derived(folder: Path, text: str) -> Path:
    """A file based on pointpillar.yaml."""
    return write(folder, "_BASE_CONFIG_: cfgs/kitti_models/pointpillar.yaml\n" + text)


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL_CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_project_loads(path):
    assert path.stem == load_config(path).TAG


def test_where_the_file_lies_is_added(cfgs, repo):
    cfg = load_config(cfgs / "kitti_models" / "pointpillar.yaml")
    assert isinstance(cfg, EasyDict)
    assert isinstance(cfg.MODEL.VFE, EasyDict)
    assert (repo, "pointpillar", "kitti_models") == (cfg.ROOT_DIR, cfg.TAG, cfg.EXP_GROUP_PATH)
    assert str(cfgs / "kitti_models" / "pointpillar.yaml") == cfg.CONFIG_FILE
    assert "_BASE_CONFIG_" not in cfg.DATA_CONFIG


def test_base_first_then_the_file_dicts_merged_lists_replaced(cfgs):
    cfg = load_config(cfgs / "kitti_models" / "pointpillar.yaml")
    base = load_config(cfgs / "dataset_configs" / "kitti_dataset.yaml")
    assert cfg.DATA_CONFIG.DATA_PATH == base.DATA_PATH == "../data/kitti"
    assert (
        cfg.DATA_CONFIG.POINT_CLOUD_RANGE
        == [0, -39.68, -3, 69.12, 39.68, 1]
        != base.POINT_CLOUD_RANGE
    )
    assert [step.NAME for step in cfg.DATA_CONFIG.DATA_PROCESSOR] == [
        step.NAME for step in base.DATA_PROCESSOR
    ]
    assert cfg.DATA_CONFIG.DATA_PROCESSOR[2].VOXEL_SIZE == [0.16, 0.16, 4]


def test_a_base_of_a_base(cfgs):
    cfg = load_config(cfgs / "kitti_distill" / "pointpillar_16x_pointdistiller.yaml")
    assert cfg.MODEL.VFE.NUM_FILTERS == [16]
    assert cfg.MODEL.VFE.NAME == "PillarVFE"
    assert cfg.DISTILL.TERMS.LOCAL_GRAPH.NAME == "GraphDistillLoss"
    assert cfg.OPTIMIZATION.NUM_EPOCHS == 80


def test_students_differ_from_their_teacher_in_widths_only(cfgs):
    teacher = to_plain(load_config(cfgs / "kitti_models" / "pointpillar.yaml"))
    for name, factor in (("pointpillar_4x", 2), ("pointpillar_16x", 4)):
        student = to_plain(load_config(cfgs / "kitti_distill" / f"{name}.yaml"))
        for place in (
            "VFE.NUM_FILTERS",
            "BACKBONE_2D.NUM_FILTERS",
            "BACKBONE_2D.NUM_UPSAMPLE_FILTERS",
        ):
            block, key = place.split(".")
            narrow, wide = student["MODEL"][block].pop(key), teacher["MODEL"][block][key]
            assert [width * factor for width in narrow] == wide
        assert student["MODEL"]["MAP_TO_BEV"].pop("NUM_BEV_FEATURES") * factor == 64
        assert student["MODEL"]["BACKBONE_2D"].items() <= teacher["MODEL"]["BACKBONE_2D"].items()
        assert all(
            student[key] == teacher[key] for key in ("CLASS_NAMES", "DATA_CONFIG", "OPTIMIZATION")
        )


@pytest.mark.parametrize("elsewhere", ["tmp", "tools", "cfgs"])
def test_bases_are_found_from_any_working_directory(cfgs, repo, tmp_path, monkeypatch, elsewhere):
    monkeypatch.chdir(
        {"tmp": tmp_path, "tools": repo / "tools", "cfgs": cfgs / "kitti_models"}[elsewhere]
    )
    assert load_config(cfgs / "kitti_models" / "second.yaml").DATA_CONFIG.DATASET == "KittiDataset"


def test_a_relative_path_is_also_found_above_the_working_directory(repo, monkeypatch):
    monkeypatch.chdir(repo / "tools")
    assert repo == load_config("cfgs/kitti_models/second.yaml").ROOT_DIR


def test_a_checkout_laid_out_as_openpcdets(cfgs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cfgs, tmp_path / "pcdet" / "tools" / "cfgs")
    base = tmp_path / "pcdet" / "tools" / "cfgs" / "dataset_configs" / "kitti_dataset.yaml"
    base.write_text(base.read_text().replace("FOV_POINTS_ONLY: True", "FOV_POINTS_ONLY: False"))
    cfg = load_config("pcdet/tools/cfgs/kitti_models/second.yaml")
    assert tmp_path / "pcdet" == cfg.ROOT_DIR
    assert cfg.EXP_GROUP_PATH == "kitti_models"
    assert cfg.DATA_CONFIG.FOV_POINTS_ONLY is False, (
        "the base beside the file comes before this checkout's"
    )


def test_a_file_outside_any_cfgs_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(derived(tmp_path / "sub", ""))
    assert (tmp_path, "", "mine") == (cfg.ROOT_DIR, cfg.EXP_GROUP_PATH, cfg.TAG)


def test_nested_groups(cfgs, tmp_path):
    text = (cfgs / "kitti_models" / "second.yaml").read_text()
    cfg = load_config(write(tmp_path, text, "cfgs/a/b/mine.yaml"))
    assert (tmp_path, "a/b") == (cfg.ROOT_DIR, cfg.EXP_GROUP_PATH)


def test_exponents_without_a_dot_are_numbers(tmp_path):
    cfg = load_config(derived(tmp_path, "OPTIMIZATION: {LR: 1e-3, LR_CLIP: 1E-7}"))
    assert cfg.OPTIMIZATION.LR == 0.001
    assert cfg.OPTIMIZATION.LR_CLIP == 1e-7


def test_a_resolved_config_can_be_written_and_loaded_again(cfgs, tmp_path):
    first = to_plain(
        load_config(cfgs / "kitti_models" / "pv_rcnn.yaml", ["OPTIMIZATION.LR", "0.5"])
    )
    second = to_plain(load_config(write(tmp_path, yaml.safe_dump(first))))
    added = {"ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"}
    assert {key: first[key] for key in first.keys() - added} == {
        key: second[key] for key in second.keys() - added
    }


def test_sparsekds_aliases(tmp_path):
    model = "MODEL_TEACHER: {NAME: PointPillar, VFE: {NAME: PillarVFE, NUM_FILTERS: [64]}}"
    cfg = load_config(derived(tmp_path, f"{model}\nTEACHER_CKPT: t.pth\n"))
    assert cfg.DISTILL.TEACHER.MODEL.VFE.NUM_FILTERS == [64]
    assert cfg.DISTILL.TEACHER.CKPT == "t.pth"
    assert "MODEL_TEACHER" not in cfg
    assert "TEACHER_CKPT" not in cfg
    cfg = load_config(
        derived(tmp_path, "TEACHER_CKPT: t.pth\nDISTILL: {TEACHER: {CKPT: mine.pth}}")
    )
    assert cfg.DISTILL.TEACHER.CKPT == "mine.pth"


def test_no_distill_block_appears_by_itself(cfgs):
    assert load_config(cfgs / "kitti_models" / "pointpillar.yaml").get("DISTILL") is None


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (
            "MODEL: {BACKBONE_2D: {LAYER_NUM: [3]}}",
            "unknown key MODEL.BACKBONE_2D.LAYER_NUM; did you mean 'LAYER_NUMS'?",
        ),
        ("MODLE: {NAME: PointPillar}", "unknown key MODLE; did you mean 'MODEL'?"),
        (
            "DATA_CONFIG: {POINT_CLOUD_RANG: []}",
            "unknown key DATA_CONFIG.POINT_CLOUD_RANG; did you mean 'POINT_CLOUD_RANGE'?",
        ),
        ("OPTIMIZATION: {lr: 0.1}", "unknown key OPTIMIZATION.lr; did you mean 'LR'?"),
        ("DISTILL: {TEACHR: {}}", "unknown key DISTILL.TEACHR; did you mean 'TEACHER'?"),
        (
            "DATA_CONFIG: {DATA_PROCESSOR: [{NAME: shuffle_points, SHUFFLE_ENABLE: true}]}",
            "unknown key DATA_CONFIG.DATA_PROCESSOR[0].SHUFFLE_ENABLE; "
            "did you mean 'SHUFFLE_ENABLED'?",
        ),
        (
            "DATA_CONFIG: {DATA_SPLIT: {trian: x}}",
            "unknown key DATA_CONFIG.DATA_SPLIT.trian; did you mean 'train'?",
        ),
        (
            "MODEL: {DENSE_HEAD: {ANCHOR_GENERATOR_CONFIG: [{class: Car}]}}",
            "unknown key MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG[0].class; "
            "did you mean 'class_name'?",
        ),
        (
            "MODEL: {VFE: {NAME: PilarVFE}}",
            "MODEL.VFE.NAME: unknown name 'PilarVFE'; did you mean 'PillarVFE'?",
        ),
        (
            "MODEL: {NAME: PointPillars}",
            "MODEL.NAME: unknown name 'PointPillars'; did you mean 'PointPillar'?",
        ),
        (
            "MODEL: {NAME: pointpillar}",
            "MODEL.NAME: unknown name 'pointpillar'; did you mean 'PointPillar'?",
        ),
        (
            "DATA_CONFIG: {DATASET: KitiDataset}",
            "DATA_CONFIG.DATASET: unknown name 'KitiDataset'; did you mean 'KittiDataset'?",
        ),
        (
            "DATA_CONFIG: {DATA_PROCESSOR: [{NAME: shufle_points}]}",
            "DATA_CONFIG.DATA_PROCESSOR[0].NAME: unknown name 'shufle_points'; "
            "did you mean 'shuffle_points'?",
        ),
        (
            "MODEL: {BACKBONE_2D: {LAYER_NUMS: 3}}",
            "MODEL.BACKBONE_2D.LAYER_NUMS: expected a list of numbers, got 3",
        ),
        (
            "MODEL: {BACKBONE_2D: {LAYER_NUMS: [3, 1099511627776]}}",
            "MODEL.BACKBONE_2D.LAYER_NUMS: expected at most 1000 layers, got [3, 1099511627776]",
        ),
        (
            "MODEL: {BACKBONE_2D: {NUM_FILTERS: [a, 1, 2]}}",
            "MODEL.BACKBONE_2D.NUM_FILTERS: expected a list of numbers, got ['a', 1, 2]",
        ),
        (
            "MODEL: {VFE: {NUM_FILTERS: []}}",
            "MODEL.VFE.NUM_FILTERS: expected at least one entry, got an empty list",
        ),
        ("CLASS_NAMES: Car", "CLASS_NAMES: expected a list of texts, got 'Car'"),
        (
            "OPTIMIZATION: {GRAD_NORM_CLIP: much}",
            "OPTIMIZATION.GRAD_NORM_CLIP: expected a number, got 'much'",
        ),
        ("DATA_CONFIG: {DATA_PATH: 5}", "DATA_CONFIG.DATA_PATH: expected text, got 5"),
        (
            "MODEL: {POST_PROCESSING: {NMS_CONFIG: {NMS_TYPE: nms_gp}}}",
            "MODEL.POST_PROCESSING.NMS_CONFIG.NMS_TYPE: unknown name 'nms_gp'; "
            "did you mean 'nms_gpu'?",
        ),
        ("MODEL: {BACKBONE_2D: [3, 5]}", "MODEL.BACKBONE_2D: expected a block of keys, got [3, 5]"),
        (
            "DATA_CONFIG: {DATA_PROCESSOR: 3}",
            "DATA_CONFIG.DATA_PROCESSOR: expected a list of blocks, got 3",
        ),
    ],
)
def test_a_typo_names_file_key_path_and_the_nearest(tmp_path, text, answer):
    path = derived(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: {answer}"


def test_a_typo_in_the_base_names_the_base(tmp_path, cfgs):
    text = (cfgs / "dataset_configs" / "kitti_dataset.yaml").read_text()
    base = write(tmp_path, text.replace("FOV_POINTS_ONLY", "FOV_POINT_ONLY"), "base.yaml")
    path = derived(tmp_path, f"DATA_CONFIG: {{_BASE_CONFIG_: {base}}}")
    with pytest.raises(
        ConfigError, match=f"^{base}: unknown key DATA_CONFIG.FOV_POINT_ONLY; .*'FOV_POINTS_ONLY'"
    ):
        load_config(path)
    with pytest.raises(ConfigError, match=f"^{base}: unknown key FOV_POINT_ONLY"):
        load_config(base)


def test_several_typos_are_counted(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'LR'\? \(and 2 more\)$"):
        load_config(derived(tmp_path, "OPTIMIZATION: {LRR: 1}\nHOOKS: {}\nEXTRA: 1"))


def test_modules_of_others_keep_their_own_keys(tmp_path):
    cfg = load_config(
        derived(tmp_path, "MODEL: {VFE: {NAME: MyOwnEncoder, DEPTH: 3, INNER: {WIDTH: 4}}}")
    )
    assert cfg.MODEL.VFE.INNER.WIDTH == 4
    cfg = load_config(derived(tmp_path, "MODEL: {VFE: {NAME: MyPillarVFE, DEPTH: 3}}"))
    assert cfg.MODEL.VFE.DEPTH == 3, "a known name with a prefix is no slip"
    cfg = load_config(
        derived(tmp_path, "DATA_CONFIG: {DATASET: WaymoDataset, PROCESSED_DATA_TAG: x}")
    )
    assert cfg.DATA_CONFIG.PROCESSED_DATA_TAG == "x"


def test_an_unknown_name_found_while_building_names_the_file(cfgs):
    cfg = load_config(cfgs / "kitti_models" / "pointpillar.yaml")
    with pytest.raises(ConfigError) as caught, errors_name_file(cfg):
        lookup({"MeanVFE": 1}, "MyVFE", "MODEL.VFE.NAME")
    assert (
        str(caught.value)
        == f"{cfg.CONFIG_FILE}: MODEL.VFE.NAME: unknown name 'MyVFE'; did you mean 'MeanVFE'?"
    )


@pytest.mark.parametrize("missing", ["CLASS_NAMES", "DATA_CONFIG", "MODEL"])
def test_a_missing_part_is_named(cfgs, tmp_path, missing):
    content = to_plain(load_config(cfgs / "kitti_models" / "second.yaml"))
    del content[missing]
    with pytest.raises(ConfigError, match=f"mine.yaml: key {missing} is missing$"):
        load_config(write(tmp_path, yaml.safe_dump(content)))


def test_missing_files_name_the_nearest(cfgs, tmp_path):
    with pytest.raises(
        ConfigError, match=r"pointpilar\.yaml: no such file .*did you mean 'pointpillar\.yaml'"
    ):
        load_config(cfgs / "kitti_models" / "pointpilar.yaml")
    with pytest.raises(ConfigError, match="is a folder, expected a yaml file"):
        load_config(tmp_path)
    path = write(tmp_path, "DATA_CONFIG: {_BASE_CONFIG_: cfgs/nowhere.yaml}")
    with pytest.raises(
        ConfigError,
        match=r"mine\.yaml: DATA_CONFIG\._BASE_CONFIG_: cfgs/nowhere\.yaml: no such file",
    ):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"MODEL: [1, 2\nCLASS_NAMES: x", "not valid yaml in line 2"),
        (b"\tMODEL: 1", "not valid yaml in line 1"),
        (b"", "expected a mapping of keys, found nothing"),
        (b"- 1\n- 2", "expected a mapping of keys, found other yaml"),
        (b"\xff\xfe\x00\x81", "not a text file, expected yaml"),
        (b"a: \x01", "not valid yaml"),
        (b"a: !!python/object/apply:os.system ['true']", "not valid yaml in line 1"),
    ],
)
def test_files_that_are_no_yaml(tmp_path, content, answer):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=answer) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_base_of_itself_ends(tmp_path):
    write(tmp_path, "_BASE_CONFIG_: b.yaml", "a.yaml")
    write(tmp_path, "_BASE_CONFIG_: a.yaml", "b.yaml")
    with pytest.raises(ConfigError, match=r"b\.yaml: _BASE_CONFIG_: a\.yaml is based on itself"):
        load_config(tmp_path / "a.yaml")
