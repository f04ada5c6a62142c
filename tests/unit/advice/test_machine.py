"""Sizes with units, machines by flags, and rates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afina.advice import machine
from afina.advice.factors import WITH_AMX, WITHOUT_AMX
from afina.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GB", 24 * 2**30), ("24 GiB", 24 * 2**30), ("1.5gb", 3 * 2**29), ("900MB", 900 * 2**20), (".5TB", 2**39)],
)
def test_a_size_has_a_unit(text: str, size: int) -> None:
    assert machine.parse_size(text) == size


def test_a_size_without_a_unit_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        machine.parse_size("24")
    assert str(caught.value) == (
        "'24' is not a size of memory\n"
        "  found: a number without a unit\n"
        "  expected: a number above 0 with a unit: MB or GB\n"
        "  do: --device-memory 24GB"
    )


def test_a_number_is_no_size_either() -> None:
    with pytest.raises(ConfigError) as caught:
        machine.parse_size(8)
    assert str(caught.value) == (
        "8 is not a size of memory\n"
        "  found: a number without a unit\n"
        "  expected: a number above 0 with a unit: MB or GB\n"
        '  do: device_memory="8GB"'
    )


@pytest.mark.parametrize("text", ["", "GB", "24XB", "-1GB", "0GB", "much", "1e9GB", "24Gb/s"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size of memory"):
        machine.parse_size(text)


def test_a_known_gpu_brings_its_memory_and_rates() -> None:
    found = machine.describe_machine("RTX-4090", None)
    assert (found.device, found.memory_bytes, found.is_described) == ("cuda", 24 * 2**30, True)
    assert found.rates is not None
    assert machine.describe_machine("rtx-4090", "20GB").memory_bytes == 20 * 2**30


def test_a_gpu_without_bf16_units_has_the_rates_of_fp32() -> None:
    old, new = machine.describe_machine("t4", None), machine.describe_machine("l4", None)
    assert (old.has_bf16, new.has_bf16) == (False, True)
    assert old.rates is not None
    assert (old.rates.products, old.rates.bandwidth) == (pytest.approx(machine.REACHED * 8.1e12), 320e9)


def test_an_apple_gpu_may_be_described() -> None:
    found = machine.describe_machine("mps", "16GB")
    assert (found.device, found.memory_bytes, found.has_bf16) == ("mps", 16 * 2**30, False)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_work_on_a_gpu_is_waited_for(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    for name in ("cuda", "mps"):
        monkeypatch.setattr(f"torch.{name}.synchronize", lambda name=name: waited.append(name))
    machine.time_fastest(lambda: None, device)
    assert waited == [device] * (machine.REPEATS + 1)


def test_a_machine_that_is_only_described_has_no_rates() -> None:
    assert machine.describe_machine("cuda", "8GB").rates is None


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'tpu' is no device that is known"):
        machine.describe_machine("tpu", "16GB")


def test_the_memory_of_a_device_must_be_said() -> None:
    with pytest.raises(ConfigError) as caught:
        machine.describe_machine("cuda", None)
    assert str(caught.value) == ("how much memory the cuda device has isn't known\n  do: --device-memory 24GB")


@pytest.mark.parametrize("products", ["NaN", "-1.0", "0.0", "Infinity"])
def test_rates_that_are_none_are_measured_again(products: str, tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    path.write_text(f'{{"products": {products}, "bandwidth": 1.0}}')
    assert machine.recall_rates(path) is None


def test_rates_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine.measure_rates("cpu", "fp32")
    assert found.products > 1e8
    assert found.bandwidth > 1e7

    def fail(*given: object) -> machine.Rates:
        raise AssertionError("measured again")

    monkeypatch.setattr(machine, "benchmark", fail)
    assert machine.measure_rates("cpu", "fp32") == found


def test_a_damaged_cache_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = machine.Rates(1.0, 2.0)
    monkeypatch.setattr(machine, "benchmark", lambda *given: rates)
    assert machine.measure_rates("cpu", "fp32") == rates
    (path,) = (machine.locate_cache() / "machines").iterdir()
    path.write_text(json.dumps({"products": 1}))
    monkeypatch.setattr(machine, "benchmark", lambda *given: machine.Rates(3.0, 4.0))
    assert machine.measure_rates("cpu", "fp32") == machine.Rates(3.0, 4.0)


def test_rates_of_amx_are_known_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_cpu_bf16_units", lambda: "AMX and AVX512-BF16")
    assert machine.benchmark("cpu", "bf16").factors is WITH_AMX
    assert machine.benchmark("cpu", "fp32").factors is WITHOUT_AMX
    monkeypatch.setattr(machine, "find_cpu_bf16_units", lambda: "AVX512-BF16")
    assert machine.benchmark("cpu", "bf16").factors is WITHOUT_AMX


def test_old_rates_are_measured_again_and_the_faster_ones_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the two times something else may have run beside."""
    monkeypatch.setattr(machine, "benchmark", lambda *given: machine.Rates(1.0, 4.0, True))
    machine.measure_rates("cpu", "fp32")
    monkeypatch.setattr(machine, "FRESH_SECONDS", 0)
    monkeypatch.setattr(machine, "benchmark", lambda *given: machine.Rates(3.0, 2.0, True))
    assert machine.measure_rates("cpu", "fp32") == machine.Rates(3.0, 4.0, True)
