"""The pages people look at: the API's own answers as HTML, at the same addresses."""

from diurna_deploy.pages.door import Pages

__all__ = ["Pages"]
