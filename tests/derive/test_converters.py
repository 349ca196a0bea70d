# SPDX-License-Identifier: GPL-2.0-or-later
"""The converters of the package: what they save comes back as it was, and nothing else does."""

from __future__ import annotations

import decimal
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import (
    DeclarationError,
    InvalidError,
    OutOfRangeError,
    derive_to_migration_state,
    field,
    load,
    register_converter,
    save,
    u8,
)

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)


def one(hint: Any, value: Any, **options: Any) -> Any:
    """Return a derived class with one attribute."""
    namespace = {"__annotations__": {"a": hint}, "a": field(default=value, **options)}
    return derive_to_migration_state(dataclass(type("One", (), namespace)))


def text(written: str) -> bytes:
    """Return a str on the wire: its size and its UTF-8."""
    return len(written.encode()).to_bytes(4, "big") + written.encode()


def number(value: int) -> bytes:
    return value.to_bytes(4, "big", signed=value < 0)


# The class, a value, and the bytes by which it goes on the wire.
VALUES: list[tuple[Any, Any, bytes]] = [
    (datetime, datetime(2026, 1, 2, 3, 4, 5), text("2026-01-02T03:04:05")),
    (datetime, datetime.min, text("0001-01-01T00:00:00")),
    (datetime, datetime.max, text("9999-12-31T23:59:59.999999")),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 60), text("2026-01-02T03:04:05.000060")),
    (datetime, datetime(2026, 1, 2, fold=1), text("2026-01-02T00:00:00~")),
    (datetime, datetime(2026, 1, 2, tzinfo=UTC), text("2026-01-02T00:00:00+00:00")),
    (datetime, datetime.max.replace(tzinfo=UTC), text("9999-12-31T23:59:59.999999+00:00")),
    (
        datetime,
        datetime(2026, 1, 2, 0, 0, 0, 1, tzinfo=timezone(-2 * HOUR), fold=1),
        text("2026-01-02T00:00:00.000001~-02:00"),
    ),
    (
        datetime,
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=53, seconds=28))),
        text("2026-01-02T00:00:00+05:53:28"),
    ),
    (
        datetime,
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(microseconds=-1))),
        text("2026-01-02T00:00:00-00:00:00.000001"),
    ),
    (
        datetime,
        datetime(2026, 1, 2, tzinfo=timezone(HOUR, "CET")),
        text("2026-01-02T00:00:00+01:00(CET)"),
    ),
    (
        datetime,
        datetime(2026, 1, 2, tzinfo=timezone(0 * HOUR, "Z")),
        text("2026-01-02T00:00:00+00:00(Z)"),
    ),
    (
        datetime,
        datetime(2026, 1, 2, tzinfo=timezone(HOUR, "")),
        text("2026-01-02T00:00:00+01:00()"),
    ),
    (
        datetime,
        datetime(2026, 1, 2, tzinfo=timezone(HOUR, "[a(b)~")),
        text("2026-01-02T00:00:00+01:00([a(b)~)"),
    ),
    (
        datetime,
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
        text("2026-10-25T02:30:00[Europe/Berlin]"),
    ),
    (
        datetime,
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        text("2026-10-25T02:30:00~[Europe/Berlin]"),
    ),
    # An hour that no clock showed.
    (
        datetime,
        datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN),
        text("2026-03-29T02:30:00[Europe/Berlin]"),
    ),
    (time, time.min, text("00:00:00")),
    (time, time.max, text("23:59:59.999999")),
    (time, time(1, 2, fold=1, tzinfo=timezone(HOUR, "x")), text("01:02:00~+01:00(x)")),
    (time, time(1, 2, tzinfo=BERLIN), text("01:02:00[Europe/Berlin]")),
    (date, date.min, number(1)),
    (date, date(1970, 1, 1), number(719163)),
    (date, date.max, number(3652059)),
    (timedelta, timedelta(), bytes(12)),
    (timedelta, timedelta.min, number(-999999999) + bytes(8)),
    (timedelta, timedelta.max, number(999999999) + number(86399) + number(999999)),
    (timedelta, -timedelta.resolution, number(-1) + number(86399) + number(999999)),
    (UUID, UUID(int=0), bytes(16)),
    (UUID, UUID(int=2**128 - 2), b"\xff" * 15 + b"\xfe"),
    (IPv4Address, IPv4Address("1.2.3.255"), b"\1\2\3\xff"),
    (IPv6Address, IPv6Address("::1"), bytes(15) + b"\1" + text("")),
    (IPv6Address, IPv6Address("::ffff:1.2.3.4"), bytes(10) + b"\xff\xff\1\2\3\4" + text("")),
    (IPv6Address, IPv6Address("fe80::1%eth0.2"), b"\xfe\x80" + bytes(13) + b"\1" + text("eth0.2")),
    (Decimal, Decimal(0), text("0")),
    (Decimal, Decimal("-0"), text("-0")),
    (Decimal, Decimal("-0E-5"), text("-0.00000")),
    (Decimal, Decimal("1.50"), text("1.50")),
    (Decimal, Decimal("1E+5"), text("1E+5")),
    (Decimal, Decimal("-9E-999999"), text("-9E-999999")),
    (Decimal, Decimal("1E+999999999999999999"), text("1E+999999999999999999")),
    (Decimal, Decimal((1, (1,) * 99, 0)), text("-" + "1" * 99)),
    (Decimal, Decimal("Infinity"), text("Infinity")),
    (Decimal, Decimal("-Infinity"), text("-Infinity")),
    (Decimal, Decimal("NaN"), text("NaN")),
    (Decimal, Decimal("-NaN123"), text("-NaN123")),
    (Decimal, Decimal("sNaN"), text("sNaN")),
    (Decimal, Decimal("sNaN9"), text("sNaN9")),
    (Fraction, Fraction(0), text("0/1")),
    (Fraction, Fraction(-3, 9), text("-1/3")),
    (Fraction, Fraction(10**120, 10**120 - 1), text(f"{10**120}/{10**120 - 1}")),
    (Path, Path("/a/b"), text("/a/b")),
    (Path, Path(), text(".")),
    (Path, Path(".."), text("..")),
    (Path, Path("//a"), text("//a")),
    (Path, Path("grün"), text("grün")),
    (Path, Path(os.fsdecode(b"\xff\xfe/x")), number(4) + b"\xff\xfe/x"),
    (Path, Path("a" * 4096), text("a" * 4096)),
    (PosixPath, PosixPath("a/b"), text("a/b")),
    (PurePath, PurePath("a/b"), text("a/b")),
    (PurePosixPath, PurePosixPath("a/b"), text("a/b")),
    (PureWindowsPath, PureWindowsPath("c:/a/b"), text("c:\\a\\b")),
]


def seen(value: Any) -> Any:
    """Return all that a program can see of a value."""
    zone = getattr(value, "tzinfo", None)
    return (
        *(type(value), repr(value), str(value), getattr(value, "fold", None)),
        *(zone, getattr(zone, "key", None)),
        # tzname() of a time needs a date if the zone has daylight saving.
        *(zone and value.tzname(), zone and value.utcoffset()),
    )


@pytest.mark.parametrize(("cls", "value", "wire"), VALUES)
def test_value_comes_back_as_it_was(cls: Any, value: Any, wire: bytes) -> None:
    state = one(cls, value)()
    assert save(state) == wire
    state.a = None
    load(state, wire)
    assert seen(state.a) == seen(value)
    assert save(state) == wire
    row = one(list[cls], None, max_length=2)([value, value])
    assert save(row) == b"\2" + wire + wire
    load(row, b"\2" + wire + wire)
    assert [seen(each) for each in row.a] == [seen(value)] * 2


def test_default_time_zone_of_a_system_comes_back_with_its_name() -> None:
    moment = datetime(2026, 7, 1, tzinfo=BERLIN).astimezone()
    state = one(datetime, moment)()
    wire = save(state)
    load(state, wire)
    assert seen(state.a) == seen(moment)


# The class, and texts or bytes that mean a value of it, but not as a save writes it, or nothing.
OTHERS: list[tuple[Any, tuple[str | bytes, ...]]] = [
    (
        datetime,
        (
            *("2026-01-02", "2026-01-02 03:04:05", "20260102T030405", "2026-W01-5T03:04:05"),
            *("2026-01-02T03:04", "2026-01-02T03:04:05.1", "2026-01-02T03:04:05.000000"),
            *("2026-01-02T03:04:05,000001", "2026-01-02T03:04:05Z", " 2026-01-02T03:04:05"),
            *("2026-01-02T03:04:05+00", "2026-01-02T03:04:05-00:00", "2026-01-02T03:04:05~~"),
            *("2026-01-02T03:04:05+01:00~", "2026-01-02T03:04:05+01:00(", "2026-01-02T03:04:05[]"),
            *("2026-01-02T03:04:05+01:00(CET", "2026-01-02T03:04:05+01:00(CET)x"),
            *("2026-01-02T03:04:05(CET)", "2026-01-02T03:04:05+00:00:00", "", "~"),
            *("2026-01-02T03:04:05+01:00[Europe/Berlin]", "2026-01-02T03:04:05[Europe/Berlin"),
            *("2026-01-02T03:04:05[europe/berlin]", "2026-01-02T03:04:05[../x]"),
            *("2026-01-02T03:04:05[Europe]", "2026-01-02T03:04:05[Europe/Berlin\0]"),
            *("2026-01-02T24:00:00", "2026-01-02T23:59:60", "2026-13-02T03:04:05"),
            *("\u0662026-01-02T03:04:05", "2026-01-02T03:04:05+25:00"),
            *("2026-01-02T03:04:05+01:00()x", "2026-01-02T03:04:05+01:00\0"),
        ),
    ),
    (
        time,
        (
            *("T03:04:05", "03:04", "030405", "03", "03:04:05.5", "03:04:05Z", "03:04:05+01"),
            *("24:00:00", "03:04:05 ", "", "~", "03:04:05~~", "03:04:05[Nowhere/Else]"),
        ),
    ),
    (date, (number(0), number(3652060), b"\xff" * 4)),
    (
        timedelta,
        (
            *(number(0) + number(86400) + number(0), number(0) + number(0) + number(1000000)),
            *(number(10**9) + number(0) + number(0), number(-(10**9)) + number(0) + number(0)),
            number(999999999) + number(86399) + number(1000000),
        ),
    ),
    (IPv6Address, tuple(bytes(16) + text(scope) for scope in ("%", "a%b", "/64", "a/b"))),
    (
        Decimal,
        (
            *("1_0", " 1", "1 ", "+1", "01", ".5", "5.", "1e5", "1E5", "1E+05", "0E-5", ""),
            *("inf", "Inf", "infinity", "nan", "NAN", "NaN0", "NaN01", "+NaN", "snan", "\u0661"),
            *("0x10", "1/3", "1,5", "--1", "NaN-1", "1E+9999999999999999999", "\0", "1\0"),
        ),
    ),
    (
        Fraction,
        (
            *("1", "1/", "/1", "2/4", "1/-3", "-1/-3", "+1/3", " 1/3", "1 /3", "1_0/3", "01/3"),
            *("1/0", "0/2", "1/3/5", "1.5/2", "x/y", "", "1e2/3", "\u0661/3", "1/3\n", "-0/1"),
        ),
    ),
    (Path, ("", "a//b", "a/", "a/./b", "./a", "///a", "a/.")),
    (PureWindowsPath, ("", "a/b", "c:\\a\\", "a\\.\\b")),
]


@pytest.mark.parametrize(("cls", "wires"), OTHERS)
def test_what_no_save_writes_is_refused(cls: Any, wires: tuple[str | bytes, ...]) -> None:
    value = next(value for each, value, _ in VALUES if each is cls)
    state = one(cls, value)()
    before = state.a
    for wire in wires:
        with pytest.raises(InvalidError, match=rf"\.a: .* is no {cls.__name__}: "):
            load(state, text(wire) if isinstance(wire, str) else wire)
        assert state.a is before


def test_refusal_names_what_a_save_writes() -> None:
    state = one(list[Decimal], None, max_length=2)([])
    message = (
        r"^OneMigration\.a\[1\]: '1_0' is no Decimal: ValueError: a save writes that as '10'"
        r"\nin the post_load hook"
    )
    with pytest.raises(InvalidError, match=message):
        load(state, b"\2" + text("1") + text("1_0"))


class Moment(datetime):
    pass


class Short(Decimal):
    pass


class Zone(tzinfo):
    key = "Europe/Berlin"

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta()

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta()

    def tzname(self, moment: datetime | None) -> str:
        return "Zone"


# The class, a value of another class that it would take, and the error.
UNFIT: list[tuple[Any, Any, str]] = [
    (date, datetime(2026, 1, 2, 3), r"it is a datetime, and a load would make a date"),
    (datetime, date(2026, 1, 2), r"datetime\.date\(2026, 1, 2\) is a date, not a datetime"),
    (datetime, Moment(2026, 1, 2), r"it is a Moment, and a load would make a datetime"),
    (datetime, datetime(2026, 1, 2, tzinfo=Zone()), r"its time zone is a Zone; take a datetime"),
    (time, time(1, tzinfo=Zone()), r"its time zone is a Zone; take a datetime"),
    (datetime, "2026-01-02T00:00:00", r"is a str, not a datetime"),
    (
        datetime,
        datetime(2026, 1, 2, tzinfo=timezone(HOUR, "x" * 99)),
        r"126 bytes of UTF-8, and the",
    ),
    (datetime, datetime(2026, 1, 2, tzinfo=timezone(HOUR, "\udc80")), r"has a surrogate"),
    (timedelta, 3, r"3 is a int, not a timedelta"),
    (UUID, bytes(16), r"is a bytes, not a UUID"),
    (IPv4Address, 3.7, r"3\.7 is a float, not a IPv4Address"),
    (IPv4Address, IPv4Interface("1.2.3.4/8"), r"it is a IPv4Interface, and a load would make"),
    (IPv4Address, IPv6Address("::1"), r"is a IPv6Address, not a IPv4Address"),
    (IPv6Address, IPv6Interface("::1/8"), r"it is a IPv6Interface, and a load would make"),
    (Decimal, 1.5, r"1\.5 is a float, not a Decimal"),
    (Decimal, Short(1), r"it is a Short, and a load would make a Decimal"),
    (Decimal, Decimal("1" * 129), r"129 bytes of UTF-8, and the maximum is 128"),
    (Fraction, 3, r"3 is a int, not a Fraction"),
    (Fraction, Fraction(10**254, 3), r"257 bytes of UTF-8, and the maximum is 256"),
    (Path, "a", r"'a' is a str, not a Path"),
    (Path, PurePosixPath("a"), r"is a PurePosixPath, not a Path"),
    (PurePath, Path("a"), r"it is a PosixPath, and a load would make a PurePosixPath"),
    (PurePosixPath, PureWindowsPath("a"), r"is a PureWindowsPath, not a PurePosixPath"),
    (Path, Path("a" * 4097), r"4097 bytes, and the maximum is 4096"),
]


@pytest.mark.parametrize(("cls", "value", "message"), UNFIT)
def test_value_that_would_not_come_back_is_refused(cls: Any, value: Any, message: str) -> None:
    with pytest.raises(InvalidError, match=message) as caught:
        save(one(cls, value)())
    assert caught.value.path == "OneMigration.a"
    with pytest.raises(InvalidError, match=message) as caught:
        save(one(list[cls], None, max_length=2)([value]))
    assert caught.value.path == "OneMigration.a[0]"


def test_text_does_not_depend_on_the_context_of_decimals() -> None:
    state = one(Decimal, Decimal("1E+5"))()
    with decimal.localcontext() as context:
        context.capitals = 0
        context.prec = 2
        assert save(state) == text("1E+5")
        load(state, text("1.2345E+7"))
    assert str(state.a) == "1.2345E+7"


@given(
    st.one_of(
        st.tuples(st.just(datetime), st.datetimes(timezones=st.none() | st.timezones())),
        st.tuples(st.just(time), st.times(timezones=st.none() | st.timezones())),
        st.tuples(st.just(date), st.dates()),
        st.tuples(st.just(timedelta), st.timedeltas()),
        st.tuples(st.just(UUID), st.uuids()),
        st.tuples(st.just(IPv4Address), st.ip_addresses(v=4)),
        st.tuples(st.just(IPv6Address), st.ip_addresses(v=6)),
        st.tuples(st.just(Decimal), st.decimals()),
        st.tuples(st.just(Fraction), st.fractions()),
    )
)
def test_any_value_comes_back_as_it_was(drawn: tuple[Any, Any]) -> None:
    cls, value = drawn
    state = CLASSES[cls](value)
    try:
        wire = save(state)
    except OutOfRangeError:  # it is longer than the maximum
        assert cls in (Decimal, Fraction)
        return
    other = CLASSES[cls](None)
    load(other, wire)
    assert seen(other.a) == seen(value)
    assert save(other) == wire


CLASSES = {cls: one(cls, None) for cls in dict.fromkeys(cls for cls, _, _ in VALUES)}


@given(st.sampled_from([cls for cls, _ in OTHERS]), st.binary(max_size=24))
def test_any_bytes_are_refused_or_saved_again(cls: Any, raw: bytes) -> None:
    wires = [raw, len(raw).to_bytes(4, "big") + raw]
    state = CLASSES[cls](None)
    for wire in wires:
        try:
            load(state, wire)
        except InvalidError:
            continue
        assert save(state) == wire


def test_what_is_registered_is_a_class() -> None:
    for wrong in ("Colour", list[u8], None):
        with pytest.raises(DeclarationError, match=r"register_converter\(\) takes a class, and"):
            register_converter(wrong, u8, int, int)  # type: ignore[arg-type]


class Colour:
    def __init__(self, rgb: Any) -> None:
        self.rgb = rgb


def refuse(value: Any) -> Any:
    raise LookupError("no such colour")


@pytest.mark.parametrize(
    ("wire", "to", "from_", "message"),
    [
        (u8, refuse, Colour, r"\.a: <.*Colour object.*> is no Colour: LookupError: no such colour"),
        (u8, lambda _: 256, Colour, r"\.a: 256 is out of range for u8"),
        (u8, lambda _: None, Colour, r"\.a: "),
        (tuple[u8, u8], lambda _: (1,), Colour, r"\.a: 1 elements for 2; its length is fixed"),
        (tuple[u8, u8], lambda _: (1, 999), Colour, r"\.a\[1\]: 999 is out of range for u8"),
    ],
)
def test_converter_that_returns_what_its_wire_has_no_place_for(
    wire: Any, to: Callable[[Any], Any], from_: Callable[[Any], Any], message: str
) -> None:
    register_converter(Colour, wire, to, from_)
    with pytest.raises(InvalidError, match=message):
        save(one(Colour, Colour(1))())


def test_converter_that_refuses_a_load() -> None:
    register_converter(Colour, u8, lambda colour: colour.rgb, refuse)
    state = one(dict[u8, Colour], None, max_length=2)({})
    message = r"a\[4\]: 7 is no Colour: LookupError: no such colour"
    with pytest.raises(InvalidError, match=message) as caught:
        load(state, b"\1\4\7")
    assert isinstance(caught.value.__cause__, LookupError)
    assert state.a == {}


def test_converter_to_a_value_without_form_is_refused() -> None:
    register_converter(Colour, str, str, Colour)
    with pytest.raises(DeclarationError, match=r"One\.a: str has no length on the wire"):
        one(Colour, None)
    register_converter(Colour, int, refuse, Colour)
    with pytest.raises(
        DeclarationError, match=r"One\.a: the converter of Colour makes a int, which"
    ):
        one(Colour, None)


def test_time_zones_are_imported_when_they_are_used() -> None:
    program = "import sys, qemu_vmstate.derive; assert 'zoneinfo' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
