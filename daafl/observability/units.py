"""Numbers as people read them: few digits, a unit, the same everywhere a run is shown."""

from __future__ import annotations

import math

from daafl.autonomy.plan import Value

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def number(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with about ``digits`` significant digits; ``-`` stands for none.

    >>> number(0.95136), number(1e-5), number(12345.6), number(None)
    ('0.951', '1e-05', '12,346', '-')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or magnitude > 8:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
    decimals = max(digits - 1 - magnitude, 0)
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(value: float | None) -> str:
    """Return an accuracy with four decimals, so that columns line up.

    >>> share(0.9514), share(None)
    ('0.9514', '-')
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if math.isfinite(value) else "not finite"


def size(num_bytes: float) -> str:
    """Return a number of bytes in decimal units.

    >>> size(312), size(20_480), size(1_250_000)
    ('312 B', '20.5 kB', '1.25 MB')
    """
    power = 0
    amount = float(num_bytes)
    # 999.5 would be shown as 1,000 of the smaller unit.
    while abs(amount) >= 999.5 and power < len(_BYTE_UNITS) - 1:
        amount /= 1000
        power += 1
    return f"{number(amount)} {_BYTE_UNITS[power]}"


def duration(seconds: float) -> str:
    """Return a duration: seconds below two minutes, then minutes, then hours.

    >>> duration(0.421), duration(59.6), duration(200), duration(7500)
    ('0.421 s', '59.6 s', '3 min 20 s', '2 h 05 min')
    """
    if not math.isfinite(seconds):
        return "not finite"
    if seconds < 119.5:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def value_text(value: Value) -> str:
    """Return a knob's value: numbers shortened, switches as ``on`` and ``off``.

    >>> value_text(0.031622), value_text(True), value_text("fedavg"), value_text(12)
    ('0.0316', 'on', 'fedavg', '12')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else number(value)


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Return a count with its noun.

    >>> plural(1, "rollback"), plural(3, "rollback"), plural(0, "loss", "losses")
    ('1 rollback', '3 rollbacks', '0 losses')
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
