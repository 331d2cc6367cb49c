"""Objects of the simulator: shapes of convex pieces, put together once and placed many times.

shapes            the pieces; ``materials`` what they do with a laser pulse
road_users        templates with a label; ``more_road_users`` further ones
street            templates without a label; ``lookalike_shapes`` those that look like a road user
library           all templates by name
"""
