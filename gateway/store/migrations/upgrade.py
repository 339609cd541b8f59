"""Brings a database to the newest schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that the database lacks, in one transaction: all of them, or none.

    Args:
        connection: A connection that begins no transaction by itself. After an error, to close it undoes everything.
        revision: Up to which one; by default the newest.

    Raises:
        sqlalchemy.exc.DBAPIError: The database failed.
    """
    config = _config()
    config.attributes["connection"] = connection
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    command.upgrade(config, revision)
    connection.commit()


def known_revisions() -> list[str]:
    """Return the revisions of all migrations, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def _config() -> Config:
    config = Config()
    # A percent sign would be taken for a reference to another option.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
