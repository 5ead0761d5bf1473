"""A schema registry that speaks Confluent's HTTP dialect, its whole state on one compacted topic.

`model` folds the topic, `decisions` says what may be written, `store` writes it to the log that `topic` is, `routes`
serves it, and `client` speaks to this or any other registry of the kind. Import from these modules: who only needs
the client shall not load a web framework.
"""
