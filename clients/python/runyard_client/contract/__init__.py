"""The GraphQL documents that the client sends, and the types of their results.

`documents/` holds one operation in each file. `operations.py` and `persisted-documents.json` are generated from them by
`generate_contract.py`.
"""

import pkgutil
from functools import cache


@cache
def document(operation: str) -> str:
    """Return the text of an operation's document. Raises FileNotFoundError for an unknown operation."""
    text = pkgutil.get_data(__name__, f"documents/{operation}.graphql")
    if text is None:
        raise FileNotFoundError(f"The package has no document {operation}.graphql.")
    return text.decode()
