"""Takes secrets out of what is logged or kept."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from urllib.parse import quote, unquote

HIDDEN = "***"
SHORTEST = 8
"""A shorter value of a variable is a setting rather than a key, and may occur anywhere."""

_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:\w*KEY|\w*TOKEN|SECRET|PASSWORD|PASSWD|PWD|CREDENTIALS?|AUTH)(?:_|$)", re.IGNORECASE
)
_SETTINGS = {"PWD", "OLDPWD"}
_NAMED = re.compile(r"api_key_env=([A-Za-z0-9_]+)")
_USER = re.compile(r"//[^/\s?'\"]*@")
_OPTION = re.compile(r"([?&;])([^=&;\s'\"]+)=([^&;\s'\"]*)")
_SECRET_OPTIONS = {
    "apikey", "key", "token", "accesstoken", "authtoken", "password", "passwd", "pwd", "secret",
    "clientsecret", "authorization", "signature", "sig",
}  # fmt: skip


def redacted(text: str) -> str:
    """Return ``text`` without the secrets that can be told as such.

    These are the user part and secret options of URIs (``api_key=…``), and wherever they occur the
    values of environment variables that are named like a secret, or by ``api_key_env=`` in the text
    or on the command line.
    """
    text = _OPTION.sub(_without_value, _USER.sub(f"//{HIDDEN}@", text))
    for value in _secret_values(text):
        text = text.replace(value, HIDDEN)
    return text


def _without_value(option: re.Match[str]) -> str:
    name = re.sub(r"[-_.]", "", unquote(option[2])).lower()
    return f"{option[1]}{option[2]}={HIDDEN}" if name in _SECRET_OPTIONS else option[0]


def _secret_values(text: str) -> Iterator[str]:
    named = set(_NAMED.findall(" ".join([text, *sys.argv])))
    values = {
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST
        and (name in named or (_SECRET_VARIABLE.search(name) and name not in _SETTINGS))
    }
    # The longest first, since one may hold another.
    for value in sorted(values, key=len, reverse=True):
        yield value
        if (spelled := quote(value, safe="")) != value:
            yield spelled
