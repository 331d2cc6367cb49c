"""What people run beside training and testing; each of these is a subcommand of ``pcdet-distill``."""
