"""GraphQL names of Python names."""


def to_camel_case(name: str) -> str:
    """Return the GraphQL name of an attribute. A trailing underscore, which avoids a Python keyword, is dropped."""
    head, *rest = name.rstrip("_").split("_")
    return head + "".join(word.capitalize() for word in rest)
