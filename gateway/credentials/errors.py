"""What can be wrong with a credential. These errors are for operators: they name places, and never what is kept there.

CredentialError
├── SourceError            a source has no secret to give
├── BadSealKey             the key of a sealed file is no key
└── SealedFileError        the sealed file cannot be used
    ├── SealedFileMissing  there is none
    ├── SealedFileExists   there is one already
    ├── SealedFileBusy     another process is writing it
    ├── NotASealedFile     the file is something else
    ├── UnknownFormat      it was written by another version of the gateway
    ├── Truncated          its end is missing
    ├── WrongSealKey       it was sealed with another key
    ├── Tampered           it is not what was written
    ├── InvalidEntry       a name or secret that it does not take
    └── EntryNotFound      it has no entry of that name
"""

from __future__ import annotations


class CredentialError(Exception):
    """Base of all errors of this package. The message says what is wrong and what to do."""


class SourceError(CredentialError):
    """A source has no secret to give: it is missing, empty, unreadable or out of reach."""


class BadSealKey(CredentialError):
    """What was given as the key of a sealed file is not 32 bytes in base64."""


class SealedFileError(CredentialError):
    """The sealed file cannot be used."""


class SealedFileMissing(SealedFileError):
    """There is no sealed file at the path."""


class SealedFileExists(SealedFileError):
    """There is a file at the path already."""


class SealedFileBusy(SealedFileError):
    """Another process has been writing the sealed file for too long."""


class NotASealedFile(SealedFileError):
    """The file at the path is something else."""


class UnknownFormat(SealedFileError):
    """The sealed file was written by another version of the gateway."""


class Truncated(SealedFileError):
    """The end of the sealed file is missing."""


class WrongSealKey(SealedFileError):
    """The sealed file was sealed with another key."""


class Tampered(SealedFileError):
    """The sealed file is not what the gateway wrote."""


class InvalidEntry(SealedFileError):
    """A name or a secret that the sealed file does not take."""


class EntryNotFound(SealedFileError):
    """The sealed file has no entry of that name."""
