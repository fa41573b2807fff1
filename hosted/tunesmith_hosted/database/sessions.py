"""Tables of people who use the console."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from tunesmith_hosted.database.base import Id, Name, Table


class SignInAttempt(Table):
    """Somebody who was sent to a provider, and is expected back.

    Attributes:
        id: SHA-256 of the state that comes back.
        browser: SHA-256 of the cookie that the same browser must have.
        verifier: PKCE's code verifier, without which nobody can use the code.
        next: Path to go to afterwards.
    """

    __tablename__ = "sign_in_attempts"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    browser: Mapped[str] = mapped_column(String(64))
    provider: Mapped[str] = mapped_column(String(64))
    nonce: Mapped[str] = mapped_column(String(64))
    verifier: Mapped[str] = mapped_column(String(128))
    next: Mapped[str] = mapped_column(Name)
    expires_at: Mapped[int] = mapped_column(index=True)


class ConsoleSession(Table):
    """Somebody who is signed in.

    Attributes:
        id: SHA-256 of the cookie; the cookie itself is not stored.
        subject: The provider's id of the person.
        email: The person's address, if it is known to be theirs.
        groups: The person's groups when they signed in.
        project_id: The project that they work in; what they may do there is for the settings to say.
    """

    __tablename__ = "console_sessions"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    provider: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(Name)
    name: Mapped[str] = mapped_column(Name)
    email: Mapped[str | None] = mapped_column(Name)
    groups: Mapped[list[str]] = mapped_column(default=list)
    project_id: Mapped[str] = mapped_column(Id, ForeignKey("projects.id"), index=True)
    created_at: Mapped[int]
    expires_at: Mapped[int] = mapped_column(index=True)
