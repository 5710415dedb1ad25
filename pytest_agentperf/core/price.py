"""What a system costs: rented, or bought and run. Every figure has its source; none is assumed."""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

HOURS_PER_YEAR = 8_760.0


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class Capital(_Model):
    """What an accelerator costs to buy, with its share of hosts, network and racks as far as the source counts them."""

    usd_per_accelerator: float = Field(gt=0)
    amortisation_years: float = Field(gt=0)
    source: str = Field(min_length=1)


class Electricity(_Model):
    """What a kilowatt-hour costs."""

    usd_per_kwh: float = Field(gt=0)
    source: str = Field(min_length=1)


class Pue(_Model):
    """What the data centre draws, divided by what arrives at its computers."""

    ratio: float = Field(ge=1)
    source: str = Field(min_length=1)


class Utilisation(_Model):
    """The share of all hours in which the system carries its capacity; in the others it idles."""

    share: float = Field(gt=0, le=1)
    source: str = Field(min_length=1)


class Price(_Model):
    """What an accelerator costs per hour: a rent with everything in it, or capital and electricity."""

    usd_per_accelerator_hour: float | None = Field(default=None, gt=0)
    source: str | None = None
    """Of the rent."""
    capital: Capital | None = None
    electricity: Electricity | None = None
    pue: Pue | None = None
    utilisation: Utilisation | None = None

    @model_validator(mode="after")
    def _one_way_to_pay(self) -> Self:
        if (self.usd_per_accelerator_hour is None) == (self.capital is None):
            raise ValueError("give either `usd_per_accelerator_hour`, the rent, or `capital`")
        if self.usd_per_accelerator_hour is not None and not self.source:
            raise ValueError("`usd_per_accelerator_hour` needs its `source`")
        if self.capital is None and (self.electricity or self.pue):
            raise ValueError("a rent has electricity in it: leave `electricity` and `pue` out")
        if self.capital is not None and self.source:
            raise ValueError("`source` is that of a rent; `capital`, `electricity` and others have their own")
        return self


class Costs(NamedTuple):
    """What a deployment costs; None where an input is missing, which `notes` name."""

    usd_per_hour: float | None
    """While it carries its capacity."""
    electricity_usd_per_hour: float | None
    """The part of it that is electricity; None of a rent."""
    mean_usd_per_hour: float | None
    """Over all hours, idle ones included."""
    notes: tuple[str, ...]


def costs(
    price: Price | None, *, accelerators: int, power_w: float | None, idle_power_w: float | None
) -> Costs:
    """Return what a deployment costs per hour, from what is known."""
    if price is None:
        return Costs(None, None, None, ("no price configured",))
    notes = () if price.utilisation else ("utilisation not configured: no cost per agent-hour",)
    if price.usd_per_accelerator_hour is not None:
        rent = price.usd_per_accelerator_hour * accelerators
        return Costs(rent, None, rent, notes)
    assert price.capital is not None
    missing = [name for name in ("electricity", "pue") if getattr(price, name) is None]
    if missing or not power_w:
        lacking = [f"{name} not configured" for name in missing] + ([] if power_w else ["no valid power"])
        return Costs(None, None, None, (f"no cost per hour: {', '.join(lacking)}", *notes))
    assert price.electricity is not None
    assert price.pue is not None
    usd_per_w = price.pue.ratio * price.electricity.usd_per_kwh / 1e3
    bought = (
        price.capital.usd_per_accelerator * accelerators / (price.capital.amortisation_years * HOURS_PER_YEAR)
    )
    loaded, mean = bought + power_w * usd_per_w, None
    if price.utilisation is not None:
        share = price.utilisation.share
        if share == 1:
            mean = loaded
        elif idle_power_w is None:
            notes = (*notes, "no idle power was measured: no cost of hours without load")
        else:
            mean = share * loaded + (1 - share) * (bought + idle_power_w * usd_per_w)
    return Costs(loaded, power_w * usd_per_w, mean, notes)
