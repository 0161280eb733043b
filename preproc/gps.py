"""How GPS times are written for people."""


def gps_text(seconds: float) -> str:
    """Write GPS seconds with as many decimals as they need, up to microseconds."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
