#!/usr/bin/env bash
# OpenPCDet's other name for dist_train.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_train.sh" "$@"
