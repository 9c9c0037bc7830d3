"""Which hosts are asked without a proxy."""

from __future__ import annotations

import ipaddress


def is_bypassed(host: str | None, port: int | None, no_proxy: str) -> bool:
    """
    Whether *host* is asked directly, by the rules that Go's and curl's ``NO_PROXY`` share.

    Entries are parted by commas: ``*``, an address, a network such as ``10.0.0.0/8``, or a
    domain, with or without a dot before it, that covers itself and all below it; each but the
    network may end in ``:port``. Loopback is never proxied.
    """
    host = (host or "").lower().rstrip(".").strip("[]")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_covers(entry.strip().lower(), host, address, port) for entry in no_proxy.split(","))


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _covers(entry: str, host: str, address: _Address | None, port: int | None) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    if _address(entry.strip("[]")) is None:
        stem, colon, number = entry.rpartition(":")
        if colon and number.isdigit():
            if port is not None and int(number) != port:
                return False
            entry = stem
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    return bool(entry) and (host == entry or (address is None and host.endswith("." + entry)))


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
