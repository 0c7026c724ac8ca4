"""What the texts of the settings for backups mean; loaded where one of them is set."""

from __future__ import annotations

import os
import re

from supervisor.config.parsers import UnfitError, duration_s, plain, url, whole

DEFAULT_INTERVAL_S = 300.0
DEFAULT_KEEP = {"last": 10, "hourly": 24, "daily": 14, "weekly": 8}
_LEAST_INTERVAL_S = 60.0
_PERIODS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_ID = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_LOOPBACK = ("http://127.", "http://[::1]", "http://localhost:")
_S3 = "s3:"


def repository(text: str) -> str:
    """Return a bucket as restic writes it, or an absolute folder."""
    plain(text)
    if not text.startswith(_S3):
        if not text.startswith("/"):
            raise UnfitError("it is neither a bucket (s3:https://…) nor an absolute folder")
        folder = os.path.normpath(text)
        if folder.strip("/") == "":
            raise UnfitError("it is the root folder")
        return folder
    address = text.removeprefix(_S3)
    url(address)
    if not address.startswith(("https://", *_LOOPBACK)):
        raise UnfitError("it is not s3:https://: data and keys would travel open to everyone on the way")
    if "?" in address or "#" in address:
        raise UnfitError("it has more than host, bucket and path")
    _, _, bucket, *_ = [*address.split("/")[1:], "", ""]
    if not _BUCKET.fullmatch(bucket):
        raise UnfitError("it names no bucket (3 to 63 of a-z, 0-9, . and -) behind the host")
    return text.rstrip("/")


def paths(text: str) -> tuple[str, ...]:
    """Return absolute folders, each once, none of them inside another."""
    plain(text)
    found = [part for part in text.split(":") if part]
    for part in found:
        if not part.startswith("/"):
            raise UnfitError(f"{part!r} is not absolute")
    folders = tuple(dict.fromkeys(os.path.normpath(part).replace("//", "/") for part in found))
    if not folders or "/" in folders:
        raise UnfitError("it is the root folder" if folders else "it names none")
    for inner in folders:
        for outer in folders:
            if is_inside(inner, outer) and inner != outer:
                raise UnfitError(f"{inner} lies inside {outer}")
    return folders


def is_inside(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or lies in it, by their names alone."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def interval_s(text: str) -> float:
    """Return the seconds of an interval."""
    seconds = duration_s(text)
    if seconds < _LEAST_INTERVAL_S:
        raise UnfitError("it is less than a minute")
    return seconds


def keep(text: str) -> dict[str, int]:
    """Return how many to keep, by name."""
    counts: dict[str, int] = {}
    for part in text.split(","):
        name, sign, number = (piece.strip() for piece in part.partition("="))
        if name not in _PERIODS or not sign:
            raise UnfitError(f"{part.strip()!r} is none of {', '.join(f'{period}=N' for period in _PERIODS)}")
        if name in counts:
            raise UnfitError(f"{name} is there twice")
        counts[name] = whole(0, 100_000)(number)
    if counts.get("last", 0) < 1:
        raise UnfitError("last has to be 1 or more")
    return counts


def restore(text: str) -> str:
    """Return auto, never, or the id of a snapshot."""
    if text not in {"auto", "never"} and not _ID.fullmatch(text):
        raise UnfitError("it is no id as `backup list` shows it (8 to 64 of 0-9 and a-f)")
    return text
