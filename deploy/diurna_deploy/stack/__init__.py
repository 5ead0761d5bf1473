"""The embedded stack: a real Kafka, a real Postgres and our own processes, without Docker, Java or root."""
