"""Brings a database to the newest schema by Alembic; what the schema is, the migrations say."""

from alembic import command
from alembic.config import Config
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from deodar.model import errors


def upgrade(url: URL) -> None:
    """Brings the database to the newest schema; forward only."""
    config = Config()
    config.set_main_option("script_location", "deodar.store:migrations")
    config.set_main_option(
        "sqlalchemy.url", url.render_as_string(hide_password=False).replace("%", "%%")
    )
    try:
        command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise errors.StoreFailed(f"The database cannot be opened: {error}") from error
