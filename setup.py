"""Everything about the package is in pyproject.toml; this file adds the yaml files to the wheel."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigs(build_py):
    """``cfgs/`` of the checkout travels in the wheel as ``pcdet_distill/cfgs``."""

    def run(self) -> None:
        """Copy the modules, then the yaml files; an editable install needs no copy."""
        super().run()
        if not self.editable_mode:
            copytree(
                ROOT / "cfgs", Path(self.build_lib, "pcdet_distill", "cfgs"), dirs_exist_ok=True
            )


setup(cmdclass={"build_py": BuildWithConfigs})
