from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from http_support import FakeHost, hosts

from pytest_agentperf.config.power import ExporterPower, Metric, PrometheusPower
from pytest_agentperf.core.energy import WindowEnergy, integrate
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power_series import PowerSeriesBuilder
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.power.exporter import ExporterReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_agentperf.core.power import PowerProblem
    from pytest_agentperf.power.reader import Reading

BLANK = "9223372036854775794"


def dcgm_line(metric: str, gpu: int, value: object, host: str = "node", **more: str) -> str:
    labels = {
        "gpu": str(gpu),
        "UUID": f"GPU-{host}-{gpu}",
        "device": f"nvidia{gpu}",
        "modelName": "NVIDIA H100 80GB HBM3",
        **more,
        "Hostname": host,
        "DCGM_FI_DRIVER_VERSION": "570.86.15",
    }
    inside = ",".join(f'{name}="{text}"' for name, text in labels.items())
    return f"{metric}{{{inside}}} {value}\n"


def dcgm(host: str = "node", *, gpus: int = 1, watts: object = 500.0, millijoules: object = None) -> str:
    text = ""
    for gpu in range(gpus):
        text += dcgm_line("DCGM_FI_DEV_POWER_USAGE", gpu, watts, host)
        if millijoules is not None:
            text += dcgm_line("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", gpu, millijoules, host)
    return text


def live(host: str, *, gpus: int, period_s: float = 0.02, watts: float = 500) -> Callable[[], str]:
    """An exporter that collects every `period_s`: a counter that rises by `watts` each second."""

    def body() -> str:
        ticks = time.monotonic_ns() // round(period_s * 1e9)
        return dcgm(
            host, gpus=gpus, watts=watts + ticks % 2, millijoules=round(ticks * period_s * watts * 1e3)
        )

    return body


class Opened:
    """A reader on some hosts, its readings and its problems."""

    def __init__(self, reader: ExporterReader) -> None:
        self.reader = reader
        self.problems: list[PowerProblem] = []

    def read(self) -> list[Reading]:
        readings = list(self.reader.read())
        # As the sampler does: each kind once per device and phase.
        for problem in self.reader.take_problems():
            if (problem.code, problem.device) not in {(p.code, p.device) for p in self.problems}:
                self.problems.append(problem)
        return readings

    def until(self, seen: Callable[[list[Reading]], bool]) -> list[Reading]:
        """Read until something is seen, five seconds at most."""
        readings: list[Reading] = []
        end_s = time.monotonic() + 5
        while time.monotonic() < end_s:
            readings += self.read()
            if seen(readings):
                return readings
            time.sleep(0.01)
        raise AssertionError(f"not seen; problems: {self.problems}")


@pytest.fixture
def reading() -> Iterator[Callable[..., Opened]]:
    readers: list[ExporterReader] = []

    def make(*found: FakeHost, config: Any = None, period_s: float | None = 0.02, **more: Any) -> Opened:
        urls = tuple(host.url for host in found)
        config = config or ExporterPower(source="dcgm", urls=urls, update_period_s=period_s, **more)
        readers.append(ExporterReader(config, watch_s=2))
        readers[-1].open()
        return Opened(readers[-1])

    yield make
    for reader in readers:
        reader.close()


def energy(builder: PowerSeriesBuilder, opened: Opened, open_ns: int, close_ns: int, n: int) -> WindowEnergy:
    return integrate(
        builder.build(problems=tuple(opened.problems)),
        open_ns=open_ns,
        close_ns=close_ns,
        devices_expected=n,
        update_period_s=0.02,
        # A loaded machine may pause; what is missing at the end is missing all the same.
        rules=DEMO_1.model_copy(update={"power_gap_max_s": 10.0}),
    )


def test_eighteen_hosts_of_which_one_dies(reading: Callable[..., Opened]) -> None:
    with hosts(*(live(f"n{i}", gpus=4) for i in range(18))) as found:
        # Harmless, and seen first: its counters go on.
        found[2].body = lambda: dcgm_line("DCGM_FI_DEV_POWER_USAGE", 0, BLANK, "n2") + live("n2", gpus=4)()
        opened = reading(*found)
        builder = PowerSeriesBuilder()

        def sample(seconds: float) -> None:
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s:
                for r in opened.read():
                    builder.add(r.t_ns, r.device, power_w=r.power_w, energy_j=r.energy_j)
                time.sleep(0.05)

        open_ns = time.monotonic_ns()
        sample(1.5)
        alive_ns = time.monotonic_ns() - 200_000_000
        before = energy(builder, opened, open_ns + 200_000_000, alive_ns, 72)
        found[7].die()
        sample(1)
        after = energy(builder, opened, open_ns + 200_000_000, time.monotonic_ns(), 72)
    assert before.invalid_code in (None, "window_too_short")
    assert (after.energy_j, after.invalid_code) == (None, "unreachable")
    assert after.invalid_reason is not None
    assert found[7].name in after.invalid_reason
    # Once, not at every reading; and one connection each, kept.
    assert [(p.code, p.device) for p in opened.problems] == [
        ("sentinel", f"{found[2].name}/0"),
        ("unreachable", found[7].name),
    ]
    assert all(len(host.connections) == 1 for host in found)


def test_a_host_that_returns_comes_back(reading: Callable[..., Opened]) -> None:
    with hosts(live("a", gpus=1), live("b", gpus=1)) as (a, b):
        opened = reading(a, b)
        opened.until(lambda readings: {r.device for r in readings} == {f"{a.name}/0", f"{b.name}/0"})
        b.die()
        opened.until(lambda _: bool(opened.problems))
        only_a = opened.until(lambda readings: len(readings) >= 3)
        assert {r.device for r in only_a[-2:]} == {f"{a.name}/0"}
        back = FakeHost(live("b", gpus=1), port=b.port)
        try:
            opened.until(lambda readings: f"{b.name}/0" in {r.device for r in readings})
        finally:
            back.die()
    assert {p.code for p in opened.problems} == {"unreachable"}


def test_a_slow_host_delays_no_other(reading: Callable[..., Opened]) -> None:
    with hosts(live("a", gpus=1), live("b", gpus=1)) as (a, b):
        opened = reading(a, b)
        b.delay_s = 0.4
        b_asked = b.asked
        readings = opened.until(lambda readings: f"{b.name}/0" in {r.device for r in readings[5:]})
        of = {host: [r for r in readings if r.device == f"{host.name}/0"] for host in (a, b)}
        assert len(of[a]) > 2 * len(of[b])
        # What came late is stamped as of the middle of its request, and no second one was sent meanwhile.
        assert of[b][-1].t_ns < readings[-1].t_ns
        assert b.asked - b_asked <= len(of[b]) + 1
        assert opened.problems == []


def test_a_host_that_hangs_becomes_a_problem(
    reading: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_agentperf.power.exporter.REQUEST_S", 0.3)
    with hosts(live("a", gpus=1), live("b", gpus=1)) as (a, b):
        opened = reading(a, b)
        b.delay_s = 3
        opened.until(lambda _: bool(opened.problems))
        assert [p.text for p in opened.problems] == [f"host {b.name} did not answer within 0.3 s"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>Not here</html>", "sends no Prometheus text: line 1"),
        (b"\xff\xfe\x00", "sends no text"),
        (b"up 1\n", "shows no DCGM_FI_DEV_POWER_USAGE"),
        (b'DCGM_FI_DEV_POWER_USAGE{gpu="0"} 5', "is cut off in its last line"),
        (b'DCGM_FI_DEV_POWER_USAGE{gpu="0"} 5,1\n', "sends no Prometheus text: line 1"),
        (b"x" * (9 * 2**20), "sends more than 8 MiB"),
    ],
)
def test_garbage_is_a_problem_never_a_reading(reading: Callable[..., Opened], body: bytes, said: str) -> None:
    with hosts(live("a", gpus=1)) as (a,):
        opened = reading(a)
        opened.until(lambda readings: len(readings) >= 2)
        a.body = lambda: body
        opened.until(lambda _: bool(opened.problems))
        assert opened.read() == []
        (problem,) = opened.problems
        assert problem.code == "unreachable"
        assert said in problem.text
        assert a.name in problem.text


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (302, {"Location": "http://127.0.0.1:1/elsewhere"}, "redirects (HTTP 302), which is not followed"),
        (401, {}, "refuses access (HTTP 401)"),
        (500, {}, "answers HTTP 500"),
        (200, {"Content-Encoding": "gzip"}, "compressed"),
    ],
)
def test_answers_that_are_none(
    reading: Callable[..., Opened], status: int, headers: dict[str, str], said: str
) -> None:
    with hosts(live("a", gpus=1)) as (a,):
        a.status, a.headers = status, headers
        with pytest.raises(PowerError, match="1 of 1 hosts cannot be read") as caught:
            reading(a)
        assert said in caught.value.what
        assert a.name in caught.value.what
        assert a.asked <= 2


def test_a_host_that_is_not_there_is_named_when_opened(reading: Callable[..., Opened]) -> None:
    with hosts(live("a", gpus=1), live("b", gpus=1)) as (a, b):
        b.die()
        with pytest.raises(PowerError, match=f"1 of 2 hosts cannot be read: {b.name} cannot be reached"):
            reading(a, b)


def test_what_is_told_of_a_device(reading: Callable[..., Opened]) -> None:
    text = (
        dcgm("node7", watts=8.969, millijoules=128996013)
        + dcgm_line("DCGM_FI_DEV_POWER_MGMT_LIMIT", 0, 700.0, "node7")
        + dcgm_line("DCGM_FI_DEV_SM_CLOCK", 0, 1980, "node7")
        + dcgm_line("DCGM_FI_DEV_MEM_CLOCK", 0, BLANK, "node7")
        + dcgm_line("DCGM_FI_DEV_GPU_TEMP", 0, 61, "node7")
        + dcgm_line("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", 0, 0x45, "node7")
    )
    with hosts(lambda: text) as (a,):
        reader = ExporterReader(ExporterPower(source="dcgm", urls=(a.url,), update_period_s=1))
        source = reader.open()
        (found,) = reader.read()
        (state,) = reader.states()
        reader.close()
    assert (source.scope, source.measured, source.update_period_s) == ("gpu+hbm", True, 1)
    (device,) = source.devices
    assert (device.id, device.host, device.name) == (f"{a.name}/0", a.name, "NVIDIA H100 80GB HBM3")
    assert (device.uuid, device.driver, device.power_cap_w) == ("GPU-node7-0", "570.86.15", 700)
    assert found.power_w == 8.969
    assert found.energy_j == pytest.approx(128996.013)
    assert (state.clock_mhz, state.memory_clock_mhz, state.temperature_c) == (1980, None, 61)
    assert state.throttle_reasons == ("sw_power_cap", "hw_thermal_slowdown")


@pytest.mark.parametrize("blank", [BLANK, "2147483632", "2147483634", "140737488355330", "NaN", "+Inf"])
def test_a_blank_is_a_problem_not_a_value(reading: Callable[..., Opened], blank: str) -> None:
    with hosts(lambda: dcgm(watts=blank, millijoules=5000)) as (a,):
        opened = reading(a)
        (found,) = opened.read()
        assert (found.power_w, found.energy_j) == (None, 5.0)
        (problem,) = opened.problems
        assert (problem.code, problem.device) == ("sentinel", f"{a.name}/0")
        assert "DCGM_FI_DEV_POWER_USAGE" in problem.text
        opened.read()
        assert len(opened.problems) == 1


def test_a_mig_instance_is_no_device_of_its_own(reading: Callable[..., Opened]) -> None:
    mig = "".join(
        dcgm_line("DCGM_FI_DEV_POWER_USAGE", 0, watts, GPU_I_PROFILE="1g.10gb", GPU_I_ID=str(i))
        for i, watts in enumerate((300, 300, 300), 7)
    )
    for text in (mig, mig + dcgm(watts=300), dcgm(watts=300) + mig):
        with hosts(partial(str, text)) as (a,):
            (found,) = reading(a).read()
            assert (found.device, found.power_w) == (f"{a.name}/0", 300)


def test_hosts_behind_one_exporter_stay_apart(reading: Callable[..., Opened]) -> None:
    with hosts(lambda: dcgm("n1", watts=100) + dcgm("n2", watts=200)) as (a,):
        found = {r.device: r.power_w for r in reading(a).read()}
        assert found == {f"{a.name}/n1/0": 100, f"{a.name}/n2/0": 200}


def test_one_exporter_under_two_names_counts_once(reading: Callable[..., Opened]) -> None:
    with (
        hosts(live("same", gpus=1), live("same", gpus=1)) as found,
        pytest.raises(PowerError, match="are the same accelerator"),
    ):
        reading(*found)


def test_devices_are_chosen_by_host_and_number(reading: Callable[..., Opened]) -> None:
    with hosts(live("a", gpus=4), live("b", gpus=4)) as (a, b):
        opened = reading(a, b, devices=(f"{a.name}/3", f"{b.name}/0"))
        assert {r.device for r in opened.until(lambda readings: len(readings) >= 2)} == {
            f"{a.name}/3",
            f"{b.name}/0",
        }
        with pytest.raises(PowerError, match="there is no device") as caught:
            reading(a, devices=("node/9",))
        assert f"{a.name}/0" in caught.value.what


def test_a_device_that_disappears(reading: Callable[..., Opened]) -> None:
    with hosts(live("a", gpus=2)) as (a,):
        opened = reading(a)
        a.body = live("a", gpus=1)
        opened.until(lambda readings: len(readings) >= 3)
        assert [(p.code, p.device) for p in opened.problems] == [("device_lost", f"{a.name}/1")]


def test_a_repeated_counter_is_no_reading(reading: Callable[..., Opened]) -> None:
    with hosts(lambda: dcgm(watts=300, millijoules=7000)) as (a,):
        opened = reading(a)
        assert len(opened.read()) == 1
        opened.until(lambda readings: bool(opened.problems) and readings == [])
        assert [p.code for p in opened.problems] == ["stuck"]
        a.body = lambda: dcgm(watts=300, millijoules=7300)
        (found,) = opened.read()
        assert found.energy_j == 7.3


@pytest.mark.parametrize("period_s", [0.3, 0.6])
def test_the_update_rate_is_watched(period_s: float) -> None:
    with hosts(live("a", gpus=1, period_s=period_s), live("b", gpus=1, period_s=0.02)) as found:
        config = ExporterPower(source="dcgm", urls=tuple(host.url for host in found))
        reader = ExporterReader(config, watch_s=8)
        source = reader.open()
        reader.close()
    # The slowest host's; seen at steps of a tenth of a second.
    assert source.update_period_s == pytest.approx(period_s, abs=0.25)
    assert "as watched" in source.notes[-1]


def test_a_rate_that_cannot_be_seen_is_the_shipped_one_and_said() -> None:
    with hosts(lambda: dcgm()) as (a,):
        reader = ExporterReader(ExporterPower(source="dcgm", urls=(a.url,)), watch_s=0.3)
        source = reader.open()
        reader.close()
    assert source.update_period_s == 30
    assert a.name in source.notes[-1]
    assert "update_period_s" in source.notes[-1]


AMD = """\
gpu_package_power{{gpu_id="0",gpu_partition_id="0",card_model="0x74a1",serial_number="S0",hostname="m"}} {power}
gpu_package_power{{gpu_id="1",gpu_partition_id="1",card_model="0x74a1",serial_number="S0",hostname="m"}} 0
gpu_average_package_power{{gpu_id="0",gpu_partition_id="0",serial_number="S0",hostname="m"}} {average}
gpu_energy_consumed{{gpu_id="0",gpu_partition_id="0",card_model="0x74a1",serial_number="S0",hostname="m"}} {energy}
"""


@pytest.mark.parametrize(
    ("power", "average", "expected"), [("748", "65535", 748), ("65535", "740", 740), ("0", "0", None)]
)
@pytest.mark.parametrize("prefix", ["", "amd_"])
def test_amd(power: str, average: str, expected: float | None, prefix: str) -> None:
    text = AMD.format(power=power, average=average, energy="1.4e17").replace(
        "gpu_package", f"{prefix}gpu_package"
    )
    with hosts(lambda: text) as (a,):
        reader = ExporterReader(ExporterPower(source="amd-exporter", urls=(a.url,), update_period_s=1))
        source = reader.open()
        (found,) = reader.read()
        problems = reader.take_problems()
        reader.close()
    assert (found.device, found.power_w) == (f"{a.name}/0", expected)
    assert found.energy_j == pytest.approx(1.4e11)  # µJ
    assert source.devices[0].uuid == "S0"
    assert [p.code for p in problems] == ([] if expected else ["sentinel"])


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("W", 2.0),
        ("mW", 2e-3),
        ("kW", 2e3),
        ("J", 2.0),
        ("mJ", 2e-3),
        ("kJ", 2e3),
        ("Wh", 7200),
        ("kWh", 7.2e6),
    ],
)
def test_any_prometheus_endpoint(reading: Callable[..., Opened], unit: str, expected: float) -> None:
    metric = Metric(name="pdu", labels={"phase": "all"}, device_label="outlet", unit=unit)
    kind = "power" if unit.endswith("W") else "energy"
    with hosts(lambda: 'pdu{phase="all",outlet="A1"} 2\npdu{phase="1",outlet="A1"} 1\n') as (a,):
        config = PrometheusPower(
            source="prometheus", urls=(a.url,), scope="rack", update_period_s=5, **{kind: metric}
        )
        (found,) = reading(config=config).read()
        value = found.power_w if kind == "power" else found.energy_j
        assert found.device == f"{a.name}/A1"
        assert value == pytest.approx(expected)


def test_prometheus_without_a_device_label_has_one_device(reading: Callable[..., Opened]) -> None:
    body = 'watts{outlet="A1"} 2 1712000000000\n'
    with hosts(lambda: body) as (a,):
        power = Metric(name="watts", unit="W")
        config = PrometheusPower(
            source="prometheus", urls=(a.url,), scope="rack", update_period_s=0.02, power=power
        )
        opened = reading(config=config)
        (found,) = opened.read()
        assert (found.device, found.power_w) == (a.name, 2)
        # The same timestamp is the same measurement, however often it is shown; a new one is a new one.
        time.sleep(0.05)
        assert opened.read() == []
        body = 'watts{outlet="A1"} 2 1712000005000\n'
        assert len(opened.read()) == 1
        body = 'watts{outlet="A1"} 2\nwatts{outlet="A2"} 2\n'
        assert opened.read() == []
        assert [p.code for p in opened.problems] == ["units"]
        assert "device_label" in opened.problems[0].text


def test_constant_power_is_read_once_in_each_period(reading: Callable[..., Opened]) -> None:
    with hosts(lambda: "watts 429\n") as (a,):
        config = PrometheusPower(
            source="prometheus",
            urls=(a.url,),
            scope="rack",
            update_period_s=0.5,
            power=Metric(name="watts", unit="W"),
        )
        opened = reading(config=config)
        readings = opened.until(lambda readings: len(readings) >= 3)
        steps = [b.t_ns - a.t_ns for a, b in pairwise(readings)]
        assert min(steps) >= 0.45e9


@pytest.mark.parametrize(
    "metrics",
    [{}, {"power": Metric(name="a", unit="J")}, {"energy": Metric(name="a", unit="kW")}],
)
def test_prometheus_needs_a_metric_with_a_fitting_unit(metrics: dict[str, Metric]) -> None:
    config = PrometheusPower(
        source="prometheus", urls=("http://127.0.0.1:9/metrics",), scope="rack", update_period_s=1, **metrics
    )
    with pytest.raises(PowerError, match=r"metric is named|has a unit of energy"):
        ExporterReader(config)
