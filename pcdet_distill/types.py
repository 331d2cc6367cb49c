"""Names for the dictionaries that travel through the whole library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

# One block of a yaml file, such as MODEL or DATA_CONFIG. Its values are whatever yaml can hold.
ConfigDict: TypeAlias = Mapping[str, Any]

# The same block while it is put together: base file, own keys, --set.
MutableConfig: TypeAlias = dict[str, Any]

# OpenPCDet's batch_dict: every module reads its inputs from it and adds its outputs to it.
# The table in models/__init__.py lists the keys.
BatchDict: TypeAlias = dict[str, Any]
