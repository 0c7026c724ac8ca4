"""Reads one small object beside a repository, and writes it on the condition that it has not changed meanwhile."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import hmac
import os
import re
import threading
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import anyio

from supervisor.backup.threads import SecretReader
from supervisor.backup.words import CUT_SHORT, BackupError, Trouble, explain, known
from supervisor.config.proxies import bad_proxy, proxy_for
from supervisor.errors import ConfigError, remedy_for_resources
from supervisor.logs.received import received_line
from supervisor.logs.redact import Redactor
from supervisor.runtime.loop_latency import TimedReader, import_alone, run_in_thread
from supervisor.system import dirs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Heard = tuple[int, bytes, Mapping[str, str]]

    from supervisor.config.parsers import SecretSource

# The object has a few hundred bytes: a failure is reported within 5 s.
_TIMEOUT_S = 4.5
_MOST_BYTES = 4096
_AGAIN = "it is tried again; check the folder and its disk"
HOLDER, PROBE, WISH = "holder", "probe", "restored"
_DEFAULT_REGION = "us-east-1"
_OK, _BAD_REQUEST, _NOT_FOUND, _CONFLICT, _PRECONDITION, _NOT_IMPLEMENTED = 200, 400, 404, 409, 412, 501
_TOLD_REGION = re.compile(rb"<Region>([A-Za-z0-9_-]{1,64})</Region>")
# The region in the DNS names of stores: s3.REGION.amazonaws.com, REGION.digitaloceanspaces.com.
_STORES = (".amazonaws.com", ".digitaloceanspaces.com")

T = TypeVar("T")


class ConflictError(Exception):
    """Another instance has written it meanwhile."""


class StoredObject(NamedTuple):
    """The object's bytes, and the ETag of this version; empty bytes and an empty tag if it does not exist.

    ``written_s`` is when it was written by the store's clock, in seconds since the epoch; None if unknown.
    """

    data: bytes | None
    tag: str
    written_s: float | None = None


class FolderStore:
    """The object beside a repository in a folder.

    ``knows_conditions`` is false once its file system turned out to have no locks.
    """

    def __init__(self, repository: str, name: str = HOLDER) -> None:
        self._path = f"{repository}.{name}"
        self._busy = threading.Lock()
        self._gave_up = False
        self._has_locked = False
        self.knows_conditions = True

    async def get(self) -> StoredObject:
        """Read it. Raises BackupError if that fails."""
        return await self._in_time(self._get)

    async def put(self, data: bytes, tag: str) -> str:
        """Replace the version of that tag (empty: create it), under a lock if there are locks; return the new tag.

        Raises ConflictError if the version is another by now, BackupError if it cannot be written.
        """
        return await self._in_time(self._put, data, tag)

    async def _in_time(self, work: Callable[..., T], *arguments: object) -> T:
        """Run it in a thread. Raises BackupError if it takes too long: neither a renewal nor a stop may wait for it."""

        def run() -> T:
            with self._busy:
                return work(*arguments)

        # Not behind one that hangs: there would be a thread more each time.
        if not (self._gave_up and self._busy.locked()):
            self._gave_up = False
            with anyio.move_on_after(_TIMEOUT_S):
                return await run_in_thread(run)
            self._gave_up = True
        raise BackupError(Trouble(f"{self._path} cannot be used: its disk does not answer, or it is locked", _AGAIN))

    def _get(self) -> StoredObject:
        try:
            with open(self._path, "rb", buffering=0) as file:
                data = file.read(_MOST_BYTES)
                written_s = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return StoredObject(None, "")
        except OSError as error:
            raise _unwritable(self._path, error) from error
        return StoredObject(data, hashlib.sha256(data).hexdigest(), written_s)

    def _put(self, data: bytes, tag: str) -> str:
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            with open(f"{self._path}.lock", "wb", buffering=0) as lock:
                self._lock(lock.fileno())
                if self._get().tag != tag:
                    raise ConflictError
                folder, name = os.path.split(self._path)
                with dirs.opened(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as fd:
                    dirs.put_file(fd, name, data.decode(), durable=True)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        except ConfigError as error:
            raise BackupError(Trouble("; ".join(error.problems), "check the folder and its disk")) from error
        return hashlib.sha256(data).hexdigest()

    def _lock(self, fd: int) -> None:
        """Lock a file, if there are locks. Raises OSError where there were before: another instance may have one."""
        if dirs.take_lock(fd, fcntl.LOCK_EX):
            self._has_locked = True
        elif self._has_locked:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        else:
            self.knows_conditions = False


def _unwritable(path: str, error: OSError) -> BackupError:
    what_to_do = remedy_for_resources(error) or "check the folder and its disk"
    return BackupError(Trouble(f"cannot use {path}: {error.strerror or error}", what_to_do))


class BucketStore:
    """The same in a bucket; requests are signed with AWS Signature Version 4.

    ``knows_conditions`` is false once the server has refused a request that has one.
    """

    def __init__(self, repository: str, key_id: SecretSource, secret: SecretSource, name: str = HOLDER) -> None:
        parts = urlsplit(repository.removeprefix("s3:"))
        bucket, _, path = parts.path.strip("/").partition("/")
        key = f"{path}.{name}" if path else name
        self._host = parts.netloc
        self._path = quote(f"/{bucket}/{key}")
        self._url = f"{parts.scheme}://{self._host}{self._path}"
        self._key_id = SecretReader(key_id)
        self._secret = SecretReader(secret)
        self._region = _region(parts.hostname or "")
        # A server may repeat what it was sent.
        self._redactor = Redactor()
        # Needed for a bucket only. The import takes a quarter of a second, and the panel uses the server alone.
        self._client = TimedReader(partial(import_alone, "aiohttp.client"), _TIMEOUT_S)
        self._has_client = False
        self.knows_conditions = True

    async def get(self) -> StoredObject:
        """Read it."""
        status, data, headers = await self._ask("GET", b"", {})
        if status == _NOT_FOUND and b"NoSuchBucket" not in data:
            return StoredObject(None, "")
        if status != _OK:
            raise self._refused(status, data)
        return StoredObject(data, _tag(headers), _seconds(headers.get("Last-Modified", "")))

    async def put(self, data: bytes, tag: str) -> str:
        """Replace it on that condition, which a server may ignore: callers that rely on it test that first."""
        condition = {"If-Match": tag} if tag else {"If-None-Match": "*"}
        status, answer, new = await self._ask("PUT", data, condition if self.knows_conditions else {})
        if status == _NOT_IMPLEMENTED and self.knows_conditions:
            # Backblaze B2 and Alibaba's OSS refuse such requests: then it is as with a server that ignores conditions.
            self.knows_conditions = False
            status, answer, new = await self._ask("PUT", data, {})
        if status in {_CONFLICT, _PRECONDITION} or (status == _NOT_FOUND and b"NoSuchBucket" not in answer):
            raise ConflictError
        if status != _OK:
            raise self._refused(status, answer)
        return _tag(new)

    def _refused(self, status: int, answer: bytes) -> BackupError:
        # The status in words, as restic says it: not every server puts some into the body.
        with suppress(ValueError):
            answer = f"{HTTPStatus(status).phrase}: ".encode() + answer
        said = " ".join(f"{status} {answer.decode(errors='replace')}".split())
        if len(answer) < _MOST_BYTES:
            shown = received_line(said, self._redactor.mask_text)
        else:
            # The rest was not read, and the end of what was may be a part of a secret.
            shown = f"{status}, and a text that is too long to be shown"
        why = f"the repository's server refuses the holder's object: {shown}"
        return BackupError(known(said) or Trouble(why, "check SUPERVISOR_BACKUP_REPOSITORY"))

    async def _ask(self, method: str, data: bytes, headers: dict[str, str]) -> _Heard:
        answer = await self._ask_once(method, data, headers)
        # Signatures contain a region, and a server in another region returns its own; restic finds it out this way too.
        told = _TOLD_REGION.search(answer[1]) if answer[0] == _BAD_REQUEST else None
        if told is None or told[1].decode() == self._region:
            return answer
        self._region = told[1].decode()
        return await self._ask_once(method, data, headers)

    async def _ask_once(self, method: str, data: bytes, headers: dict[str, str]) -> _Heard:
        key_id, secret = await self._key_id.text(), await self._secret.text()
        for text in (key_id, secret):
            self._redactor.learn(text)
        signature = self._signature(method, data, key_id, secret)
        # What a proxy compresses gets another ETag, which no condition meets.
        headers = {"Accept-Encoding": "identity", **headers, **signature}
        await self._load_client()
        from aiohttp import client, cookiejar

        timeout = client.ClientTimeout(total=_TIMEOUT_S)
        try:
            async with (
                client.ClientSession(timeout=timeout, cookie_jar=cookiejar.DummyCookieJar()) as session,
                session.request(
                    method, self._url, data=data or None, headers=headers, proxy=proxy_for(self._url)
                ) as answer,
            ):
                body = b""
                # One read returns no more than what has arrived.
                while len(body) < _MOST_BYTES and (part := await answer.content.read(_MOST_BYTES - len(body))):
                    body += part
                return answer.status, body, answer.headers
        except TimeoutError as error:
            raise BackupError(explain(None, "i/o timeout")) from error
        except (client.InvalidURL, UnicodeError):
            # The repository's own URL was checked before. The cause is dropped, as it may contain the proxy's password.
            why, what_to_do = bad_proxy(self._url)
            raise BackupError(Trouble(f"cannot reach the repository's server: {why}", what_to_do)) from None
        except client.ClientError as error:
            refused = isinstance(error, client.ClientConnectorError) and isinstance(error.os_error, ConnectionError)
            said = "connection refused" if refused else str(error)
            raise BackupError(known(said) or CUT_SHORT) from error

    async def _load_client(self) -> None:
        """Import the HTTP client. Raises BackupError if that takes too long: it is on a disk, too."""
        if self._has_client:
            return
        try:
            await self._client.read()
        except TimeoutError as error:
            why = f"the HTTP client could not be loaded within {_TIMEOUT_S:g} s"
            raise BackupError(Trouble(why, "it is tried again; check the disks")) from error
        self._has_client = True

    def _signature(self, method: str, data: bytes, key_id: str, secret: str) -> dict[str, str]:
        """Return the headers that authenticate the request."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(data).hexdigest()
        headers = {"host": self._host, "x-amz-content-sha256": digest, "x-amz-date": now}
        names = ";".join(headers)
        lines = "".join(f"{name}:{text}\n" for name, text in headers.items())
        request = f"{method}\n{self._path}\n\n{lines}\n{names}\n{digest}"
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{secret}".encode()
        for part in (*scope.split("/"), to_sign):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        credential = f"{key_id}/{scope}"
        proof = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"
        return {**headers, "Authorization": proof}


Store = FolderStore | BucketStore


def _tag(headers: Mapping[str, str]) -> str:
    """Return the object's ETag; without the weakness that a proxy has added, as the server's own are strong."""
    return headers.get("ETag", "").removeprefix("W/")


def _seconds(moment: str) -> float | None:
    """Return the time in a header in seconds since the epoch; None if it is invalid."""
    try:
        return parsedate_to_datetime(moment).timestamp()
    except (ValueError, OverflowError):
        return None


def _region(host: str) -> str:
    with suppress(ValueError):
        for store in _STORES:
            if host.endswith(store):
                found = host.removesuffix(store).split(".")[-1]
                return found if found != "s3" else _DEFAULT_REGION
    return _DEFAULT_REGION
