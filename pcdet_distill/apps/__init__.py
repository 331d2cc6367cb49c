"""Programs built on the library: data, quickstart and studies, subcommands of ``pcdet-distill``."""
