"""A tape system of the grid: the tier, and the clients of HTTP, WebDAV and the WLCG Tape REST API."""
