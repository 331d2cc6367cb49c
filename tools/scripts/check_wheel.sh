#!/usr/bin/env bash
# Build the wheel, install it into an empty environment in an empty folder, and run the smoke quickstart there.
# PCDET_DISTILL_PYTHON chooses the python; the folder is removed at the end.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
FOLDER="$(mktemp -d)"
trap 'rm -rf "$FOLDER"' EXIT

"${PCDET_DISTILL_PYTHON:-python3}" -m venv "$FOLDER/venv"
PIP=("$FOLDER/venv/bin/python" -m pip --disable-pip-version-check)
"${PIP[@]}" wheel --quiet --no-deps --wheel-dir "$FOLDER/dist" "$ROOT"
"${PIP[@]}" install --quiet -c "$ROOT/constraints/cpu.txt" "$(echo "$FOLDER"/dist/*.whl)[viz]"

mkdir "$FOLDER/empty"
cd "$FOLDER/empty"
"$FOLDER/venv/bin/pcdet-distill" --version
"$FOLDER/venv/bin/pcdet-distill" demo
"$FOLDER/venv/bin/pcdet-distill" quickstart --fast
