"""Explains restic's errors to people: the reason, and what to do."""

from __future__ import annotations

from typing import NamedTuple

NO_REPOSITORY = 10
LOCKED = 11
WRONG_PASSWORD = 12
INCOMPLETE = 3


_WAIT = "it is "


class Trouble(NamedTuple):
    """Why something failed, and the remedy. ``code`` is restic's exit code, None if it was killed or not started."""

    why: str
    what_to_do: str = ""

    @property
    def may_pass(self) -> bool:
        """Whether it may pass without intervention."""
        return self.what_to_do.startswith(_WAIT)

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.why, self.what_to_do)))


_WRONG_PASSWORD = (
    "the password is not the repository's",
    "set SUPERVISOR_BACKUP_PASSWORD to the one it was created with",
)
_BY_CODE = {
    NO_REPOSITORY: ("there is no repository there", "check SUPERVISOR_BACKUP_REPOSITORY"),
    LOCKED: (
        "the repository is locked by another restic, or by one that was killed",
        "it is tried again; a lock older than half an hour is removed",
    ),
    WRONG_PASSWORD: _WRONG_PASSWORD,
}
ENDED = "it is tried again; if memory runs short, give the container more"
_CUT_SHORT = ("the repository's server cuts off its answers", "it is tried again")
# Texts in the messages of restic 0.18, or of Python, about a server or a disk; the first match counts.
_BY_WORDS = (
    ("wrong password or no key found", *_WRONG_PASSWORD),
    ("bucket does not exist", "the bucket does not exist", "create it, or check SUPERVISOR_BACKUP_REPOSITORY"),
    ("NoSuchBucket", "the bucket does not exist", "create it, or check SUPERVISOR_BACKUP_REPOSITORY"),
    ("wrong region", "the bucket is in another region", "use that region's host in SUPERVISOR_BACKUP_REPOSITORY"),
    (
        "AuthorizationHeaderMalformed",
        "the bucket is in another region",
        "write its host into SUPERVISOR_BACKUP_REPOSITORY",
    ),
    ("PermanentRedirect", "the bucket is in another region", "write its host into SUPERVISOR_BACKUP_REPOSITORY"),
    ("RequestTimeTooSkewed", "the bucket's clock and this machine's differ too much", "set this machine's clock"),
    (
        "difference between the request time",
        "the bucket's clock and this machine's differ too much",
        "set this machine's clock",
    ),
    (
        "does not exist in our records",
        "the bucket does not know the access key",
        "check SUPERVISOR_BACKUP_ACCESS_KEY_ID",
    ),
    ("No user exists", "the bucket does not know the access key", "check SUPERVISOR_BACKUP_ACCESS_KEY_ID"),
    ("InvalidAccessKeyId", "the bucket does not know the access key", "check SUPERVISOR_BACKUP_ACCESS_KEY_ID"),
    ("signature we calculated", "the secret access key is wrong", "check SUPERVISOR_BACKUP_SECRET_ACCESS_KEY"),
    ("SignatureDoesNotMatch", "the secret access key is wrong", "check SUPERVISOR_BACKUP_SECRET_ACCESS_KEY"),
    ("Access Denied", "the bucket refuses the access key", "allow that key to read, write and delete in this bucket"),
    ("AccessDenied", "the bucket refuses the access key", "allow that key to read, write and delete in this bucket"),
    ("403 Forbidden", "the bucket refuses the access key", "allow that key to read, write and delete in this bucket"),
    (
        "already contains keys",
        "the repository was begun and never finished: it has a key, but no configuration",
        "remove what is in it, if nothing else uses it; it is tried again",
    ),
    ("no space left on device", "the disk is full", "free some of it, or mount a larger volume"),
    ("connection refused", "the repository's server cannot be reached: connection refused", "it is tried again"),
    (
        "no such host",
        "the repository's host is not known",
        "check SUPERVISOR_BACKUP_REPOSITORY, and this machine's DNS",
    ),
    ("Name or service not known", "the repository's host is not known", "check its name, and this machine's DNS"),
    ("in name resolution", "the repository's host is not known", "check its name, and this machine's DNS"),
    ("unexpected EOF", *_CUT_SHORT),
    ("connection reset", *_CUT_SHORT),
    ("Server disconnected", "the repository's server drops connections", "it is tried again"),
    ("reset by peer", "the repository's server drops connections", "it is tried again"),
    ("i/o timeout", "the repository's server does not answer", "it is tried again"),
    ("network is unreachable", "there is no route to the repository's server", "check this machine's network"),
    (
        "certificate verify failed",
        "the repository's certificate is not trusted",
        "check its address, and SSL_CERT_FILE",
    ),
    ("x509: ", "the repository's certificate is not trusted", "check its address, and SSL_CERT_FILE"),
    ("permission denied", "a folder may not be read or written", "check its rights"),
    ("read-only file system", "a folder cannot be written: its file system is read-only", "check how it is mounted"),
    ("disk quota exceeded", "the disk is full", "free some of it, or mount a larger volume"),
    ("input/output error", "a disk fails: input/output error", "check the disk"),
    ("SlowDown", "the bucket limits the rate of requests", "it is tried again"),
    ("reduce your request rate", "the bucket limits the rate of requests", "it is tried again"),
    ("429 Too Many Requests", "the bucket limits the rate of requests", "it is tried again"),
    ("502 Bad Gateway", "the repository's server is not available", "it is tried again"),
    ("503 Service Unavailable", "the repository's server is not available", "it is tried again"),
    ("504 Gateway Timeout", "the repository's server is not available", "it is tried again"),
    ("internal error", "the repository's server has an internal error", "it is tried again"),
    ("InternalError", "the repository's server has an internal error", "it is tried again"),
    ("500 Internal Server Error", "the repository's server has an internal error", "it is tried again"),
    ("TLS handshake timeout", "the repository's server does not answer", "it is tried again"),
    ("Client.Timeout exceeded", "the repository's server does not answer", "it is tried again"),
    ("no route to host", "there is no route to the repository's server", "check this machine's network"),
)
CUT_SHORT = Trouble(*_CUT_SHORT)
SILENT = Trouble("the repository has not answered for seconds", "it is given more time")


def known(said: str) -> Trouble | None:
    """Return the explanation of a server's or a disk's error message, None if it is unknown."""
    return next((Trouble(why, what_to_do) for words, why, what_to_do in _BY_WORDS if words in said), None)


def explain(code: int | None, said: str) -> Trouble:
    """Return the explanation of an exit code and restic's last message, which is masked already."""
    trouble = known(said)
    if trouble is not None and code not in {LOCKED, WRONG_PASSWORD}:
        return trouble
    if code in _BY_CODE:
        return Trouble(*_BY_CODE[code])
    short = " ".join(said.removeprefix("Fatal: ").split())[:300]
    return Trouble(f"restic failed: {short or f'it ended with {code}'}", "see its lines in the log")


class BackupError(Exception):
    """A backup operation failed; ``trouble`` explains it to people."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        super().__init__(str(trouble))


class MixedError(BackupError):
    """A restore failed half way, and what it had moved could not be put back: the files are of two times."""


class ChoiceNeededError(BackupError):
    """The owner has to choose; ``may_pass`` is whether the reason may also pass without a choice."""

    def __init__(self, trouble: Trouble, *, may_pass: bool = False) -> None:
        self.may_pass = may_pass
        super().__init__(trouble)
