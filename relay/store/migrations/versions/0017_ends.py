"""The ends of a project's runs in their order."""

from alembic import op
from sqlalchemy import text

revision = "0017"
down_revision = "0014"


def upgrade() -> None:
    over = text("ended_at IS NOT NULL")
    op.create_index("workflow_runs_by_end", "workflow_runs", ["project_id", "ended_at", "id"], if_not_exists=True, sqlite_where=over, postgresql_where=over)
