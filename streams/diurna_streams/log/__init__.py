"""The log: records in partitions, written in batches and read from explicit positions. The only door to Kafka.

`port` says what a log can do; `kafka` does it on a broker with aiokafka, `memory` in one process.
"""

from diurna_streams.log.port import Log, Outgoing, Placement, Producer, Reader, Record, TopicPartition

__all__ = ["Log", "Outgoing", "Placement", "Producer", "Reader", "Record", "TopicPartition"]
