#!/usr/bin/env bash
# Evaluate with one GPU of a SLURM cluster: slurm_test_single.sh PARTITION ARGS OF test.py ...
# CPUS_PER_TASK and SRUN_ARGS (environment variables) are passed to srun.
set -euo pipefail
TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PARTITION="${1:?usage: slurm_test_single.sh PARTITION ARGS OF test.py ...}"
# SRUN_ARGS is a list of words
# shellcheck disable=SC2086
exec srun -p "$PARTITION" --job-name=test --gres=gpu:1 --ntasks=1 --ntasks-per-node=1 \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$TOOLS/test.py" "${@:2}"
