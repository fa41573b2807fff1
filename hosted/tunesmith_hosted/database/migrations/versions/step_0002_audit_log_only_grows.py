"""The database itself refuses to change or delete rows of the audit log."""

from alembic import op

revision = "0002"
down_revision = "0001"

_SQLITE = """
CREATE TRIGGER audit_only_grows_{when} BEFORE {when} ON audit
BEGIN SELECT RAISE(ABORT, 'rows of the audit log are only added'); END
"""
_FUNCTION = """
CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'rows of the audit log are only added'; END $$
"""
_POSTGRESQL = """
CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()
"""


def upgrade() -> None:
    """Add triggers."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(_SQLITE.format(when="UPDATE"))
        op.execute(_SQLITE.format(when="DELETE"))
    else:
        op.execute(_FUNCTION)
        op.execute(_POSTGRESQL)
