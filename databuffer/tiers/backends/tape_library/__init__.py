"""A tape library that is a folder: the tier, its robot, its requests, and failures on request."""
