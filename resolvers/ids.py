"""The form of ids, for those who read them from clients."""

from db.runtime.ids import canonical_id, new_id

__all__ = ["canonical_id", "new_id"]
