"""The words: every command and event, their Avro source, their envelope."""
