from pathlib import Path

import pytest

from preproc.errors import BadParameter
from preproc.parameter_file import read_parameters
from preproc.parameters import Parameters

#: The training code's own files, one below the other.
TRAINING = """
dataset_proc:
  parameters:
    num_batch: 4
    q: 12
    frange:
     - 8
     - 500
    fres: 0.5
    tres: 0.1
    num_t_bins: 257
    num_f_bins: 64
    logf: Yes
    qtile: No
    whiten: No
    psd: null
    energy_mode: Yes
    phase_mode: No
    window_param : null
    tau: 0.5
    beta: 8.6
    shuffle: No
    qslicemin: 0
    qslicemax: -1
whiten:
    psd_nfft: 8192
    psd_win_length: 8192
    psd_hop_length: 128
    stft_nfft: 8192
    stft_win_length: 8192
    stft_hop_length: 512
    stft_window_type: 'hann'
    center: Yes
    normalized: 'energy'
    average_type: 'median'
    normalization: 'ml4gw'
    moving_avg_window_ratio: 0.2
    epsilon: 1.0e-31
    exclude_border: No
    border_fraction: 0.3333333
    border_mitigation: Yes
    pad_mode: 'constant'
    design_synth_window: Yes
    psd_window_type: 'hann'
    psd_planck_epsilon: 0.5
    psd_kaiser_beta: 100
    truncation_window_type: 'hann'
    truncation_planck_epsilon: 0.5
    truncation_kaiser_beta: 4
    detrend: Yes
    truncation_window_size: 2
    convolve_method: 'overlapsave'
"""


def read(tmp_path: Path, text: str) -> dict[str, float]:
    file = tmp_path / "preproc.yaml"
    file.write_text(text)
    return read_parameters(file)


def test_the_training_codes_own_files_are_understood_and_are_the_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, TRAINING)
    in_samples = {"psd_nfft": 8192, "psd_hop_length": 128}
    assert found == {"q": 12, "fmin": 8, "fmax": 500, "columns": 256, "rows": 64, "fduration": 2} | in_samples
    assert Parameters(**found) == Parameters(**in_samples)  # type: ignore[arg-type]


def test_names_of_our_own_stand_beside_them(tmp_path: Path) -> None:
    text = "process: {window: 4, stride: 2.5}\nwhiten: {highpass: 15}\nsplit: {train_proportion: 0.9, rnd_seed: 7}\n"
    expected = {"window": 4, "stride": 2.5, "highpass": 15, "train_proportion": 0.9, "rnd_seed": 7}
    assert read(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2e-1", 0.2),
        ("2E1", 20),
        ("-.5e+1", -5),
        ("+12.", 12),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
    ],
)
def test_numbers_are_those_of_yaml_1_2(tmp_path: Path, text: str, number: float) -> None:
    assert read(tmp_path, f"process: {{mismatch: {text}}}") == {"mismatch": number}


@pytest.mark.parametrize(
    ("bins", "last", "columns"),
    [(257, "-1", 256), (257, "~", 257), (10, "4", 4), (10, "40", 10), (3, "-5", 0), (-3, "1", 0), (10**30, "64", 64)],
)
def test_the_columns_are_those_that_the_slice_of_the_training_code_leaves(
    tmp_path: Path, bins: int, last: str, columns: int
) -> None:
    assert read(tmp_path, f"process: {{num_t_bins: {bins}, qslicemax: {last}}}") == {"columns": columns}


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("whiten: {average_type: mean}", "whiten: average_type 'mean' is not supported, only 'median'"),
        ("dataset_proc: {parameters: {phase_mode: yes}}", "process: phase_mode True is not supported, only False"),
        ("whiten: {psd_nftt: 8192}", "whiten: unknown key psd_nftt"),
        ("dataset_scan: {}", "unknown section dataset_scan; the sections are dataset_proc, whiten and split"),
        ("process: {q: high}", "process: q must be a finite number, got 'high'"),
        ("process: {mismatch: .nan}", "process: mismatch must be a finite number, got nan"),
        ("process: {q: -.inf}", "process: q must be a finite number, got -inf"),
        ("process: {q: true}", "process: q must be a finite number, got True"),
        ("process: {rows: 6.5}", "process: rows must be an integer, got 6.5"),
        ("process: {frange: 8}", r"process: frange must be \[lowest, highest\] in Hz, got 8"),
        ("process: {qslicemin: 3}", "qslicemin 3 would cut off the start"),
        ("whiten: {psd_nfft: 8192, psd_win_length: 4096}", "psd_win_length is 4096, but another key sets 8192"),
        ("process: 3", "process must hold keys and values, got 3"),
        ("- 1", "the file must hold keys and values"),
        ("process: {rows: 1:20}", "process: rows must be an integer, got '1:20'"),
        ("process: {q: 1_2}", "process: q must be a finite number, got '1_2'"),
        ("process: {q: 2020-01-01}", "process: q must be a finite number, got '2020-01-01'"),
        ("process: {q: " + "9" * 400 + "}", "process: q must be a finite number, got 999"),
        ("process: {q: 12, q: 13}", "line 1: duplicate key q"),
        ("process: {q: 12}\nwhiten: {}\nprocess: {q: 13}", "line 3: duplicate key process"),
        ('dataset_proc:\n parameters:\n  q: 1\n  "q": 1', "line 4: duplicate key q"),
        ("dataset_proc: {}\nprocess: {q: 13}", "dataset_proc and process are the same section"),
        ("dataset_proc: {parameters: {}, q: 13}", "dataset_proc: q must be within dataset_proc.parameters"),
        ("0", "the file must hold keys and values, got 0"),
        ("process: {q: !!int x}", "line 1: cannot read 'x' as int"),
        ("process:\n  q: !!bool x", "line 2: cannot read 'x' as bool"),
        ("process: {q: !!float ''}", "line 1: cannot read '' as float"),
        ("process: {q: !!timestamp x}", "line 1: cannot read 'x' as timestamp"),
        ("process: {num_t_bins: " + "9" * 5000 + "}", "line 1: cannot read '9{40}' as int"),
        ("process: {q: 0x" + "f" * 5000 + "}", "line 1: cannot read '0xf{38}' as int"),
        ("[" * 5000, "is nested too deeply"),
        ("a: [", r"preproc\.yaml is not YAML: while parsing"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadParameter, match=rf"preproc\.yaml.*{message}" if "YAML" not in message else message):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"cannot read .*: No such file or directory"):
        read_parameters(tmp_path / "nothing.yaml")
