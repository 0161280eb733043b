"""Read parameters from a YAML file that uses the training code's names.

GlitchFlow's `process.yaml` and `whiten.yaml`, written one below the other into one file, are such a file. A key takes
effect, or is ignored because it belongs to another method (a GPU's batch size), or must have the one supported value
(`average_type: median`). Any other key and any duplicate key is an error that names it, so that no setting is
ignored silently. Numbers are those of YAML 1.2; `yes` and `no` are those of YAML 1.1, as the training code reads them.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from gwclient.errors import why_unread
from gwservice.regular_file import read_regular
from preproc.errors import BadParameter
from preproc.parameters import DESCRIBED

#: The parameters that have another name in the training code, by section: its name and the name here.
RENAMED = {
    "process": {"num_f_bins": "rows", "length_in_s": "window"},
    "whiten": {"truncation_window_size": "fduration", "psd_win_length": "psd_nfft"},
}
#: The parameters of each section.
SECTIONS = {
    "process": {"window", "stride", "padding", "q", "fmin", "fmax", "rows", "columns", "mismatch"},
    "whiten": {"highpass", "fduration", "psd_fftlength", "psd_nfft", "psd_hop_length"},
    "split": {"train_proportion", "validation_proportion", "split_block", "guard", "rnd_seed"},
}
#: Keys with a single supported value.
FIXED: dict[str, dict[str, Any]] = {
    "process": {"logf": True, "qtile": False, "energy_mode": True, "phase_mode": False}
    | {"psd": None, "window_param": None},
    "whiten": {"average_type": "median", "psd_window_type": "hann", "truncation_window_type": "hann"}
    | {"detrend": True, "convolve_method": "overlapsave"},
}
#: Keys without effect: resolutions that the numbers of bins determine, and settings of other methods.
IDLE = {
    "process": {"num_batch", "shuffle", "fres", "tres", "whiten", "tau", "beta"},
    "whiten": {
        *("stft_nfft", "stft_win_length", "stft_hop_length", "stft_window_type", "center", "normalized"),
        *("normalization", "moving_avg_window_ratio", "epsilon", "exclude_border", "border_fraction"),
        *("border_mitigation", "pad_mode", "design_synth_window", "psd_planck_epsilon", "psd_kaiser_beta"),
        *("truncation_planck_epsilon", "truncation_kaiser_beta"),
    },
}
#: The keys of the section `process` that take effect.
#: Bytes of a file of parameters.
_MOST_BYTES = 1_000_000
#: Digits of a whole number.
_MOST_DIGITS = 1000
_KNOWN = SECTIONS["process"] | RENAMED["process"].keys() | {"frange", "num_t_bins"}


class _Loader(yaml.SafeLoader):
    """Reads numbers as in YAML 1.2, where 2e-1 is a number and 1:20 is not, and rejects duplicate keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as PyYAML declares it)
        first: [
            (tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in {"int", "float", "timestamp"}
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping, or raise BadParameter if it has a duplicate key."""
        mapping = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in mapping.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise BadParameter(f"line {key.start_mark.line + 1}: duplicate key {key.value}")
                keys.add(key.value)
        return mapping

    def construct_object(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 (as PyYAML declares it)
        """Return the value of a node, or raise BadParameter if its text is none of its type."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            line, kind = node.start_mark.line + 1, node.tag.rpartition(":")[2]
            raise BadParameter(f"line {line}: cannot read {str(node.value)[:40]!r} as {kind}") from error


def _whole(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _MOST_DIGITS:
        raise ValueError
    return int(node.value, 0 if node.value[1:2].isalpha() else 10)


def _real(_: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.replace(".inf", "inf").replace(".nan", "nan"))


for _name, _pattern, _construct in (
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _whole),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", _real),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), list("-+.0123456789"))
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _construct)


def read_parameters(path: Path) -> dict[str, float]:
    """Return the parameters in a file, by their names in `Parameters`; raise BadParameter if the file is invalid."""
    try:
        return _read_sections(yaml.load(read_regular(path, _MOST_BYTES, follow=True, pipes=True).decode(), _Loader))  # noqa: S506 (a SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise BadParameter(f"cannot read {path}: {why_unread(error)}") from error
    except RecursionError as error:
        raise BadParameter(f"{path} is nested too deeply") from error
    except yaml.YAMLError as error:
        raise BadParameter(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except BadParameter as error:
        raise BadParameter(f"{path}: {error}") from error


def _read_sections(content: object) -> dict[str, float]:
    parameters: dict[str, float] = {}
    sections = _mapping({} if content is None else content, "the file")
    if sections.keys() >= {"dataset_proc", "process"}:
        raise BadParameter("dataset_proc and process are the same section; remove one of them")
    for name, section in sections.items():
        if name in {"dataset_proc", "process"}:
            inner = _mapping(section, name)
            if "parameters" in inner and (beside := sorted(inner.keys() & _KNOWN)):
                raise BadParameter(f"{name}: {beside[0]} must be within {name}.parameters")
            parameters |= _read_section("process", _mapping(inner.get("parameters", inner), f"{name}.parameters"))
        elif name in SECTIONS:
            parameters |= _read_section(name, _mapping(section, name))
        else:
            raise BadParameter(f"unknown section {name}; the sections are dataset_proc, whiten and split")
    return parameters


def _read_section(section: str, content: Mapping[str, Any]) -> dict[str, float]:
    content = dict(content)
    parameters = _read_range(content) | _read_columns(content) if section == "process" else {}
    for key, value in content.items():
        name = RENAMED.get(section, {}).get(key, key)
        if name in SECTIONS[section]:
            number = _number(DESCRIBED[name][0], f"{section}: {key}", value)
            if parameters.setdefault(name, number) != number:
                raise BadParameter(f"{section}: {key} is {number:g}, but another key sets {parameters[name]:g}")
        elif key in FIXED.get(section, {}):
            if value != (only := FIXED[section][key]):
                raise BadParameter(f"{section}: {key} {value!r} is not supported, only {only!r}")
        elif key not in IDLE.get(section, set()):
            raise BadParameter(f"{section}: unknown key {key}")
    return parameters


def _read_range(content: dict[str, Any]) -> dict[str, float]:
    if "frange" not in content:
        return {}
    match content.pop("frange"):
        case [lowest, highest]:
            return {n: _number(float, "process: frange", value) for n, value in (("fmin", lowest), ("fmax", highest))}
        case other:
            raise BadParameter(f"process: frange must be [lowest, highest] in Hz, got {other!r}")


def _read_columns(content: dict[str, Any]) -> dict[str, float]:
    first, last = content.pop("qslicemin", 0), content.pop("qslicemax", -1 if "num_t_bins" in content else None)
    if first not in {0, None}:
        raise BadParameter(f"process: qslicemin {first!r} would cut off the start of a window; only 0 is supported")
    if "num_t_bins" not in content:
        return {}
    bins = int(_number(int, "process: num_t_bins", content.pop("num_t_bins")))
    last = None if last is None else int(_number(int, "process: qslicemax", last))
    end = bins if last is None else last if last >= 0 else bins + last  # as Python's slice [:last]
    return {"columns": max(0, min(bins, end))}


def _number(kind: type[float], name: str, value: object) -> float:
    if isinstance(value, int if kind is int else int | float) and not isinstance(value, bool):
        with suppress(OverflowError):  # an integer that no float can hold
            if math.isfinite(value):
                return kind(value)
    raise BadParameter(f"{name} must be {'an integer' if kind is int else 'a finite number'}, got {value!r}")


def _mapping(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadParameter(f"{name} must hold keys and values, got {value!r}")
    return value
